"""The other backend gives the same bits; its own tests are among the exhaustive ones."""

import numpy as np
import pytest

import fastinit as fi

pytest.importorskip("numba")


@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_the_other_backend_gives_the_same_bits(name: str) -> None:
    fill = getattr(fi, f"{name}_")
    ours, other = np.empty(5000, np.float32), np.empty(5000, np.float32)
    fill(ours, rng=1)
    fill(other, rng=1, backend="numba")
    assert ours.tobytes() == other.tobytes()
