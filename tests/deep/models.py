"""Every model type of transformers: written by fastinit, loaded, and compared tensor by tensor.

Each model is made from its type's default config, with fewer layers, tokens and experts. A tensor
that transformers makes the same twice has one value, and ours must be that. Of any other the values
must be of the same distribution (two-sample Kolmogorov-Smirnov test), with as many zeros and as
many values that are there twice, and a copy of another tensor where transformers' is.

A run takes an hour. What was found is kept in tests/deep/results/models.json, which docs/models.md
shows: a type that is there is not tried again, unless `--again STATE` names what it was found to
be. `--only TYPE` runs single types.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
import transformers
from record import load, save
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES
from without_operators import define_torchvision

from fastinit import checkpoint
from fastinit.checkpoint._configs import classes_of
from fastinit.checkpoint._statistics import _kolmogorov_smirnov
from fastinit.recipe import RecipeError

sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import make_models

FOUND = Path(__file__).with_name("results") / "models.json"

SMALL = 15 * 10**7  # bytes of a model that is compared
SECONDS = 300  # that a type may take
_SAMPLE = 2**16  # values of a tensor that are compared
# Of a run with 10^5 tensors one in a hundred would have a false alarm.
_ALARM = 1e-7

_LAYERS = ("layers", "n_layer", "depth", "num_blocks", "n_blocks")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


def cut(config: Any, *, more: bool) -> Any:
    """Make a config's model small: two layers; with `more`, fewer tokens and experts too."""
    for key, value in list(vars(config).items()):
        if isinstance(value, transformers.PretrainedConfig):
            cut(value, more=more)
        elif key in ("layer_types", "mlp_layer_types") and isinstance(value, list):
            setattr(config, key, value[:2])
        elif type(value) is not int:
            continue
        elif key.endswith(_LAYERS) and value > 2:
            setattr(config, key, 2)
        elif more and key in _EXPERTS and value > 8:
            setattr(config, key, 8)
        elif more and key == "vocab_size" and value > 1024:
            pad = getattr(config, "pad_token_id", None)
            setattr(config, key, max(1024, pad + 1 if isinstance(pad, int) else 0))
    return config


def examine(kind: str, name: str, cuts: Iterable[str], *, whole: bool) -> dict[str, Any]:
    """Return what became of a type: `state`, and what belongs to it.

    Without `whole` the model is planned only: then a small one has the state "planned".
    """
    reasons = []
    for small in cuts:
        try:
            with _unmade():
                cls = getattr(transformers, name)
                config = CONFIG_MAPPING[kind]()
            if small:
                cut(config, more=small == "more")
            return _examine(cls, config, whole=whole) | {"cut": small}
        except UnmadeError as error:
            reasons.append(str(error))
    return {"state": "unmade", "reason": reasons[-1]}


class UnmadeError(Exception):
    """A model that transformers itself cannot make."""


def _examine(cls: Any, config: Any, *, whole: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        config.architectures = [cls.__name__]
        with _unmade():
            config.to_json_file(path / "config.json", use_diff=False)
        try:
            model = checkpoint.load(path)
            model.plan()
        except RecipeError as error:
            if "makes no config of it" in str(error):
                raise UnmadeError(str(error).replace(directory, "")) from None
            if "cannot make a model of it" in str(error):
                with _unmade(), torch.device("meta"):
                    cls._from_config(type(config).from_pretrained(path))
            return {"state": "refused", "reason": str(error).replace(directory, "")}
        nbytes = sum(tensor.nbytes for tensor in model.tensors)
        kinds = {"tensors": len(model.tensors), "bytes": nbytes, "computed": len(model.values)}
        if nbytes > SMALL:
            return {"state": "large", **kinds}
        if not whole:
            return {"state": "planned", **kinds}
        checkpoint.write(model, path / "out", seed=5)
        found = checkpoint.check(path / "out").difference
        if found is not None:
            return {"state": "different", "reason": [str(found)]}
        ours, report = cls.from_pretrained(path / "out", output_loading_info=True)
        lost = {key: sorted(map(str, value))[:3] for key, value in report.items() if value}
        if lost:
            return {"state": "different", "reason": [f"loading reports {lost}"], **kinds}
        with _unmade():
            stock = [_stock(cls, path, seed) for seed in (1, 2)]
        differences, exact = compare(_state(ours), *stock)
        state = "different" if differences else "equal"
        return {"state": state, "reason": differences[:5], "exact": exact, **kinds}


@contextmanager
def _unmade() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever their code raises
        raise UnmadeError(f"{type(error).__name__}: {error}") from None


def _stock(cls: Any, path: Path, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    return _state(cls._from_config(transformers.AutoConfig.from_pretrained(path)))


def _state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def compare(
    ours: dict[str, torch.Tensor], first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]
) -> tuple[list[str], int]:
    """Return what differs from transformers', and how many tensors have one value there."""
    differences = [f"{name} is there once only" for name in ours.keys() ^ first.keys()]
    exact, seen = 0, {}
    for name in ours.keys() & first.keys():
        mine, theirs = ours[name], first[name]
        if (mine.shape, mine.dtype) != (theirs.shape, theirs.dtype):
            differences.append(f"{name}: {mine.dtype} {tuple(mine.shape)}, not {theirs.dtype}")
        elif _equal(theirs, second[name]):
            exact += 1
            if not _equal(mine, theirs):
                differences.append(f"{name}: not transformers' values")
        else:
            seen[name] = theirs
            differences += _apart(name, _sample(mine), _sample(theirs))
    differences += _copies(ours, seen)
    return differences, exact


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.nan_to_num(0.125), b.nan_to_num(0.125))


