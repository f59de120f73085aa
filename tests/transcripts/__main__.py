"""`python -m tests.transcripts [KIND]...` writes the transcripts anew: all, or those of the kinds that are named."""

from __future__ import annotations

import sys

from tests.transcripts import FOLDER, LAYOUT, kept, layout, makers


def main(kinds: list[str]) -> None:
    """Writes the files of these kinds, and removes those that nothing makes any more."""
    for kind in kinds or makers():
        files = makers()[kind]()
        for path in kept(kind):
            if path.relative_to(FOLDER).as_posix() not in files:
                path.unlink()
        for name, text in files.items():
            (FOLDER / name).parent.mkdir(exist_ok=True)
            (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"{kind}: {len(files)} files")
    LAYOUT.write_text(layout(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
