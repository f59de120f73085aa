"""Whether the weights of a checkpoint are on this machine already."""

from __future__ import annotations

from pathlib import Path

from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.weights.fetch.addresses import cached_path
from vitsmith.weights.fetch.hub.address import HubAddress, hub_address
from vitsmith.weights.fetch.hub.cached import cached_weights
from vitsmith.weights.fetch.hub.google_copies import copy_of_url
from vitsmith.weights.fetch.published import find_checkpoint


def checkpoint_is_local(checkpoint: Checkpoint) -> Path | None:
    """The file that `load` reads for `checkpoint`, if our cache or the hub's has all it needs; None otherwise.

    No network is asked. A file of Google's counts also where only its conversion on the hub was fetched: `load` takes
    that where the bucket cannot be reached.
    """
    address = hub_address(checkpoint.source)
    if address is not None:
        return cached_weights(address)
    row = find_checkpoint(checkpoint.source)
    needed = [cached_path(url) for url in (row.url, row.vocabulary) if url]
    if all(path.is_file() for path in needed):
        return needed[0]
    copy = copy_of_url(row.url)
    return None if copy is None else cached_weights(HubAddress(copy.name))
