"""``fastinit`` and ``python -m fastinit``: the command line, or how to get it."""

import sys

_EXTRA = ("typer", "rich", "psutil", "safetensors", "ml_dtypes", "tomli")
_PROBE = ("matplotlib", "jinja2", "sklearn")


def _missing(package: str, extra: str) -> str:
    what = "the command line" if extra == "cli" else "a report"
    return (
        f"fastinit: {what} needs the package {package}: "
        f"in a checkout of fastinit, pip install '.[{extra}]'"
    )


def main() -> None:
    """Run the command line.

    Raises
    ------
    SystemExit
        Always, with the exit status; 1 and one line if the extra `cli`, or for a report the
        extra `probe`, is not installed.
    """
    try:
        from fastinit.cli import app
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        sys.exit(_missing(error.name, "cli"))
    try:
        app()
    except ModuleNotFoundError as error:
        if error.name not in _PROBE:
            raise
        sys.exit(_missing(error.name, "probe"))


if __name__ == "__main__":
    main()
