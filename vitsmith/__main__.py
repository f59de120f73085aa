"""`python -m vitsmith`, the same as `vitsmith`."""

from vitsmith.cli.main import main

if __name__ == "__main__":
    main()
