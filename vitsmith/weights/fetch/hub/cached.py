"""What the hub's cache on this machine has of a model; nothing here asks the network."""

from __future__ import annotations

from pathlib import Path

from vitsmith.errors import InputError, WeightsError
from vitsmith.json_text import read_json
from vitsmith.weights.fetch.hub.address import HubAddress
from vitsmith.weights.fetch.hub.file_list import DESCRIPTIONS, needed_files

MAIN = "main"
INDEX_SUFFIX = ".index.json"


def cached_folder(address: HubAddress) -> Path | None:
    """The folder in the cache of the commit that the address meant when it was last fetched; None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    for name in DESCRIPTIONS:
        found = try_to_load_from_cache(address.name, name, revision=address.revision or MAIN)
        if isinstance(found, str):
            return Path(found).parent
    return None


def cached_weights(address: HubAddress) -> Path | None:
    """The file of weights that `load` would read without the network; None where it, or a part of it, is not there.

    None without `huggingface_hub`, which knows where its cache is.
    """
    try:
        folder = cached_folder(address)
    except ImportError:
        return None
    if folder is None:
        return None
    names = {path.name for path in folder.iterdir() if path.is_file()}
    try:
        weights = needed_files(names, str(address), address.file).weights
        listed = parts_of(folder / weights) if weights.endswith(INDEX_SUFFIX) else []
    except InputError:  # not that file, several files, or a damaged index
        return None
    return folder / weights if weights and names.issuperset(listed) else None


def parts_of(index: Path) -> list[str]:
    """The files of weights that an index lists, in order. Raises WeightsError for one that is no JSON."""
    fields = read_json(index, error=WeightsError)
    parts = fields.get("weight_map") if isinstance(fields, dict) else None
    return sorted({str(part) for part in parts.values()}) if isinstance(parts, dict) else []
