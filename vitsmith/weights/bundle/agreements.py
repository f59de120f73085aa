"""Licences whose words must be passed on with the weights and all that is made from them: LICENSE.md of a bundle."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vitsmith.files.atomic import sha256, write_text
from vitsmith.records import Provenance

LICENSE = "LICENSE.md"
_NAMES = ("license", "licence", "copying", "notice")
_LONGEST = 1_000_000
"""Bytes of a file with the words of a licence; larger ones are something else."""


@dataclass(frozen=True)
class Agreement:
    """A licence whose words must go with every copy of the weights, and with what is made from them."""

    license: str
    """Its name in a provenance; '-' is the same as a space, and capitals are the same as small letters."""
    words: str
    """What its text has: another licence may lie beside the weights."""
    place: str
    """Where its text is published."""


DINOV3_LICENSE = "DINOv3 License"
AGREEMENTS = (Agreement(DINOV3_LICENSE, "DINOv3", "https://github.com/facebookresearch/dinov3/blob/main/LICENSE.md"),)


def agreement_of(terms: str) -> Agreement | None:
    """The agreement of a licence; None for licences that need not be passed on in words."""
    return next((one for one in AGREEMENTS if _plain(one.license) == _plain(terms)), None)


def is_license(name: str) -> bool:
    """Whether a file of this name has the words of a licence."""
    return Path(name).stem.lower().startswith(_NAMES)


def with_agreement(provenance: Provenance, folder: Path) -> Provenance:
    """The provenance with the words of its licence, where it obliges to pass them on, from a file in `folder`.

    Without such a file a note says where the words are published.
    """
    agreement = agreement_of(provenance.license)
    if agreement is None:
        return provenance
    files = sorted(path for path in folder.iterdir() if is_license(path.name) and path.is_file())
    texts = (path.read_text("utf-8", errors="replace") for path in files if path.stat().st_size <= _LONGEST)
    if text := next((text for text in texts if agreement.words in text), ""):
        return provenance.model_copy(update={"license_text": text})
    note = (
        f"the {agreement.license} must be passed on with these weights and with what is made from them, and its text "
        f"is not beside them: put it there as {LICENSE}, from {agreement.place}"
    )
    return provenance.model_copy(update={"notes": (*provenance.notes, note)})


def describe_duty(terms: str, *, there: bool) -> str:
    """What a licence demands of those who pass the model on: '' or ', to be passed on with the model: LICENSE.md'."""
    agreement = agreement_of(terms)
    if agreement is None:
        return ""
    where = LICENSE if there else f"its text is missing here, get it from {agreement.place}"
    return f", to be passed on with the model ({where})"


def write_agreements(provenance: Provenance, folder: Path) -> dict[str, str]:
    """Writes the words of its licences into `folder`; returns the SHA-256 of the file by its name, {} for none."""
    texts = _texts(provenance)
    if not texts:
        return {}
    write_text(folder / LICENSE, "\n\n".join(texts), durable=False)
    return {LICENSE: sha256(folder / LICENSE)}


def read_agreements(provenance: Provenance, folder: Path, names: Iterable[str]) -> Provenance:
    """The provenance with the words in the file of `folder`, if that is among the `names` of the bundle's files."""
    if LICENSE not in names:
        return provenance
    return provenance.model_copy(update={"license_text": (folder / LICENSE).read_text("utf-8", errors="replace")})


def without_agreements(provenance: Provenance) -> Provenance:
    """The provenance as bundle.json has it: the words are in a file of their own."""
    text = provenance.text and provenance.text.model_copy(update={"license_text": ""})
    return provenance.model_copy(update={"license_text": "", "text": text})


def _texts(provenance: Provenance) -> list[str]:
    told = (provenance.license_text, provenance.text.license_text if provenance.text else "")
    return [text for text in dict.fromkeys(told) if text]


def _plain(terms: str) -> str:
    return terms.lower().replace(" ", "-")
