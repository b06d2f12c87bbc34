"""The command line's commands on models: init, check, show, list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from fastinit import checkpoint
from fastinit._extras import require
from fastinit._files import appearing
from fastinit.checkpoint import FORMATS, MAX_SHARD_SIZE
from fastinit.checkpoint._old import few
from fastinit.cli._terminal import (
    DIFFERS,
    INTERRUPTED,
    AsJson,
    PeakMemory,
    UsageError,
    bytes_bar,
    columns,
    end,
    one_line_errors,
    print_json,
    rows,
    say,
)
from fastinit.recipe import FLOAT_DTYPES, Origin, Recipe, Rule, builtin
from fastinit.recipe._toml import described

SHOW = "Example: fastinit show llama-3-8b 'lm_head.weight[:2, ::1000]' --seed 42"
CHECK = "Example: fastinit check build/llama"
LIST = "Example: fastinit list"
INIT = "Example: fastinit init llama-3-8b -o build/llama --dtype bfloat16 --seed 42"

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Says which tensors there are: a built-in model (fastinit list), a recipe (.toml), "
        ".safetensors files or the directory they are in, such a file's header (.json), or a "
        "Hugging Face config.json.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="The seed, instead of the recipe's own.")]
Dtype = Annotated[
    str | None, typer.Option(help=f"The dtype of all floating tensors: {', '.join(FLOAT_DTYPES)}.")
]
Threads = Annotated[
    int | None, typer.Option(help="How many threads; by default, all that this process may use.")
]
Rules = Annotated[
    str | None,
    typer.Option(
        "--recipe", help="A recipe whose rules and seed are used for the tensors of SOURCE."
    ),
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=NUMBER", help="Give a variable of the recipe a value."),
]


def init(
    source: Source,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The directory for the files. Only --dry-run does without."
        ),
    ] = None,
    seed: Seed = None,
    dtype: Dtype = None,
    threads: Threads = None,
    recipe: Rules = None,
    variables: Variables = None,
    old: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="OLD",
            help="An older checkpoint whose tensors are copied. Only what it lacks is drawn, such "
            "as new layers, or the new rows of a larger vocabulary.",
        ),
    ] = None,
    max_shard_size: Annotated[
        str,
        typer.Option(
            help="The largest size of the tensors in one file, such as 500MB. 1 GB is 10^9 bytes."
        ),
    ] = MAX_SHARD_SIZE,
    format: Annotated[  # noqa: A002
        str, typer.Option(help=f"{' or '.join(FORMATS)}; npy writes a file for each tensor.")
    ] = FORMATS[0],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what an earlier run of this job has finished.")
    ] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The address of a Dask scheduler whose workers write the files; they must see the "
            "same directory. local:N starts N processes on this machine instead.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the tensors and their rules, and write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model's tensors, freshly initialised, as safetensors files in a directory.

    The same SOURCE and seed give the same files on every machine.
    """
    if output is None and not dry_run:
        raise typer.BadParameter("give a directory for the files, or --dry-run", param_hint="-o")
    with one_line_errors():
        model = _load(source, recipe, variables, dtype)
        kept = None if old is None else checkpoint.keep(model, old)
        model = model if kept is None else kept.recipe
        if output is None or dry_run:
            _list(model, as_json)
            return
        memory = PeakMemory()
        with _options_named(), bytes_bar(model.name, _nbytes(model)) as advance:

            def progress(nbytes: int) -> None:
                advance(nbytes)
                memory.sample()

            written = checkpoint.write(
                model,
                output,
                seed=seed,
                threads=threads,
                max_shard_size=max_shard_size,
                format=format,
                overwrite=overwrite,
                resume=resume,
                scheduler=scheduler,
                progress=progress,
            )
        _summarise(model, written, memory.nbytes, {} if kept is None else kept.names(), as_json)


@contextmanager
def _options_named() -> Iterator[None]:
    """Name the command line's options in an error, and after Ctrl-C."""
    try:
        yield
    except FileExistsError as error:
        reason = (error.strerror or "").replace("overwrite=True", "--overwrite")
        reason = reason.replace("resume=True", "--resume")
        raise FileExistsError(error.errno, reason, error.filename) from None
    except KeyboardInterrupt:
        end(
            "interrupted: the same command with --resume keeps the files that are whole, "
            "with --overwrite it begins anew",
            INTERRUPTED,
        )