def _sample(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    flat = tensor.flatten()
    step = max(1, len(flat) // _SAMPLE)
    return flat[::step].double().numpy()


def _apart(name: str, mine: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> list[str]:
    """Return how two samples differ."""
    n = len(theirs)
    spread = 6 * np.sqrt(n) / 2 + 3
    found = []
    p = _kolmogorov_smirnov(mine, theirs)
    if p < _ALARM:
        found.append(f"p = {p:.1g}, std {mine.std():.4g} and {theirs.std():.4g}")
    for power in (1, 2):  # which see a wrong scale sooner
        a, b = mine**power, theirs**power
        error = np.sqrt((a.var() + b.var()) / n)
        if n > 99 and abs(a.mean() - b.mean()) > 6 * error:
            found.append(f"the mean of x^{power} is {a.mean():.4g}, not {b.mean():.4g}")
    zeros = [int((x == 0).sum()) for x in (mine, theirs)]
    if abs(zeros[0] - zeros[1]) > min(spread, 6 * np.sqrt(sum(zeros)) + 3):
        found.append(f"{zeros[0]} zeros, not {zeros[1]}")
    twice = [n - len(np.unique(x)) for x in (mine, theirs)]
    if abs(twice[0] - twice[1]) > 6 * np.sqrt(sum(twice)) + 3 + n / 50:
        found.append(f"{twice[0]} values are there again, not {twice[1]}")
    return [f"{name}: {text}" for text in found]


def _copies(ours: dict[str, torch.Tensor], random: dict[str, torch.Tensor]) -> list[str]:
    """Return which tensors are copies of another in one of the models alone."""
    groups = [
        {name: (t.shape, t.flatten()[:4096].double().sum().item()) for name, t in state.items()}
        for state in ({name: ours[name] for name in random}, random)
    ]
    alike = [Counter(group.values()) for group in groups]
    return [
        f"{name}: a copy of another tensor in one of them alone"
        for name, tensor in random.items()
        if tensor.numel() > 3 and (alike[0][groups[0][name]] > 1) != (alike[1][groups[1][name]] > 1)
    ]


class TooLongError(BaseException):
    """A type has had its time."""


def _alarm(*_: object) -> None:
    raise TooLongError


def run(kind: str, name: str, cuts: Iterable[str], *, whole: bool) -> dict[str, Any]:
    """Return what became of a type, whatever happens."""
    signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(SECONDS)
    start = time.perf_counter()
    try:
        result = examine(kind, name, cuts, whole=whole)
    except TooLongError:
        result = {"state": "slow", "reason": f"it takes more than {SECONDS} s"}
    except Exception as error:  # ours, or theirs while it loads
        result = {"state": "failed", "reason": f"{type(error).__name__}: {error}"}
    finally:
        signal.alarm(0)
        gc.collect()
    seconds = round(time.perf_counter() - start, 1)
    return {"class": name, **result, "seconds": seconds}


def _types() -> int:
    """Return how many model types have a model class."""
    return sum(next(classes_of(kind), None) is not None for kind in CONFIG_MAPPING_NAMES)


def main() -> None:
    """Examine all types, or those asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="TYPE")
    parser.add_argument("--again", action="append", default=[], metavar="STATE")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    define_torchvision()  # some types have a part of timm's, which needs it
    transformers.utils.logging.set_verbosity(60)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    kept = load(FOUND)
    found = kept["models"] if kept.items() >= versions.items() else {}

    def examined(kind: str, cuts: Iterable[str], *, whole: bool) -> None:
        name = next(classes_of(kind), None)
        if name is not None:
            found[kind] = run(kind, name, cuts, whole=whole)
            ordered = {kind: found[kind] for kind in CONFIG_MAPPING_NAMES if kind in found}
            save(FOUND, versions | {"types": _types(), "models": ordered})
            print(kind, json.dumps(found[kind]), flush=True)

    for kind in options.only or CONFIG_MAPPING_NAMES:
        if kind not in found or found[kind]["state"] in options.again:
            examined(kind, ("more", "layers", ""), whole=False)
    asked = [kind for kind in options.only or found if kind in found]
    planned = [kind for kind in asked if found[kind]["state"] == "planned"]
    for kind in sorted(planned, key=lambda kind: found[kind]["bytes"]):
        examined(kind, (found[kind]["cut"],), whole=True)
    make_models.write_models()
    sys.exit(any(result["state"] in ("different", "failed") for result in found.values()))


if __name__ == "__main__":
    main()
