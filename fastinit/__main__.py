"""``fastinit`` and ``python -m fastinit``: the command line, or how to get it."""

import sys

_EXTRA = ("typer", "rich", "psutil", "safetensors", "ml_dtypes", "tomli")


def main() -> None:
    """Run the command line.

    Raises
    ------
    SystemExit
        Always, with the exit status; 1 and one line if the extra `cli` is not installed.
    """
    try:
        from fastinit.cli import app
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        sys.exit(
            f"fastinit: the command line needs the package {error.name}: "
            "in a checkout of fastinit, pip install '.[cli]'"
        )
    app()


if __name__ == "__main__":
    main()