def check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="The directory of a checkpoint, or one .safetensors file."
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="A recipe whose rules are used instead of those in the files."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed, instead of that in the files.")
    ] = None,
    threads: Threads = None,
    statistics: Annotated[
        bool,
        typer.Option(
            "--statistics",
            help="Print moments and copies, and test the values against the recipe. This "
            "also works for files written by other tools.",
        ),
    ] = False,
    as_json: AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A directory for pictures of the statistics."),
    ] = None,
) -> None:
    """Prove a checkpoint: draw every tensor again, and compare it bit for bit.

    If an element differs, the first one is named, and the exit status is 3. With --statistics,
    those tensors are named whose values are not distributed as the recipe says; one checkpoint
    in 1000 is named although it is right.
    """
    with one_line_errors():
        if statistics:
            _statistics(path, recipe, threads, as_json, output)
            return
        if output is not None:
            raise UsageError("--output draws statistics: give --statistics too")
        memory = PeakMemory()
        nbytes = sum(stored.tensor.nbytes for stored in checkpoint.read(path).stored)
        with bytes_bar(f"check {path}", nbytes) as advance:

            def progress(nbytes: int) -> None:
                advance(nbytes)
                memory.sample()

            done = checkpoint.check(path, recipe, seed=seed, threads=threads, progress=progress)
    if as_json:
        print_json(
            {
                "equal": done.difference is None,
                "difference": done.difference and str(done.difference),
                "tensors": done.tensors,
                "bytes": done.nbytes,
                "seconds": done.seconds,
                "peak_memory": memory.nbytes,
            }
        )
    if done.difference is not None:
        end(str(done.difference), DIFFERS)
    if as_json:
        return
    rows(
        {
            "equal": f"{done.tensors:,} tensors, {done.nbytes:,} bytes",
            "seconds": f"{done.seconds:.2f}",
            "speed": f"{done.nbytes / done.seconds / 1e9:.2f} GB/s",
            "peak memory": f"{memory.nbytes / 1e6:.0f} MB private",
        }
    )


def _statistics(
    path: Path, recipe: str | None, threads: int | None, as_json: bool, output: Path | None
) -> None:
    if output is not None:
        require("matplotlib", "--output draws pictures: it")
    nbytes = sum(stored.tensor.nbytes for stored in checkpoint.read(path).stored)
    with bytes_bar(f"statistics of {path}", nbytes) as advance:
        results = checkpoint.statistics(path, recipe, threads=threads, progress=advance)
    if as_json:
        print_json([each.as_json() for each in results])
    else:
        columns(_STATISTICS, [_row(each) for each in results])
    if output is not None:
        from fastinit.checkpoint import _pictures

        say(f"pictures: {' '.join(map(str, _pictures.draw(results, output)))}", err=as_json)
    wrong = [each.name for each in checkpoint.wrong(results)]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        end(f"not as the recipe draws them: {', '.join(wrong[:3])}{more}", DIFFERS)


_MOMENTS = ("mean", "std", "min", "max", "kurtosis")
_STATISTICS = ("tensor", "shape", "dtype", *_MOMENTS, "zeros/%", "NaN/%", "Inf/%", "p", "same as")


def _row(each: checkpoint.Statistics) -> list[str]:
    moments = [getattr(each, name) for name in _MOMENTS]
    shares = (each.zeros, each.nans, each.infs)
    return [
        each.name,
        "x".join(map(str, each.shape)) or "-",
        each.dtype,
        *("-" if value is None else f"{value:.4g}" for value in moments),
        *(f"{100 * share:.3g}" for share in shares),
        "-" if each.p is None else f"{each.p:.2g}",
        each.same_as or "",
    ]


