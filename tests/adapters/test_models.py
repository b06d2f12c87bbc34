"""The comparison of every model type: on one of them, and on faults that it must find."""

import sys
from pathlib import Path

import pytest
from adapters import adapter

torch = adapter("torch")
adapter("transformers")
sys.path.append(str(Path(__file__).parents[1] / "deep"))
models = pytest.importorskip("models")

pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_type_is_as_transformers_makes_it():
    result = models.run("mamba", "MambaForCausalLM", ("more",), whole=True)
    assert result["state"] == "equal", result
    assert result["tensors"] == 22
    assert result["computed"] == 4
    assert result["exact"] == 9


def state(seed, **changes):
    torch.manual_seed(seed)
    table = torch.randn(400, 50)
    table[3] = 0
    made = {
        "weight": torch.randn(400, 50) * 0.02,
        "table": table,
        "ids": torch.arange(5),
        "copy": table.clone(),
    }
    return {name: tensor for name, tensor in {**made, **changes}.items() if tensor is not None}


FAULTS = {
    "std": {"weight": torch.randn(400, 50) * 0.022},
    "uniform": {"weight": (torch.rand(400, 50) - 0.5) * 0.07},
    "no zeros": {"table": torch.randn(400, 50)},
    "rows twice": {"weight": torch.randn(200, 50).repeat(2, 1) * 0.02},
    "no copy": {"copy": torch.randn(400, 50)},
    "a value": {"ids": torch.arange(5) + 1},
    "dtype": {"ids": torch.arange(5).int()},
    "missing": {"ids": None},
}


@pytest.mark.parametrize("changes", FAULTS.values(), ids=FAULTS)
def test_faults_are_found(changes):
    assert models.compare(state(1, **changes), state(2), state(3))[0]


def test_what_is_as_it_should_be_is_no_fault():
    assert models.compare(state(1), state(2), state(3)) == ([], 1)
