"""A data set in tar shards of the WebDataset layout, read where it lies: nothing is unpacked.

    pets-0000.tar           the members of one sample share their name up to the first dot:
        000001.jpg          the image,
        000001.cls          its class: a number or a name;
        000002.jpg
        000002.json         or a JSON object with the class: {"label": "cat"}
        000003.jpg
        000003.txt          for captions: the caption, or a .json with it: {"caption": "a cat"}

The headers of every shard are read once, at the start; an image is read from its place when it is asked for.
Layout: https://github.com/webdataset/webdataset, `base_plus_ext` and `group_by_keys` in webdataset/tariterators.py.
"""

from __future__ import annotations

import functools
import glob
import itertools
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vitsmith.data.images.files import holds_images, is_passed_over
from vitsmith.data.sets.folder_layout import subfolders
from vitsmith.data.sets.labelling import CLASSES, Labelling
from vitsmith.data.sets.samples import Lazy, Samples, Source, label_positions, list_some, sort_classes
from vitsmith.data.sets.shards.braces import expand_braces
from vitsmith.data.sets.shards.tar import ShardEntry, ShardFiles, scan_shard
from vitsmith.data.sets.split_names import list_names, split_of, split_words
from vitsmith.data.text.label_file import read_class_names
from vitsmith.errors import DatasetError
from vitsmith.names import ambiguous_name, normal, positions_by_name, tell_apart

CLASS_FILES = ("classes.txt", "labels.txt")
"""Files beside the shards with one class name on each line, in the order of the numbers in .cls. When several classes
have the same name, each gets its number: 'crane (517)'."""

_TAR = re.compile(r"\.(tar|tgz|tar\.\w+)$", re.IGNORECASE)
_REMOTE = re.compile(r"^(\w+://|pipe:)")
_SCANNERS = 8


def is_shards(path: str) -> bool:
    """Whether `path` is a tar file, a pattern of tar files, or a folder with shards and no class folders."""
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return bool(_TAR.search(path))
    try:
        folders = subfolders(Path(path))
        if not any(map(_shards_in, (Path(path), *folders))):
            return False
        return not any(holds_images(folder) for folder in folders)
    except (OSError, DatasetError):
        return False  # a folder that cannot be listed: reading it reports the reason


def find_shards(path: str, *, label_key: str = "", labelling: Labelling = CLASSES) -> Source:
    """The samples in tar shards: a file, a pattern as 'train-{0000..0003}.tar' or '*.tar', or a folder of them.

    A folder may hold the shards in folders 'train', 'val' and 'test', or their names may contain these words or other
    names of splits (see split_names.py): when more than one split is named, the shards are divided so. `label_key` is
    the key of the label in each sample's JSON; with it, .cls is not read. Without it, .cls is read, or else the key
    'label'. Numbers are positions in 'classes.txt' or 'labels.txt' beside the shards; without that file the number is
    the name of the class. With captions as `labelling`, .txt takes the place of .cls, and an image is one sample for
    each of its captions.

    Raises DatasetError that names every shard that is missing, cut off, compressed or damaged, and samples without
    image or label.
    """
    shards = _list_shards(path)
    groups = _group(shards, path)
    if "" in groups and len(groups) > 1:
        raise DatasetError(
            f"the shards {path} are of {', '.join(sorted(filter(None, groups)))} but for {groups[''][0].name}: "
            "rename it, or give a pattern that leaves it out"
        )
    if len(groups) == 1 and "train" not in groups:
        groups = {"": shards}
    parts: dict[str, Callable[[], Samples]] = {
        split: functools.partial(read_shards, members, label_key=label_key, labelling=labelling)
        for split, members in groups.items()
    }
    name = Path(path).name if Path(path).is_dir() else _TAR.sub("", Path(path).name)
    return Source(name or Path(path).resolve().name, path, parts)


def read_shards(shards: Sequence[Path], *, label_key: str = "", labelling: Labelling = CLASSES) -> Samples:
    """All samples of the shards, in their order. Reads headers and labels, no image; raises DatasetError."""
    with ThreadPoolExecutor(_SCANNERS) as pool:
        found = list(pool.map(lambda shard: _scan_or_tell(shard, label_key, labelling), shards))
    mistakes = [told for told in found if isinstance(told, str)]
    if mistakes:
        raise DatasetError(
            f"{len(mistakes)} of {len(shards)} shard{'s' * (len(shards) > 1)} cannot be used: {list_some(mistakes)}"
        )
    entries = [entries for entries in found if not isinstance(entries, str)]
    classes, labels = _name_labels(shards, entries, labelling)
    flat = list(itertools.chain.from_iterable(entries))
    offsets = np.array([entry.offset for entry in flat], np.int64)
    sizes = np.array([entry.size for entry in flat], np.int64)
    blocks = np.repeat(np.arange(len(shards), dtype=np.int64), [len(group) for group in entries])
    common = os.path.commonpath([shard.parent.absolute() for shard in shards])
    shown = [Path(os.path.relpath(shard.absolute(), common)).as_posix() for shard in shards]
    names = [f"{shown[block]}/{entry.member}" for block, entry in zip(blocks.tolist(), flat, strict=True)]

    files = ShardFiles()

    def read(index: int) -> bytes:
        return files.read(shards[blocks[index]], int(offsets[index]), int(sizes[index]), names[index])

    return Samples(classes, Lazy(len(flat), read), names, label_positions(labels, classes), blocks)


