"""Fetches what a model needs from the hub into the hub's own cache, where other tools find it too."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from vitsmith.errors import MissingPackageError, WeightsError
from vitsmith.files.contents import content_of
from vitsmith.json_text import read_json
from vitsmith.weights.fetch.download import Transfer, run
from vitsmith.weights.fetch.hub.address import HubAddress
from vitsmith.weights.fetch.hub.cached import INDEX_SUFFIX, MAIN, cached_folder, parts_of
from vitsmith.weights.fetch.hub.failures import cache_name, explained, is_unreachable, not_cached
from vitsmith.weights.fetch.hub.file_list import NeededFiles, needed_files
from vitsmith.weights.fetch.hub.known_models import copy_of
from vitsmith.weights.fetch.hub.other_kinds import another_kind, other_model, without_weights
from vitsmith.weights.hf.config_json import unread_type

_CARD = "README.md"
_PARTLY = (
    f"read from the hub's cache, which has no {_CARD} of this model: if another program filled it, files of "
    "preprocessing, tokenizer and licence may be missing here only: load it once while the hub can be reached"
)
_READ = ("safetensors", "npz", "torch", "index")
"""Kinds of content that weights have: see `files.contents`."""


@dataclass(frozen=True)
class Snapshot:
    """A model of the hub on this machine."""

    path: Path
    """The folder, or the file of weights where no library wrote the folder."""
    name: str
    """'OWNER/NAME'."""
    commit: str
    license: str
    """As its model card states it; '' if it does not."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Repository:
    """What is known of a repository before files are fetched."""

    address: HubAddress
    commit: str
    names: frozenset[str]
    folder: Path | None = None
    """Its folder in the cache, where the hub cannot be asked."""
    notes: tuple[str, ...] = field(default=())


def fetch_model(address: HubAddress) -> Snapshot:
    """The files that a model needs, fetched unless the cache has them; the hub is asked for the newest commit.

    Where the hub cannot be reached, or HF_HUB_OFFLINE is set, the commit in the cache is taken. After a failure or
    Ctrl-C the received bytes are kept, and the next call continues. A progress bar is drawn if stderr is a terminal.

    Raises MissingPackageError without `huggingface_hub`, DownloadError, OutputError, and WeightsError for what is no
    vision transformer.
    """
    try:
        import huggingface_hub  # noqa: F401 - the parts of this folder import it from here on
    except ImportError:
        raise MissingPackageError("huggingface_hub", "hub") from None
    with explained(address):
        repository = _repository(address)
        needed = _checked(repository)
        for name in needed.descriptions:
            _described(repository, name)
        path = _with_weights(repository, needed.weights)
        if repository.folder is None:
            _remember(repository, (*needed.descriptions, needed.weights)[0])
    return Snapshot(
        path=path.parent if needed.in_folder else path,
        name=address.name,
        commit=repository.commit,
        license=_license(path.with_name(_CARD)),
        notes=repository.notes,
    )


def _repository(address: HubAddress) -> _Repository:
    from huggingface_hub import HfApi, constants

    try:
        found = HfApi().model_info(address.name, revision=address.revision)
    except Exception as error:
        folder = cached_folder(address) if is_unreachable(error) else None
        if folder is None:
            raise
        note = (
            f"{constants.ENDPOINT} could not be reached: this is the commit in the cache, which may not be the newest"
        )
        names = frozenset(path.name for path in folder.iterdir() if path.is_file())
        notes = () if constants.HF_HUB_OFFLINE else (note,)
        return _Repository(address, folder.name, names, folder, notes if _CARD in names else (*notes, _PARTLY))
    return _Repository(address, str(found.sha), frozenset(one.rfilename for one in found.siblings or ()))


def _checked(repository: _Repository) -> NeededFiles:
    """The files that are needed. Raises WeightsError for a repository of something else, before weights are fetched."""
    address, names = repository.address, repository.names
    if (told := another_kind(names)) is not None:
        raise WeightsError(f"{address} is {told.format(by_hand=address.by_hand)}")
    if repository.folder is not None and address.file not in ("", *names):
        raise not_cached(address)
    needed = needed_files(names, str(address), address.file)
    if not needed.weights and repository.folder is not None:
        raise not_cached(address)
    if not needed.weights:
        raise WeightsError(f"{address} {without_weights(names)}")
    if needed.config in needed.descriptions:
        config = read_json(_described(repository, needed.config), error=WeightsError)
        if isinstance(config, dict) and (told := other_model(config)):
            raise WeightsError(f"{address} is {told}: vitsmith reads ViTs and Mixers")
        if isinstance(config, dict) and (told := _unread(config)):
            raise WeightsError(f"{address}: {told}")
    return needed


