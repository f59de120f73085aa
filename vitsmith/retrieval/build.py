"""Build an index from images or texts: those that are not in it yet are embedded. E embedding width."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from vitsmith.arguments import named_arguments, path
from vitsmith.arrays import Array
from vitsmith.data.images.photo import Photo
from vitsmith.data.images.read import read_image
from vitsmith.data.images.sources import ImageSource, several
from vitsmith.encode import TEXT_BATCH, Encoder
from vitsmith.errors import ImageError, InputError
from vitsmith.retrieval.changes import changed_files, tell_changed
from vitsmith.retrieval.description import Dtype, Kind, Space
from vitsmith.retrieval.index import Index, identity_of
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure

Progress = Callable[[str | None], None]
"""Called for each input that is done, with its mistake, if any."""
Changed = Callable[[Sequence[str]], None]
"""Called with the names of files that have changed since they were embedded."""


@named_arguments
def write_index(
    encoder: Encoder,
    inputs: ImageSource | Sequence[ImageSource],
    folder: str | os.PathLike[str],
    *,
    kind: Kind = "images",
    dtype: Dtype = "float16",
    retry: bool = False,
    on_input: Progress | None = None,
    on_changed: Changed | None = None,
) -> Index:
    """Write the embeddings of all `inputs` into the index in `folder`, which may be new, unfinished or complete.

    `inputs` are one or several images, or with kind 'texts' the texts themselves. `retry`: see `build_index`. Raises
    what IndexWriter and `build_index` do, and InputError for texts when the model cannot read them.
    """
    with IndexWriter(path(folder, "an index"), space_of(encoder, kind, encoder.bundle.where, dtype)) as writer:
        return build_index(
            encoder, list(several(inputs)), writer, retry=retry, on_input=on_input, on_changed=on_changed
        )


def build_index(
    encoder: Encoder,
    inputs: Sequence[ImageSource],
    writer: IndexWriter,
    *,
    retry: bool = False,
    on_input: Progress | None = None,
    on_changed: Changed | None = None,
) -> Index:
    """Embed the inputs that are not in the index yet, and return the complete index.

    `inputs` are images, or the texts themselves for an index of texts. Images that cannot be read, and texts without a
    word that the vocabulary knows, are recorded and skipped. Inputs that are done are not read again. With `retry`,
    inputs that could not be read are tried again; those that can be read now are added at the end. Files that were
    changed since they were embedded keep their old vectors: `on_changed` is called with their names, or without it a
    warning names them.

    Raises InputError when `inputs` do not begin with those that are already in the index.
    """
    texts = writer.description.space.kind == "texts"
    wrong = next((number for number, text in enumerate(inputs) if not isinstance(text, str)), None) if texts else None
    if wrong is not None:
        raise InputError(f"text {wrong} is {type(inputs[wrong]).__name__}, not a string: give the texts themselves")
    names = [name_of(source, number) for number, source in enumerate(inputs)]
    done = writer.done_of(names)
    if not texts:
        writer.set_root([os.fspath(one) for one in inputs if isinstance(one, str | os.PathLike)], done)
    if done and (changed := changed_files(Index(writer.folder, writer.description))):
        (on_changed or partial(_warn, writer))(changed)

    def embed(chosen: Sequence[int]) -> None:
        if chosen:
            writer.reopen()
        mine = [names[at] for at in chosen]
        photos: deque[Photo | None] = deque()

        def images() -> Iterator[ImageSource]:
            for at in chosen:
                one = inputs[at]
                photos.append(Photo(os.fspath(one)) if isinstance(one, str | os.PathLike) else None)
                yield photos[-1] or one

        answers = _embed_texts(encoder, mine) if texts else encoder.stream(images())
        for name, answer in zip(mine, answers, strict=True):
            row = _named(answer, name)
            photo = photos.popleft() if photos else None
            writer.add(row, photo.state if photo else None, photo.facts if photo else None)
            if on_input is not None:
                on_input(row.reason if isinstance(row, Failure) else None)

    if retry:
        with writer.retrying():
            embed(_positions(writer.failed(), names[:done]))
    embed(range(done, len(inputs)))
    return writer.finish()


def _warn(writer: IndexWriter, changed: Sequence[str]) -> None:
    warnings.warn(tell_changed(changed, writer.description.count, writer.folder), stacklevel=5)


def _positions(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """The positions in `names` of those in `wanted`, each as often as it occurs there."""
    left = Counter(wanted)
    found = []
    for at, name in enumerate(names):
        if left[name]:
            left[name] -= 1
            found.append(at)
    return found


def _named(answer: tuple[str, Array] | Failure, name: str) -> tuple[str, Array] | Failure:
    """The answer under the name `name`: the stream numbers only its own inputs, which may be the end of a list."""
    if isinstance(answer, Failure):
        if answer.source == name:
            return answer
        return Failure(name, f"{name}: {answer.reason.removeprefix(f'{answer.source}: ')}")
    return name, answer[1]


def _embed_texts(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[str, Array] | Failure]:
    """Embed texts as `Encoder.stream` does images: texts without a word that the vocabulary knows are failures."""
    tokenizer = encoder.bundle.tokenizer
    for at in range(0, len(texts), TEXT_BATCH):
        some = texts[at : at + TEXT_BATCH]
        read = tokenizer.read(some)
        vectors = iter(encoder.tokens(read.tokens[read.known]))
        for text, known in zip(some, read.known, strict=True):
            yield (text, next(vectors)) if known else Failure(text, tokenizer.why_unread(text))


def space_of(encoder: Encoder, kind: str, model: str, dtype: str) -> Space:
    """The description of the encoder's embeddings for an index. `model` is the name that the user gave.

    Raises InputError for texts when the model cannot read them.
    """
    known_as = os.path.abspath(model) if os.path.exists(model) else model  # noqa: PTH100, PTH110 - not resolved
    return Space.model_validate(
        {
            "kind": kind,
            "identity": identity_of(encoder.bundle, kind),
            "model": known_as,
            "engine": encoder.engine.name,
            "precision": encoder.engine.precision,
            "width": encoder.width,
            "dtype": dtype,
            "what": encoder.what,
            "grid": encoder.grid,
        }
    )


def name_of(source: ImageSource | str, number: int) -> str:
    """The name of a source in an index: its path or text; without one, its number and a hash of its content.

    The hash shows when images differ from those that an index was begun with.
    """
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return f"image {number} (sha256 {hashlib.sha256(_content(source)).hexdigest()[:16]})"


def _content(source: ImageSource) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        pixels = read_image(source)
    except ImageError as error:
        return str(error).encode()
    return f"{pixels.shape} ".encode() + pixels.tobytes()