def _scan_or_tell(shard: Path, label_key: str, labelling: Labelling) -> list[ShardEntry] | str:
    try:
        return scan_shard(shard, label_key, labelling)
    except DatasetError as error:
        return str(error)


def _name_labels(
    shards: Sequence[Path], entries: Sequence[Sequence[ShardEntry]], labelling: Labelling
) -> tuple[tuple[str, ...], list[str]]:
    """The classes, and the class name of each sample; a file of class names, if present, gives names to numbers."""
    labels = [entry.label for group in entries for entry in group]
    listed = None if labelling.several else _class_file(shards[0])
    if listed is None:
        texts = [str(label) for label in labels]
        return sort_classes(texts), texts
    names = tuple(normal(name) for name in read_class_names(listed, error=DatasetError))
    positions = positions_by_name(names)
    unknown = {
        str(label)
        for label in labels
        if (label >= len(names) if isinstance(label, int) else normal(label) not in positions)
    }
    if unknown:
        raise DatasetError(
            f"{listed} names {len(names)} classes, and the shards also have the labels "
            f"{list_some(sorted(unknown), ', ')}: add their names, or remove the file"
        )
    for label in {label for label in labels if isinstance(label, str)}:
        if unclear := ambiguous_name(label, names):
            raise DatasetError(f"{listed} and the labels in the shards: {unclear}")
    classes = tell_apart(names)
    return classes, [classes[label if isinstance(label, int) else positions[normal(label)][0]] for label in labels]


def _class_file(shard: Path) -> Path | None:
    folder = shard.parent
    places = (folder, folder.absolute().parent) if split_of(folder.name) else (folder,)
    return next((place / name for place in places for name in CLASS_FILES if (place / name).is_file()), None)


def _list_shards(path: str) -> list[Path]:
    if _REMOTE.match(path):
        raise DatasetError(f"shards are read from a disk, and {path} is elsewhere: download them first")
    if os.path.isdir(path):  # noqa: PTH112
        folders = subfolders(Path(path))
        unknown = [folder.name for folder in folders if not split_of(folder.name) and _shards_in(folder)]
        if unknown:
            raise DatasetError(
                f"{path} has shards in {list_names(unknown)}, which is not the name of a split: "
                "call it train, val or test, or move it away"
            )
        return sorted(
            entry
            for folder in (Path(path), *(folder for folder in folders if split_of(folder.name)))
            for entry in _shards_in(folder)
        )
    # With os.path, because the methods of Path raise for names that are too long.
    expanded = [path] if os.path.exists(path) else expand_braces(path)  # noqa: PTH110
    shards = []
    for name in expanded:
        there = os.path.exists(name)  # noqa: PTH110
        matching = [Path(name)] if there else [Path(found) for found in sorted(glob.glob(name))]  # noqa: PTH207
        shards += matching or [Path(name)]
    missing = [str(shard) for shard in shards if not os.path.isfile(shard)]  # noqa: PTH113
    if missing:
        raise DatasetError(f"there is no shard {list_some(missing, ', ')}: check the path or the pattern")
    if len(set(shards)) < len(shards):
        raise DatasetError(f"{path} names a shard twice: correct the pattern")
    return shards


def _name_of_split(shard: Path) -> str:
    """The name of the split in a shard's name, or else in its folder's; empty for none. DatasetError for several."""
    words = split_words(shard.name)
    if len({split_of(word) for word in words}) > 1:
        raise DatasetError(
            f"the name of the shard {shard} has words for several splits, {list_names(words)}: rename it with only one"
        )
    folder = shard.parent.name
    return words[0] if words else folder.lower() if split_of(folder) else ""


def _group(shards: Sequence[Path], path: str) -> dict[str, list[Path]]:
    """The shards of each split; '' for shards whose names show none.

    Raises DatasetError when two names mean the same split: their shards would be mixed.
    """
    groups: dict[str, list[Path]] = {}
    names: dict[str, str] = {}
    for shard in shards:
        name = _name_of_split(shard)
        split = split_of(name)
        groups.setdefault(split, []).append(shard)
        if names.setdefault(split, name) != name:
            raise DatasetError(
                f"the shards {path} have {groups[split][0].name} and {shard.name}, and {names[split]!r} and {name!r} "
                f"are names for one split ({split}): rename one of them"
            )
    return groups


def _shards_in(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if _is_shard(entry)]


def _is_shard(entry: Path) -> bool:
    return bool(_TAR.search(entry.name)) and not is_passed_over(entry.name) and entry.is_file()
