"""The arrays of the allocating forms: where they lie in memory, and that they are whole."""

import numpy as np
import pytest

import fastinit as fi

LINE, PAGE, HUGE_PAGE = 64, 1 << 12, 1 << 21


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float8_e5m2"])
@pytest.mark.parametrize("shape", [PAGE, (33, 257), (1, 5, 4099)])
def test_from_a_page_on_arrays_begin_on_a_cache_line(shape, dtype):
    kept = [fi.normal(shape, dtype=dtype, rng=1) for _ in range(20)]
    assert {x.ctypes.data % LINE for x in kept} == {0}


@pytest.mark.parametrize("extra", [0, 1])
def test_large_arrays_begin_on_a_huge_page(extra):
    x = fi.constant((16 + extra, HUGE_PAGE // 4), 1.0)
    assert x.ctypes.data % HUGE_PAGE == 0


@pytest.mark.parametrize("shape", [(), 0, (0, 5), 1, 3, PAGE // 4, (7, 1021), (4099, 4099)])
def test_an_array_is_what_numpy_would_make(shape):
    x, expected = fi.uniform(shape, rng=3), np.empty(shape, np.float32)
    assert (x.shape, x.dtype, x.strides) == (expected.shape, expected.dtype, expected.strides)
    assert x.flags.carray
    assert np.array_equal(x, fi.uniform_(expected, rng=3))


def test_no_array_of_objects_is_made_of_raw_memory():
    with pytest.raises(TypeError, match=r"dtype='\|O'"):
        fi.constant(PAGE, 1, dtype=object)
