"""What fastinit does without a private name of PyTorch's: the same by another name, or an error."""

import re

import numpy as np
import pytest
from adapters import adapter

import fastinit as fi
from fastinit import _fill

torch = adapter("torch")

from fastinit import torch as ft  # noqa: E402
from fastinit.torch import _fills, _private, _tensor  # noqa: E402

REFUSED = r"fastinit.torch needs .*, which PyTorch .* does not have; allowed: PyTorch 2.6 to 2.13"


class Without:
    """Something that has everything of another but one attribute."""

    def __init__(self, whole, *names):
        self._whole, self._names = whole, names

    def __getattr__(self, name):
        if name in self._names:
            raise AttributeError(name)
        return getattr(self._whole, name)


@pytest.fixture
def without(monkeypatch):
    """Have `_private` see a PyTorch whose `torch._C` has not some name."""

    def hide(name):
        other = Without(torch)
        other._C = Without(torch._C, name)
        monkeypatch.setattr(_private, "torch", other)

    return hide


def test_writes_are_counted_by_the_public_function(without, monkeypatch):
    without("_increment_version")
    counter = _private._write_counter()
    assert counter is torch.autograd.graph.increment_version
    monkeypatch.setattr(_tensor, "count_writes", counter)
    x = torch.empty(1000)
    before = x._version
    ft.init.normal_(x, generator=3)
    assert x._version == before + 1
    assert np.array_equal(x.numpy(), fi.normal(1000, rng=3))


def test_a_distributed_tensor_gives_its_part():
    part = torch.ones(3)
    sharded = type("Sharded", (), {"to_local": lambda _: part})()
    assert _private.local_tensor(sharded) is part


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (_private.storage_number, ["_cdata"]),
        (_private.version, ["_version"]),
        (_private.parameters_of, ["_parameters"]),
        (_private.buffers_of, ["_buffers"]),
        (_private.unsaved_buffers, ["_non_persistent_buffers_set"]),
        (_private.operator_arguments, ["_schema"]),
        (lambda placement: _private.split(placement, torch.ones(3), 2), ["_split_tensor"]),
    ],
)
def test_what_nothing_can_stand_for_is_an_error(call, names):
    with pytest.raises(RuntimeError, match=REFUSED):
        call(Without(torch.nn.Linear(2, 2), *names))


def test_modules_that_cannot_register_again_are_an_error(monkeypatch):
    monkeypatch.delattr(torch.nn.Module, "_apply")
    with pytest.raises(RuntimeError, match=REFUSED.replace(".*", "Module._apply", 1)):
        _private.register_again(torch.nn.Linear(2, 2))


def test_modules_that_keep_their_tensors_twice_register_again():
    lstm = torch.nn.LSTM(2, 3)
    lstm._parameters["bias_ih_l0"] = new = torch.nn.Parameter(torch.ones(12))
    _private.register_again(torch.nn.Sequential(torch.nn.Linear(2, 2), lstm))
    assert any(held is new for held in lstm._flat_weights)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (_private.functions_off, "DisableTorchFunction"),
        (_private.operators_off, "_DisableTorchDispatch"),
        (lambda: _private.modes_off().__enter__(), "_DisableTorchDispatch"),
    ],
)
def test_guards_that_are_gone_are_an_error(without, call, name):
    without(name)
    with pytest.raises(RuntimeError, match=REFUSED):
        call()


def test_modes_that_cannot_be_counted_may_be_several(without):
    assert _private.is_only_operators_mode()
    without("_len_torch_dispatch_stack")
    assert not _private.is_only_operators_mode()


def test_parameters_of_which_fsdp_says_nothing_are_taken_for_cut():
    module = torch.nn.Linear(2, 2)
    assert not _private.is_sharded_by_fsdp(module)
    module._handle = type("Handle", (), {"uses_sharded_strategy": True, "flat_param": None})()
    assert _private.is_sharded_by_fsdp(module)


def test_truncated_normals_that_cannot_be_taken_over_are_told(monkeypatch):
    monkeypatch.setattr(_fills, "TRUNCATED", [("torch.nn.init", "_gone")])
    monkeypatch.setattr(_fill, "_said", set())
    with (
        pytest.warns(UserWarning, match=re.escape("this version of torch.nn.init")),
        ft.accelerate(seed=3),
    ):
        pass
