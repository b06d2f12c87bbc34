"""``fastinit`` and ``python -m fastinit``: the command line, or how to get it."""

import sys

from fastinit._extras import known, missing


def main() -> None:
    """Run the command line.

    Raises
    ------
    SystemExit
        Always, with the exit status; 1 and one line if a package that an extra brings is not
        installed.
    """
    try:
        from fastinit.cli import app
    except ModuleNotFoundError as error:
        _end(error, "the command line", "cli")
    try:
        app()
    except ModuleNotFoundError as error:
        _end(error, "this command")


def _end(error: ModuleNotFoundError, what: str, extra: str | None = None) -> None:
    """End with one line if a package that an extra installs is missing; else raise the error."""
    if error.name is None or not known(error.name):
        raise error
    sys.exit(f"fastinit: {missing(error.name, what, extra)}")


if __name__ == "__main__":
    main()
