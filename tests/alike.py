"""Whether two ways of building a model give each of its tensors the same distribution."""

import math

import numpy as np
import torch
from scipy import stats


def tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, a shared one under each of its names."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return {name: tensor.detach() for name, tensor in named}


def differences(theirs: list[torch.nn.Module], ours: torch.nn.Module) -> dict[str, str]:
    """Return where our model differs from what an author's code gives: a reason by tensor.

    What is the same in each of their models has to be the same in ours, bit for bit. Otherwise
    the values are compared by a two-sample test, apart from the zeros, and so are their number of
    zeros, of different values, and of ties with other tensors.
    """
    runs, mine = [tensors(model) for model in theirs], tensors(ours)
    if runs[0].keys() != mine.keys():
        return dict.fromkeys(runs[0].keys() ^ mine.keys(), "only in one of them")
    found = {}
    for name, got in mine.items():
        reason = _difference([run[name] for run in runs], got)
        if reason is None and _twins(runs[0], name) != _twins(mine, name):
            reason = f"equal to {_twins(mine, name)}, not to {_twins(runs[0], name)}"
        if reason is not None:
            found[name] = reason
    return found


def _twins(values: dict[str, torch.Tensor], name: str) -> list[str]:
    """Return the other tensors with the values of one, if it is no constant."""
    mine = values[name]
    if mine.numel() < 2 or bool((mine == mine.flatten()[0]).all()):
        return []
    return [n for n, t in values.items() if n != name and t.shape == mine.shape and t.equal(mine)]


def _difference(runs: list[torch.Tensor], got: torch.Tensor) -> str | None:
    first = runs[0]
    if (got.shape, got.dtype) != (first.shape, first.dtype):
        return f"{got.dtype} {tuple(got.shape)}, not {first.dtype} {tuple(first.shape)}"
    if got.is_meta:
        return "without memory"
    if got.is_complex():
        runs, got = [torch.view_as_real(run) for run in runs], torch.view_as_real(got)
        first = runs[0]
    if all(_equal(first, run) for run in runs[1:]):
        return None if _equal(got, first) else f"{_shown(got)}, always {_shown(first)}"
    if not got.is_floating_point():
        pooled = torch.cat([run.flatten() for run in runs]).double()
        low, high = pooled.min().item(), pooled.max().item()
        inside = bool(((got >= low) & (got <= high)).all())
        return None if inside or got.numel() < 8 else f"outside of {low} to {high}"
    return _of_values([_flat(run) for run in runs], _flat(got))


_FIRST = 2**20


def _flat(tensor: torch.Tensor) -> np.ndarray:
    values: np.ndarray = tensor.double().flatten().numpy()
    return values


def _of_values(runs: list[np.ndarray], got: np.ndarray) -> str | None:
    if not np.isfinite(got).all():
        return "not finite"
    pooled = np.concatenate(runs)
    zeros, theirs = (got == 0).sum(), [(run == 0).sum() for run in runs]
    spread = 6 * math.sqrt(max(np.mean(theirs), 1)) + 1
    if not min(theirs) - spread <= zeros <= max(theirs) + spread:
        return f"{zeros} zeros, not {theirs}"
    distinct, of_theirs = len(np.unique(got)), [len(np.unique(run)) for run in runs]
    # PyTorch draws one of 2**24 numbers, of which many millions of values have some twice.
    first, of_first = (
        len(np.unique(got[:_FIRST])),
        [len(np.unique(run[:_FIRST])) for run in runs],
    )
    if distinct < min(of_theirs) * 0.9 - 3 or first > max(of_first) * 1.1 + 3:
        return f"{distinct} different values, not {of_theirs}"
    a, b = got[got != 0], pooled[pooled != 0]
    if len(a) == 0 or len(b) == 0:
        return None
    p = stats.ks_2samp(a, b).pvalue
    return (
        None
        if p > 1e-6
        else f"std {a.std():.4g}, mean {a.mean():.4g}, not {b.std():.4g}, {b.mean():.4g}"
    )


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    if torch.equal(a, b):
        return True
    if not a.is_floating_point() or a.shape != b.shape:
        return False
    a, b = a.double(), b.double()
    return bool(torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num()))


def _shown(tensor: torch.Tensor) -> str:
    return str(tensor.flatten()[:4].tolist())