def show(
    source: Source,
    tensor: Annotated[
        str,
        typer.Argument(
            metavar="TENSOR[SLICE]",
            help="A tensor's name, or a slice of it such as 'h.0.w[:4, -1]'.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A file (.npy) in which the slice is saved."),
    ] = None,
    seed: Seed = None,
    dtype: Dtype = None,
    threads: Threads = None,
    recipe: Rules = None,
    variables: Variables = None,
    as_json: AsJson = False,
) -> None:
    """Show any slice of a tensor that init would write. The model is not written."""
    with one_line_errors():
        if output is not None and output.suffix != ".npy":
            raise UsageError(f"--output {output} must end in .npy")
        model = _load(source, recipe, variables, dtype)
        name, index = checkpoint.parse_slice(model, tensor)
        values = checkpoint.values(model, name, index, seed=seed, threads=threads)
        if output is not None:
            with appearing(output) as file:
                np.save(file, values)
    if as_json:
        head = {"tensor": tensor, "shape": values.shape, "dtype": values.dtype.name}
        print_json(head | {"values": values.tolist()})
        return
    lengths = "x".join(map(str, values.shape)) or "one value"
    given = model.values.get(name)
    line = f"{tensor}  {lengths}  {values.dtype.name}" + (f"  {given}" if given else "")
    say(line)
    # NumPy prints a bfloat16 as it is stored: as a float32 it is shorter.
    say(values.astype(np.float32) if values.dtype.name == "bfloat16" else values)
    if output is not None:
        say(f"saved to {output}")


def list_sources(as_json: AsJson = False) -> None:
    """List the recipes of fastinit: models to start from, and rules for any model's tensors."""
    about = {name: described(name) for name in builtin()}
    models = {name: text for name, (text, is_model) in about.items() if is_model}
    rules = {name: text for name, (text, is_model) in about.items() if not is_model}
    if as_json:
        print_json({"models": models, "rules": rules})
        return
    say("Models: fastinit init MODEL -o DIR")
    columns(None, [(f"  {name}", description) for name, description in models.items()])
    say("\nRules: fastinit init SOURCE --recipe RULES -o DIR")
    columns(None, [(f"  {name}", description) for name, description in rules.items()])


def _load(
    source: str, recipe: str | None, variables: list[str] | None, dtype: str | None
) -> Recipe:
    model = checkpoint.load(source, recipe, _numbers(variables or []))
    return model if dtype is None else model.astype(dtype)


def _numbers(settings: list[str]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        try:
            numbers[name] = int(text) if text.isdecimal() else float(text)
        except ValueError:
            raise UsageError(f"--set {setting}: must be NAME=NUMBER") from None
    return numbers


def _nbytes(model: Recipe) -> int:
    return sum(tensor.nbytes for tensor in model.tensors)


def _list(model: Recipe, as_json: bool) -> None:
    """Print a line for each tensor, and the totals."""
    if as_json:
        plan = [
            {"name": t.name, "shape": t.shape, "dtype": t.dtype.name, "rule": str(rule)}
            for t, rule in model.plan()
        ]
        print_json({"recipe": model.name, "bytes": _nbytes(model), "tensors": plan})
        return
    lines = [
        (t.name, "x".join(map(str, t.shape)) or "-", t.dtype.name, _described(origin))
        for t, origin in model.plan()
    ]
    columns(None, lines)
    parameters = sum(tensor.size for tensor in model.tensors)
    say(f"{len(lines)} tensors, {parameters:,} elements, {_nbytes(model):,} bytes; nothing written")


def _described(origin: Origin) -> str:
    return f"{origin}  by {origin.pattern!r}" if isinstance(origin, Rule) else str(origin)


def _summarise(
    model: Recipe,
    written: checkpoint.Written,
    private: int,
    old: dict[str, tuple[str, ...]],
    as_json: bool,
) -> None:
    files = [*map(str, written.files)]
    if as_json:
        print_json(
            {
                "recipe": model.name,
                "tensors": written.tensors,
                "parameters": written.parameters,
                "bytes": written.nbytes,
                "kept": written.kept,
                "seconds": written.seconds,
                "peak_memory": private,
                "files": files,
                **({"old": old} if old else {}),
            }
        )
        return
    # The others are of one model's author, or of one paper.
    names_alone = ", which knows names and shapes alone" if model.name == "default" else ""
    kept = f", {written.kept:,} of them there already" if written.kept else ""
    rows(
        {
            "rules": f"recipe {model.name!r}{names_alone}",
            "tensors": f"{written.tensors:,}",
            **{key: few(names) for key, names in old.items() if names},
            "parameters": f"{written.parameters:,}",
            "bytes": f"{written.nbytes:,}{kept}",
            "seconds": f"{written.seconds:.2f}",
            "speed": f"{(written.nbytes - written.kept) / written.seconds / 1e9:.2f} GB/s",
            "peak memory": f"{private / 1e6:.0f} MB private",
            "files": " ".join(files if len(files) < 9 else [*files[:2], "...", *files[-2:]]),
        }
    )
