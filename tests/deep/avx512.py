"""The same bits from the kernels for AVX-512, on a machine that has no such instructions.

    python tests/deep/avx512.py                       # minutes: the compiler's, and two of its own
    python tests/deep/avx512.py --isas base avx2 avx512 --modes default upward --kernel VMLINUZ

Bochs emulates a PC whose CPU is an Intel Core i7-7800X; qemu and valgrind have no AVX-512. For each
instruction set and each mode of arithmetic (see values.c) that PC boots Linux once, and its only
process answers what same_bits.py asks. The emulator has no AVX-512 BF16.

Debian has all of it as bochs bochs-term bochsbios vgabios isolinux syslinux-common xorriso and,
which may lie unpacked anywhere, linux-image-cloud-amd64. Nothing is installed by this program; it
says what is missing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from builds import Build, compare, questions, request

GUEST = Path(__file__).with_name("guest.c")
PROGRAMS = ["bochs", "script", "xorriso"]
BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VIDEO = Path("/usr/share/vgabios/vgabios.bin")
LOADER = [
    Path("/usr/lib/ISOLINUX/isolinux.bin"),
    Path("/usr/lib/syslinux/modules/bios/ldlinux.c32"),
]
KERNELS = "vmlinuz-*-cloud-amd64"
# Linux refuses to save the registers of AVX-512 if the CPU has the compact form of XSAVE and
# reports its size as this emulator does: so it is told not to use that form. The rest makes it
# boot sooner.
COMMAND_LINE = (
    "initrd=initrd console=ttyS0,115200 clearcpuid=xsavec,xsaves "
    "quiet nosmp acpi=off mitigations=off tsc=reliable lpj=13999648 init_on_alloc=0 "
    "apparmor=0 cryptomgr.notests FASTINIT_ISA={isa} -- {mode}"
)
PC = f"""
display_library: term
romimage: file={BIOS}
vgaromimage: file={VIDEO}
cpu: model=corei7_skylake_x, ips=50000000
megs: 256
ata0-master: type=cdrom, path=pc.iso, status=inserted
boot: cdrom
clock: sync=none
com1: enabled=1, mode=file, dev=console
parport1: enabled=1, file=printer
log: log
panic: action=fatal
"""


def missing(kernel: Path | None) -> list[str]:
    files = [BIOS, VIDEO, *LOADER, *([kernel] if kernel else [])]
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    absent += [str(path) for path in files if not path.exists()]
    return absent if kernel else [*absent, f"/boot/{KERNELS}"]


def archive(files: dict[str, bytes]) -> bytes:
    """A file system in memory for Linux: a cpio archive in the format "newc" of executables."""

    def padded(octets: bytes) -> bytes:
        return octets + bytes(-len(octets) % 4)

    def entries() -> Iterator[bytes]:
        for inode, (name, octets) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
            path = name.encode() + b"\0"
            numbers = [inode, 0o100755, 0, 0, 1, 0, len(octets), 0, 0, 0, 0, len(path), 0]
            header = "070701" + "".join(f"{number:08x}" for number in numbers)
            yield padded(header.encode() + path) + padded(octets)

    return b"".join(entries())


def boot(directory: Path, kernel: Path, isa: str, mode: str) -> bytes:
    """What the program wrote in the emulated PC."""
    disk = directory / "disk"
    append = COMMAND_LINE.format(isa=isa, mode=mode)
    (disk / "isolinux.cfg").write_text(f"DEFAULT pc\nLABEL pc\nKERNEL linux\nAPPEND {append}\n")
    for path in (kernel, *LOADER):
        shutil.copyfile(path, disk / ("linux" if path == kernel else path.name))
    image = ["-o", "pc.iso", "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot"]
    size = ["-boot-load-size", "4", "-boot-info-table"]
    make = ["xorriso", "-as", "mkisofs", "-quiet", *image, *size, "disk"]
    subprocess.run(make, cwd=directory, check=True, stderr=subprocess.DEVNULL)
    for name, text in [("pc", PC), ("continue", "c\n")]:  # Debian's Bochs is its debugger
        (directory / name).write_text(text)
    printer = directory / "printer"
    printer.unlink(missing_ok=True)
    subprocess.run(  # its display is a terminal
        ["script", "-qec", "bochs -q -f pc -rc continue", "/dev/null"],
        cwd=directory,
        env={**os.environ, "TERM": "vt100"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=False,  # it ends as if it had failed, whoever turns the PC off
    )
    output = printer.read_bytes() if printer.exists() else b""
    if not output.endswith(b"\0"):  # the guest's last byte
        sys.exit(f"{isa}, {mode}: no answer\n{(directory / 'console').read_text(errors='replace')}")
    return output[:-1]


def main() -> int:
    kernels = sorted(Path("/boot").glob(KERNELS))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kernel", type=Path, default=kernels[-1] if kernels else None)
    parser.add_argument("--isas", nargs="+", default=["avx512"])
    parser.add_argument("--modes", nargs="+", default=["default"])
    args = parser.parse_args()
    if absent := missing(args.kernel):
        print(f"skipped, needs {' and '.join(absent)}")
        return 0
    asked, bad = list(questions()), 0
    print(f"{len(asked)} cases each")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "disk").mkdir()
        build = Build("gcc", ("-O3",), "bochs")
        guest = directory / "guest"
        subprocess.run(["gcc", "-O2", "-static", GUEST, "-o", guest], check=True)
        files = {
            "init": guest.read_bytes(),
            "values": build.make(directory).read_bytes(),
            "questions": request(asked),
        }
        (directory / "disk" / "initrd").write_bytes(archive(files))
        for isa in args.isas:
            for mode in args.modes:
                found = compare(boot(directory, args.kernel, isa, mode), asked)
                verdict = f"DIFFERENT: {', '.join(found)}" if found else "the same bits"
                print(f"{build}, emulated {isa}, {mode}: {verdict}", flush=True)
                bad += bool(found)
    return min(bad, 1)


if __name__ == "__main__":
    sys.exit(main())
