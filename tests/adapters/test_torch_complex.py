"""Complex weights: PyTorch gives each part a distribution of its own, and so does fastinit."""

import importlib
import math
import warnings
from contextlib import nullcontext
from functools import partial

import pytest
from adapters import adapter

from fastinit import checkpoint

torch = adapter("torch")

from alike import differences  # noqa: E402

from fastinit.torch._recipe import recipe_of  # noqa: E402

init = importlib.import_module("fastinit.torch")
nn = torch.nn


class Complex(nn.Module):
    """Complex numbers as authors fill them: PyTorch gives each part its own distribution."""

    def __init__(self, wide=True):
        super().__init__()
        kind = torch.complex64
        empty = lambda: nn.Parameter(torch.empty(40, 50, dtype=kind))  # noqa: E731
        self.uniform = nn.init.xavier_uniform_(empty())
        self.normal = nn.init.normal_(empty(), 0, 0.1)
        self.shifted = nn.init.normal_(empty(), 1.0, 0.1)
        self.scaled = nn.Parameter(torch.randn(40, 50, dtype=kind) * 0.02)
        self.moved = nn.Parameter(torch.rand(40, 50, dtype=kind) * 2 - 1)  # the real part alone
        self.turned = nn.Parameter(torch.rand(40, 50, dtype=kind) * 1j)
        self.conjugated = nn.Parameter(torch.rand(40, 50, dtype=kind))
        nn.init.uniform_(self.conjugated.data.conj(), 0, 3)
        self.parts = empty()
        nn.init.normal_(self.parts.real, 0, 0.1)
        nn.init.uniform_(self.parts.imag, 0, 0.1)
        self.pairs = nn.Parameter(torch.empty(40, 50, 2))
        nn.init.normal_(torch.view_as_complex(self.pairs))
        self.angles = nn.Parameter(torch.polar(torch.rand(40, 50), 6 * torch.rand(40, 50)))
        self.constant = nn.Parameter(torch.full((10,), 0.3 + 1j, dtype=kind))
        self.roots = nn.Parameter(torch.exp(1j * torch.arange(10.0)))
        self.cut = nn.init.normal_(empty(), 0, 0.1)
        self.cut.data[3] = 0
        self.cut.data[:, 4].uniform_()
        self.linear = nn.Linear(40, 50, dtype=kind)
        self.embedding = nn.Embedding(40, 50, padding_idx=2, dtype=kind)
        if wide:  # safetensors has none
            self.wide = nn.Parameter(torch.empty(40, 50, dtype=torch.complex128))
            nn.init.kaiming_uniform_(self.wide, math.sqrt(5))


def test_complex_numbers_are_pytorchs():
    theirs = [Complex() for _ in range(3)]
    with init.deferred():
        model = Complex()
    assert init.initialize(model, 1) == []
    assert not differences(theirs, model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PyTorch drew the values of a tensor of dtype")  # conj
        with init.accelerate(1):
            assert not differences(theirs, Complex())


def test_complex_numbers_in_files_are_those_of_initialize(tmp_path):
    from safetensors.torch import load_file

    model = recipe_of(partial(Complex, wide=False), "complex", {})
    checkpoint.write(model, tmp_path, seed=1)
    assert checkpoint.check(tmp_path).difference is None
    with init.deferred():
        ours = Complex(wide=False)
    init.initialize(ours, 1)
    values = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(values[name], x) for name, x in ours.state_dict().items())


@pytest.mark.parametrize("fill", [nn.init.trunc_normal_, init.truncated_normal_])
def test_complex_numbers_that_pytorch_refuses(fill):
    for context in (nullcontext(), init.deferred()):
        with (
            pytest.raises(NotImplementedError, match="not implemented for 'ComplexFloat'"),
            context,
        ):
            fill(torch.empty(3, 4, dtype=torch.complex64))
