"""``fastinit`` and ``python -m fastinit``: the command line, or how to get it."""

import sys

_EXTRA = ("typer", "rich", "psutil", "safetensors", "ml_dtypes", "tomli")
_LATER = {
    **dict.fromkeys(("matplotlib", "jinja2", "sklearn", "threadpoolctl"), "probe"),
    **dict.fromkeys(("dask", "distributed"), "dask"),
}
_WHAT = {"cli": "the command line", "probe": "a report", "dask": "--scheduler"}


def _missing(package: str, extra: str) -> str:
    what = _WHAT[extra]
    return (
        f"fastinit: {what} needs the package {package}: "
        f"in a checkout of fastinit, pip install '.[{extra}]'"
    )


def main() -> None:
    """Run the command line.

    Raises
    ------
    SystemExit
        Always, with the exit status; 1 and one line if the extra `cli`, for a report the extra
        `probe`, or for a cluster the extra `dask`, is not installed.
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
        if error.name not in _LATER:
            raise
        sys.exit(_missing(error.name, _LATER[error.name]))


if __name__ == "__main__":
    main()
