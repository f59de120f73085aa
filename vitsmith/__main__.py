"""`python -m vitsmith`, the same as `vitsmith`."""

import sys


def start() -> None:
    """Run the command line; an interrupt before it is read gives a message too."""
    try:
        from vitsmith.cli.main import main
    except KeyboardInterrupt:
        print("vitsmith: interrupted before the work began", file=sys.stderr)
        sys.exit(2)
    main()


if __name__ == "__main__":
    start()
