"""The classes of ImageNet, by id and name, in the order of the logits of Google's published models.

Both orders are those of the WordNet ids. Evidence: TFDS, with which these models were trained, has the 1,000 in this
order (datasets/imagenet2012/labels.txt), and their names make a file as long, to the byte, as the one of names that
vit_jax.ipynb downloads for its answers (ilsvrc2012_wordnet_lemmas.txt). Of the 21,843 of ImageNet-21k the two that the
data set itself lacks, n03931044 and n09859684, are those that big_transfer's issue 18 found in Google's list
(imagenet21k_wordnet_ids.txt), and class 2037 is 'sea swallow, Sterna hirundo' there too (abhimanyudubey/GeoYFCC,
issue 5). Where our lists are from, and the licence of WordNet: data/class_lists/LICENSE.txt.
"""

from __future__ import annotations

import functools
import lzma
from importlib import resources

SIZES = {"imagenet-1k": 1000, "imagenet-21k": 21_843}
"""The lists of names, and how many each has."""
_IDS = "-ids"

CLASS_LISTS = (*SIZES, *(f"{name}{_IDS}" for name in SIZES))
"""The lists: of names, as 'tench, Tinca tinca', and of WordNet ids, as 'n01440764', which name ImageNet's folders."""


def class_list(name: str) -> tuple[str, ...]:
    """One of `CLASS_LISTS`, in the order of the logits. Classes may share a name: 'crane' is a bird and a machine."""
    rows = _rows(name.removesuffix(_IDS))
    return tuple(one for one, _ in rows) if name.endswith(_IDS) else tuple(words for _, words in rows)


def list_of_size(classes: int) -> str | None:
    """The list of names for so many classes, if there is one."""
    return next((name for name, size in SIZES.items() if size == classes), None)


@functools.cache
def _rows(name: str) -> tuple[tuple[str, str], ...]:
    """The id and the name of each class."""
    packed = (resources.files("vitsmith.data") / "class_lists" / f"{name}.tsv.xz").read_bytes()
    rows = (line.partition("\t") for line in lzma.decompress(packed).decode().splitlines())
    return tuple((one, words) for one, _, words in rows)
