"""NumPy's own tests of its bit generators, run on PCG32, and what they do not see.

NumPy's wheels hold them: `numpy/random/tests/test_smoke.py` and `test_direct.py`.
"""

import gc
import threading

import numpy as np
import pytest
import reference
from numpy.random import Generator
from numpy.random.tests import test_direct, test_smoke

import fastinit as fi

# NumPy 2.0's tests of all integers' dtypes have them from this fixture.
dtype = getattr(test_smoke, "dtype", None)

# PCG32's 32 bits are the high half of a word, which is then used up.
NOT_OURS = {("TestDirect", "test_uniform_float"): "of 64-bit words, NumPy's use both halves"}


def words(seed, n):
    """The words of a seed, by the specification."""
    key = reference.key(seed)
    return [reference.word(key, index) for index in range(n)]


class TestSmoke(test_smoke.RNG):
    """Each method of a `numpy.random.Generator`, over PCG32."""

    bit_generator = fi.PCG32
    advance = 2**63 + 2**31
    seed = (12345,)
    seed_vector_bits = 64

    @classmethod
    def setup_class(cls):
        """Make what the tests of NumPy 2.0 read from their class."""
        if hasattr(super(), "setup_class"):
            cls.rg = Generator(fi.PCG32(*cls.seed))
            cls.initial_state = cls.rg.bit_generator.state
            cls._extra_setup()

    @classmethod
    def _create_rng(cls):
        """Make what the tests of later versions ask for."""
        rg = Generator(fi.PCG32(*cls.seed))
        return test_smoke.RNGData(fi.PCG32, cls.advance, [*cls.seed], rg, cls.seed_vector_bits)


class TestDirect(test_direct.Base):
    """State, pickles, interfaces and errors of the bit generator itself."""

    @classmethod
    def setup_class(cls):
        cls.bit_generator = fi.PCG32
        cls.bits = 64
        cls.dtype = np.uint64
        cls.data1, cls.data2 = (
            {"seed": [seed], "data": np.array(words(seed, 1000), np.uint64)} for seed in (1, 2)
        )
        cls.seed_error_type = (ValueError, TypeError)
        cls.invalid_init_types = [(3.2,), ([None],), (1, None)]
        cls.invalid_init_values = [(-1,)]


@pytest.fixture(autouse=True)
def _not_ours(request):
    if request.cls and (reason := NOT_OURS.get((request.cls.__name__, request.node.originalname))):
        pytest.skip(reason)


@pytest.fixture
def churn():
    """Allocations that soon take the place of whatever was freed."""
    return lambda: [bytearray(size) for size in range(8000, 8600) for _ in range(5)]


def test_a_state_that_is_set_is_drawn_from_by_those_who_hold_the_address(churn):
    rg = Generator(fi.PCG32(1))
    state = rg.bit_generator.state
    expected = rg.integers(0, 10, 5)
    rg.bit_generator.state = state
    gc.collect()
    memory = churn()
    assert (rg.integers(0, 10, 5) == expected).all()
    rg.bit_generator.state = fi.PCG32(2).state
    assert rg.random() == Generator(fi.PCG32(2)).random()
    assert all(not any(block) for block in memory)


def test_a_bit_generator_made_anew_in_place_keeps_its_address(churn):
    bits = fi.PCG32(1)
    rg = Generator(bits)
    address = bits.ctypes.state_address
    bits.__init__(2)
    memory = churn()
    rg.random(3000)
    assert bits.ctypes.state_address == address
    assert bits.state["state"] == {"key": fi.default_rng(2).key, "position": 3000}
    assert all(not any(block) for block in memory)


def test_states_set_while_other_threads_draw():
    """Each draw is one of the stream of either key, and foreign memory stays as it is."""
    rg = Generator(fi.PCG32(1))
    states = [fi.PCG32(seed).state for seed in (1, 2)]
    known = {value for seed in (1, 2) for value in fi.PCG32(seed).random_raw(10**5).tolist()}
    drawn = []

    def draw():
        for _ in range(900):
            drawn.extend(rg.bit_generator.random_raw(50).tolist())

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for state in states:
            rg.bit_generator.state = state
    assert set(drawn) <= known


def test_jumps_are_far_apart_and_leave_what_they_start_from():
    bits = fi.PCG32(1)
    state = bits.state
    positions = sorted(bits.jumped(k).state["state"]["position"] for k in range(1000))
    apart = np.diff(np.array([*positions, positions[0] + 2**64], dtype=object))
    assert min(apart) > 2**64 / 3000
    assert bits.state == state
    assert bits.jumped(-1).jumped().state == state
    assert bits.jumped().seed_seq is bits.seed_seq


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ({"1"}, TypeError, "must be a mapping"),
        ({}, ValueError, "not that of a PCG32"),
        ({"bit_generator": "PCG64"}, ValueError, "not that of a PCG32"),
        ({"bit_generator": "PCG32"}, ValueError, "not that of a PCG32"),
        ({"bit_generator": "PCG32", "state": {"key": (1, 2)}}, ValueError, "not that of a PCG32"),
        ({"bit_generator": "PCG32", "state": {"key": 1, "position": 0}}, ValueError, "not that"),
        ({"bit_generator": "PCG32", "state": {"key": (1, -1), "position": 0}}, ValueError, "key"),
        ({"bit_generator": "PCG32", "state": {"key": (1.0, 1), "position": 0}}, TypeError, "key"),
        (
            {"bit_generator": "PCG32", "state": {"key": (1, 1), "position": 2**64}},
            ValueError,
            "position",
        ),
        (
            {"bit_generator": "PCG32", "state": {"key": (1, 1), "position": 0.5}},
            TypeError,
            "position",
        ),
    ],
)
def test_what_is_no_state(state, error, words):
    bits = fi.PCG32(1)
    bits.random_raw(5)
    before = bits.state
    with pytest.raises(error, match=words):
        bits.state = state
    assert bits.state == before


@pytest.mark.parametrize(("method", "argument"), [("advance", "delta"), ("jumped", "jumps")])
def test_numbers_of_indices_are_integers(method, argument):
    with pytest.raises(TypeError, match=rf"{argument}=1\.5 must be an integer"):
        getattr(fi.PCG32(1), method)(1.5)
