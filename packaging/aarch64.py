"""A Python for aarch64 that runs here: Debian's, unpacked into a folder, under qemu.

It needs qemu-aarch64 (Debian: apt install qemu-user) and Debian's own tools. Nothing is installed:
apt keeps its lists and its state in the same folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from environments import run

# qemu says to the program that it is called as this script is: programs that it starts by
# sys.executable then run under qemu, too.
SCRIPT = """#!/bin/sh
exec qemu-aarch64 -0 "$0" -L {root} {root}/usr/bin/python3 "$@"
"""


def missing() -> str:
    """Return which program is not here, or nothing."""
    needed = ("qemu-aarch64", "apt-get", "dpkg-deb")
    return next((program for program in needed if not shutil.which(program)), "")


def make_python(at: Path) -> Path:
    """Return Debian's Python, that of the system which runs here, in a new folder."""
    root, lists = at / "root", at / "apt"
    (lists / "lists" / "partial").mkdir(parents=True)
    (lists / "archives" / "partial").mkdir(parents=True)
    (lists / "status").touch()
    (lists / "sources.list").write_text(f"deb http://deb.debian.org/debian {codename()} main\n")
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Dir::State": lists,
        "Dir::State::status": lists / "status",
        "Dir::Cache": lists,
        "Dir::Etc::sourceparts": "-",
        "Dir::Etc::sourcelist": lists / "sources.list",
    }
    configuration = lists / "apt.conf"
    configuration.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))
    apt = ("apt-get", "--quiet=2", "--yes", "--no-install-recommends", "--download-only")
    run("apt-get", "--quiet=2", "update", APT_CONFIG=str(configuration))
    run(*apt, "install", "python3", "libstdc++6", APT_CONFIG=str(configuration))
    for package in (lists / "archives").glob("*.deb"):
        run("dpkg-deb", "--extract", package, root)
    script = at / "python"
    script.write_text(SCRIPT.format(root=root))
    script.chmod(0o755)
    return script


def codename() -> str:
    """Return which Debian this is, in its own word."""
    text = Path("/etc/os-release").read_text("utf-8")
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return lines["VERSION_CODENAME"].strip('"')


def install(python: Path, version: str, *packages: str) -> Path:
    """Return a folder with the packages for an aarch64 of this version."""
    site = python.parent / f"site-{version}"
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28)]
    run(
        *("pip", "install", "--quiet", "--target", site, "--only-binary=:all:"),
        *(*platforms, "--python-version", version, *packages),
    )
    return site
