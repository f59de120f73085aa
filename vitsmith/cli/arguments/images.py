"""The images that arguments of a command line mean: one rule for every verb."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vitsmith.cli.terminal.output import say
from vitsmith.cli.terminal.streams import read_standard_input

if TYPE_CHECKING:
    from vitsmith.data.images.sources import ImageSource

TellNone = Callable[[str], None]
"""Called for an argument without images: it refuses it, or only tells so."""
_MOST_NAMES = 1_000
"""Names in a folder among which a similar one is looked for."""


def expand(arguments: list[str], *, may_be_empty: bool = False) -> Iterator[ImageSource]:
    """The images that arguments mean: files, all images under folders, matches of globs, standard input for '-'.

    A folder is searched as a data set is (`data/images/files.py`), and so is one that a pattern matches, unless the
    pattern has `**`, which matches what is in it too. Raises InputError for a folder or pattern without images, for an
    address, and for a path that does not exist and does not end like an image file, or whose folder does not exist: a
    misspelt folder, or one whose disk is not mounted. Another missing file is passed on, to be reported as unreadable.
    With `may_be_empty`, a folder or pattern without images is told, not refused: an index may follow an empty folder.
    """
    tell_none = say if may_be_empty else _refuse
    for argument in arguments:
        if argument == "-":
            yield from _standard_input(tell_none)
        elif os.path.isdir(argument):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
            yield from _in_folder(argument, tell_none)
        else:
            yield from _matches(argument, tell_none)


def _refuse(message: str) -> NoReturn:
    from vitsmith.errors import InputError

    raise InputError(message)


def sources_of(arguments: list[str], *, may_be_empty: bool = False) -> list[ImageSource]:
    """What `expand` gives. Raises InputError where nothing of it is there: before a model is opened for it."""
    from vitsmith.errors import InputError

    sources = list(expand(arguments, may_be_empty=may_be_empty))
    paths = [source for source in sources if isinstance(source, Path)]
    if paths and len(paths) == len(sources) and not any(map(os.path.lexists, paths)):
        raise InputError(f"{paths[0]}: no such file or folder{_similar(str(paths[0]))}")
    return sources


def _similar(path: str) -> str:
    """'; did you mean pets?', of what lies where the path was to be; '' where nothing is similar."""
    import difflib

    folder, name = os.path.split(path.rstrip("/"))
    try:
        there = os.listdir(folder or ".")[:_MOST_NAMES]  # noqa: PTH208 - of any text
    except (OSError, ValueError):
        return ""
    close = difflib.get_close_matches(name, there, n=1, cutoff=0.7)
    return f"; did you mean {os.path.join(folder, close[0])}?" if close else ""  # noqa: PTH118


def _in_folder(folder: str, tell_none: TellNone) -> Iterator[Path]:
    from vitsmith.data.images.files import survey, tell_unread
    from vitsmith.data.images.read import IMAGE_SUFFIXES
    from vitsmith.errors import InputError

    inside, unread, links = survey(folder)
    others = tell_unread({suffix: count for suffix, count in unread.items() if suffix})
    if not inside and os.path.lexists(os.path.join(folder, "bundle.json")):  # noqa: PTH118 - of any text
        raise InputError(f"{folder} is a bundle and holds no images: give the model first, then the images")
    if not inside:
        instead = f", but {others}, which are not supported" if others else ""
        if links:
            instead += f", but links to folders ({links:,}), which are not followed: give their targets"
        tell_none(f"{folder}: no images in this folder{instead} (known are {', '.join(IMAGE_SUFFIXES)})")
        return
    if others:
        say(f"skipped in {folder}, as not supported: {others}")
    if links:
        say(f"{folder} has links to folders ({links:,}), which are not followed: give their targets as well")
    yield from inside


def _matches(argument: str, tell_none: TellNone) -> Iterator[Path]:
    import glob

    _check_no_address(argument)
    if os.path.lexists(argument) or not glob.has_magic(argument):
        _check_may_be_image(argument)
        yield Path(argument)
        return
    if "**" in Path(argument).parts:
        matches = [str(match) for match in _recursive(Path(argument)) if not match.is_dir()]
    else:
        matches = sorted(glob.glob(argument))  # noqa: PTH207 - Path.glob refuses absolute patterns
    if not matches:
        _check_begins_there(argument)
        tell_none(f"{argument}: nothing matches this pattern")
    for match in matches:
        yield from _in_folder(match, tell_none) if os.path.isdir(match) else iter([Path(match)])  # noqa: PTH112


def _check_no_address(argument: str) -> None:
    from vitsmith.errors import InputError

    if argument.lower().startswith(("http://", "https://")) and not os.path.lexists(argument):
        raise InputError(f"{argument} is a web address, and images are files here: download it first")


def _check_may_be_image(argument: str) -> None:
    """Raise InputError for what is not there and was no image: nothing can be said of the images that were meant."""
    from vitsmith.data.images.files import is_image
    from vitsmith.errors import InputError

    if os.path.exists(argument):  # noqa: PTH110 - of any text
        return
    folder, name = os.path.split(argument)
    if is_image(name):
        if _is_away(folder):
            raise InputError(
                f"{argument}: no such file, as there is no folder {folder}: mount its disk, if it is on one, or leave "
                "it out"
            )
        return
    if os.path.islink(argument):  # noqa: PTH114
        raise InputError(f"{argument} is a link to {os.readlink(argument)}, which is not there")  # noqa: PTH115
    raise InputError(f"{argument}: no such file or folder{_similar(argument)}")


def _is_away(folder: str) -> bool:
    """Whether a folder is certainly not there; one that cannot be looked at may be."""
    try:
        os.stat(folder or os.curdir)  # noqa: PTH116 - of any text
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _check_begins_there(pattern: str) -> None:
    """Raise InputError for a pattern in a folder that is not there, as where its disk is not mounted."""
    import glob

    from vitsmith.errors import InputError

    parts = Path(pattern).parts
    folder = Path(*parts[: next(at for at, part in enumerate(parts) if glob.has_magic(part))])
    if not os.path.exists(folder):  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise InputError(f"{pattern}: nothing matches this pattern, as there is no folder {folder}")


def _recursive(pattern: Path) -> list[Path]:
    """The matches of a pattern with `**`, sorted, without what a search in a folder skips.

    `glob.glob` follows links to folders, round and round where they lead back; Path.glob does not.
    """
    from vitsmith.data.images.files import is_passed_over

    at = pattern.parts.index("**")
    ending = (*pattern.parts[at:], "*") if pattern.parts[-1] == "**" else pattern.parts[at:]
    start = Path(*pattern.parts[:at])
    hidden = any(part.startswith(".") for part in ending)
    return sorted(
        match
        for root in (_matches_of(start) if at else [Path()])
        for match in root.glob(str(Path(*ending)))
        if hidden or not any(is_passed_over(part) for part in match.relative_to(root).parts)
    )


def _matches_of(pattern: Path) -> list[Path]:
    import glob

    return [Path(found) for found in glob.glob(str(pattern))]  # noqa: PTH207


def _standard_input(tell_none: TellNone) -> Iterator[ImageSource]:
    """Yields one image if the bytes are one, else a path for each line, which are checked before the first is given."""
    from vitsmith.data.text.label_file import split_lines

    data = read_standard_input()
    if b"\0" in data:  # which no path can have, and every image file has
        yield data
        return
    lines = split_lines(os.fsdecode(data.removeprefix(b"\xef\xbb\xbf")))
    # Of os.path, as Path.exists raises for a name that is too long. A name may begin or end with a space.
    paths = [line if os.path.exists(line) else line.strip() for line in lines if line.strip()]  # noqa: PTH110
    if not paths:
        tell_none("standard input is empty: give an image, or paths one a line")
    for path in paths:
        _check_no_address(path)
        _check_may_be_image(path)
    yield from map(Path, paths)