def _unread(config: dict[str, Any]) -> str:
    """The reason why a vision transformer of transformers is not read; '' for one that may be, or is timm's."""
    kind = config.get("model_type")
    of_timm = "architecture" in config or kind == "timm_wrapper"
    return unread_type(kind) if isinstance(kind, str) and not of_timm else ""


def _described(repository: _Repository, name: str) -> Path:
    """A small file in the cache's folder of the commit."""
    if repository.folder is not None:
        return repository.folder / name
    from huggingface_hub import hf_hub_download

    silent: Any = _NoBar
    return Path(hf_hub_download(repository.address.name, name, revision=repository.commit, tqdm_class=silent))


class _NoBar:
    """What `huggingface_hub` asks of a progress bar, for small files: none is drawn."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, count: float | None = 1) -> None:
        """So many bytes more."""


def _with_weights(repository: _Repository, name: str) -> Path:
    """The file of weights; an index with the files that it lists beside it."""
    if not name.endswith(INDEX_SUFFIX):
        return _weights(repository, name)
    index = _described(repository, name)
    listed = parts_of(index)
    if absent := [part for part in listed if part not in repository.names]:
        if repository.folder is not None:
            raise not_cached(repository.address)
        raise WeightsError(f"{repository.address} lacks {absent[0]}, which its {name} lists: choose another revision")
    for part in listed:
        _weights(repository, part)
    return index


def _weights(repository: _Repository, name: str) -> Path:
    """A file of weights in the cache's folder of the commit.

    Its bytes are fetched by our own download: `hf_hub_download` throws away what came before an interruption.
    """
    if repository.folder is not None:
        return repository.folder / name
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    address, commit = repository.address, repository.commit
    found = try_to_load_from_cache(address.name, name, revision=commit)
    if isinstance(found, str):
        return Path(found)
    blob = run(_transfer(repository, name))
    content = content_of(blob)
    if content.kind not in _READ:
        blob.unlink()
        instead = copy_of(name) or "another revision or repository"
        raise WeightsError(f"{address}: {name} is {content.what}, not weights: choose {instead}")
    return Path(hf_hub_download(address.name, name, revision=commit))


def _transfer(repository: _Repository, name: str) -> Transfer:
    """The download of a file to where the hub's cache keeps its bytes."""
    from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.errors import FileMetadataError
    from huggingface_hub.file_download import repo_folder_name

    address = repository.address
    url = hf_hub_url(address.name, name, revision=repository.commit)
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    about = get_hf_file_metadata(url, token=token)
    if not about.etag:
        raise FileMetadataError(f"{url} has no ETag")
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=address.name, repo_type="model") / "blobs"
    return Transfer(
        source=url,
        target=folder / about.etag,
        size=about.size,
        sha256=about.etag if re.fullmatch("[0-9a-f]{64}", about.etag) else "",  # of Git LFS; else a hash of Git's
        headers={"Authorization": f"Bearer {token}"} if token else {},
        name=f"{name} of {address}",
        advice=f"try again, or fetch it on another machine:  {address.by_hand}",
        cache=cache_name(),
    )


def _remember(repository: _Repository, name: str) -> None:
    """Notes in the cache, by a file that it has, which commit the revision meant: so it is found without the hub."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    address = repository.address
    revision = address.revision or MAIN
    known = try_to_load_from_cache(address.name, name, revision=revision)
    if not isinstance(known, str) or Path(known).parent.name != repository.commit:
        hf_hub_download(address.name, name, revision=revision)


def _license(card: Path) -> str:
    """The licence that the header of a model card states: 'apache-2.0'; for 'other' the name given beside it."""
    from huggingface_hub import metadata_load

    try:
        told = metadata_load(card) or {}
    except Exception:  # there is none, or its YAML cannot be read
        return ""
    stated = told.get("license")
    name = told.get("license_name") if stated == "other" else stated
    found: Collection[Any] = name if isinstance(name, list) else (name,)
    return ", ".join(one for one in found if isinstance(one, str))
