"""`python -m vitsmith`, the same as `vitsmith`."""

import sys


def start() -> None:
    """Runs the command line; who interrupts before it has been read is answered too."""
    try:
        from vitsmith.cli.main import main
    except KeyboardInterrupt:
        print("vitsmith: interrupted; nothing was begun", file=sys.stderr)
        sys.exit(2)
    main()


if __name__ == "__main__":
    start()
