"""Generator and PCG32: positions, names, pickles, and NumPy as the oracle."""

import copy
import os
import pickle
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import SeedSequence

import fastinit as fi


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 1023, 1024, 5000])
def test_uniforms_are_numpys_over_the_bit_generator(dtype, size):
    ours = fi.default_rng(42)
    numpys = np.random.Generator(fi.PCG32(42))
    for _ in range(3):
        assert ours.random(size, dtype).tobytes() == numpys.random(size, dtype=dtype).tobytes()
    assert ours.position == numpys.bit_generator.state["state"]["position"]


@pytest.mark.parametrize(
    "method",
    [
        lambda g: g.integers(0, 1000, 50),
        lambda g: g.integers(0, 256, 50, dtype=np.uint8),
        lambda g: g.standard_normal(50),
        lambda g: g.standard_normal(50, dtype=np.float32),
        lambda g: g.exponential(size=50),
        lambda g: g.gamma(2.0, size=50),
        lambda g: g.poisson(5, 50),
        lambda g: g.permutation(50),
        lambda g: g.choice(100, 20, replace=False),
        lambda g: g.multivariate_normal([0, 0], [[1, 0], [0, 1]], 10),
        lambda g: g.bytes(33),
    ],
)
def test_numpys_methods_work_over_the_bit_generator(method):
    a, b = (np.random.Generator(fi.PCG32(7)) for _ in range(2))
    first, again = method(a), method(b)
    assert np.array_equal(first, again)
    other = method(np.random.Generator(fi.PCG32(8)))
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, method(a))


def test_bit_generator_state_pickle_advance_and_handles():
    bits = fi.PCG32(5)
    assert isinstance(bits, np.random.BitGenerator)
    expected = fi.PCG32(5).random_raw(3000)
    assert (bits.random_raw(1500) == expected[:1500]).all()
    state = bits.state
    clone = pickle.loads(pickle.dumps(bits))
    assert (clone.random_raw(1500) == expected[1500:]).all()
    bits.random_raw(7)
    bits.state = state
    assert bits.random_raw() == expected[1500]
    assert fi.PCG32(5).advance(2999).random_raw() == expected[2999]
    assert fi.PCG32(5).advance(100).advance(-99).random_raw() == expected[1]
    assert [child.random_raw() for child in fi.PCG32(5).spawn(2)] != [expected[0]] * 2
    assert bits.capsule is not None
    assert bits.lock is not None
    assert bits.ctypes.next_uint64(bits.ctypes.state_address) == expected[1501]
    with pytest.raises(ValueError, match="is not that of a PCG32"):
        bits.state = {"bit_generator": "PCG64"}


def test_two_fills_equal_one():
    one = fi.default_rng(1).standard_normal(1777, "float32")
    rng = fi.default_rng(1)
    two = np.concatenate([rng.standard_normal(n, "float32") for n in (5, 1000, 1, 771)])
    assert one.tobytes() == two.tobytes()


def test_float32_sees_the_leading_bits_of_float64():
    for method in ("random", "standard_normal"):
        wide = getattr(fi.default_rng(1), method)(10**5)
        narrow = getattr(fi.default_rng(1), method)(10**5, "float32")
        assert np.abs(wide - narrow).max() < 3e-6


def test_scalars_sizes_and_out():
    rng = fi.default_rng(3)
    assert isinstance(rng.random(), float)
    assert isinstance(rng.normal(2.0, 0.1), float)
    assert rng.uniform(-1, 1, size=(2, 3)).dtype == np.float64
    out = np.empty((2, 3), np.float32)
    assert rng.random(out=out, size=(2, 3), dtype=np.float32) is out
    assert rng.normal(out=out) is out


def test_streams_depend_on_seed_and_name_only():
    a, b = fi.default_rng(42), fi.default_rng(42).advance(1000)
    b.stream("other")
    assert a.stream("wte").key == b.stream("wte").key
    keys = {
        a.key,
        a.stream("").key,
        a.stream("wte").key,
        a.stream("wpe").key,
        a.stream("wte").stream("wpe").key,
        a.stream("wpe").stream("wte").key,
        fi.default_rng(43).stream("wte").key,
        *(child.key for child in a.spawn(2)),
    }
    assert len(keys) == 9


def test_a_name_is_four_words_of_spawn_key():
    from hashlib import blake2b

    words = np.frombuffer(blake2b("h.0.größe".encode(), digest_size=16).digest(), "<u4")
    sequence = SeedSequence(42, spawn_key=tuple(map(int, words)))
    key = tuple(map(int, sequence.generate_state(2, np.uint64)))
    assert fi.default_rng(42).stream("h.0.größe").key == key


words = st.integers(0, 2**32 - 1) | st.integers(0, 2**130)


@given(
    words | st.lists(words, max_size=6) | st.lists(words, max_size=6).map(tuple),
    st.lists(words, max_size=4),
    st.sampled_from([4, 5, 8, 33]),
)
def test_the_key_of_a_name_is_that_of_numpys_seed_sequence(entropy, spawn_key, pool_size):
    """C mixes the name's words into the pool; NumPy mixes all anew."""
    parent = SeedSequence(entropy, spawn_key=tuple(spawn_key), pool_size=pool_size)
    child = fi.Generator(parent).stream("w")
    key = tuple(map(int, child.seed_seq.generate_state(2, np.uint64)))
    assert child.key == key
    grandchild = child.stream("x")
    assert grandchild.key == fi.Generator(grandchild.seed_seq).key
    assert grandchild.seed_seq.spawn_key[: len(spawn_key) + 4] == child.seed_seq.spawn_key


@pytest.mark.parametrize("word", [np.int64(3), np.uint32(3)])
def test_numpys_integers_in_a_seed_are_as_pythons(word):
    expected = fi.Generator(SeedSequence([3, 4], spawn_key=(3,))).stream("w").key
    assert fi.Generator(SeedSequence([word, 4], spawn_key=(3,))).stream("w").key == expected
    assert fi.Generator(SeedSequence([3, 4], spawn_key=(word,))).stream("w").key == expected


@pytest.mark.parametrize(
    "entropy",
    [
        np.arange(5, dtype=np.uint32),
        [np.int64(3), 4],
        pytest.param(
            [2, [4, 5]],
            marks=pytest.mark.skipif(
                np.lib.NumpyVersion(np.__version__) >= "2.5.0",
                reason="NumPy 2.5 and later refuse sequences in sequences",
            ),
        ),
    ],
)
def test_the_key_of_a_name_where_the_seed_is_of_another_kind(entropy):
    child = fi.Generator(SeedSequence(entropy)).stream("w")
    assert child.key == fi.Generator(child.seed_seq).key


def test_threads_share_the_seed_sequence_of_a_name():
    for _ in range(20):
        child = fi.default_rng(1).stream("w")
        with ThreadPoolExecutor(8) as pool:
            spawned = pool.map(child.spawn, [2] * 8)
            keys = [rng.key for children in spawned for rng in children]
        assert len(set(keys)) == 16


def test_seeds():
    key = fi.default_rng(42).key
    assert key == tuple(map(int, SeedSequence(42).generate_state(2, np.uint64)))
    assert fi.default_rng(np.int64(42)).key == key == fi.default_rng(SeedSequence(42)).key
    assert fi.default_rng([42]).key == key
    rng = fi.default_rng(1)
    assert fi.default_rng(rng) is rng
    assert fi.default_rng().key != fi.default_rng().key
    numpys = np.random.default_rng(1)
    first, second = fi.default_rng(numpys).key, fi.default_rng(numpys).key
    assert first != second
    assert first == fi.default_rng(np.random.default_rng(1)).key
    assert first == fi.default_rng(np.random.PCG64(1)).key


def test_pickle_copy_and_repr():
    rng = fi.default_rng([1, 2]).stream("w").advance(77)
    for twin in (pickle.loads(pickle.dumps(rng)), copy.copy(rng), copy.deepcopy(rng)):
        assert (twin.key, twin.position) == (rng.key, 77)
    assert twin.random() == rng.random()
    twin.random()
    assert rng.position == 78
    assert repr(fi.default_rng(3)) == "fastinit.Generator(entropy=3, spawn_key=(), position=0)"


def test_positions():
    rng = fi.default_rng(1)
    assert rng.advance(10).advance(-3).position == 7
    with pytest.raises(ValueError, match=r"n=-8 moves the position from 7 to -1; allowed: 0 to"):
        rng.advance(-8)
    with pytest.raises(TypeError, match=r"n=0\.5 must be an integer"):
        rng.advance(0.5)
    with pytest.raises(TypeError, match="name=3 must be a str"):
        rng.stream(3)
    with pytest.raises(ValueError, match="n_children=-1"):
        rng.spawn(-1)
    assert rng.position == 7


def test_threads_never_take_the_same_index():
    rng, taken = fi.default_rng(1), []

    def take():
        for _ in range(200):
            taken.append(rng.random(3).tobytes())

    threads = [threading.Thread(target=take) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert rng.position == 8 * 200 * 3
    assert len(set(taken)) == 8 * 200


def in_threads(work, count=8):
    """Return what threads, which switch as often as they can, list together."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(count) as pool:
            return [each for some in pool.map(lambda _: work(), range(count)) for each in some]
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("parent", [fi.default_rng(42), fi.PCG32(42)])
def test_threads_spawn_no_child_twice(parent):
    children = in_threads(lambda: [parent.spawn(1)[0].seed_seq.spawn_key for _ in range(300)])
    assert sorted(children) == [(i,) for i in range(8 * 300)]


def test_generators_of_one_sequence_spawn_no_child_twice():
    sequence = SeedSequence(42)
    ours, numpys = fi.default_rng(sequence), np.random.Generator(fi.PCG32(sequence))

    def spawn():
        for _ in range(200):
            yield ours.spawn(1)[0].seed_seq.spawn_key
            yield numpys.spawn(1)[0].bit_generator.seed_seq.spawn_key

    assert sorted(in_threads(lambda: list(spawn()))) == [(i,) for i in range(8 * 400)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.* was called:RuntimeWarning")  # JAX's, once it is there
def test_a_child_process_may_spawn_whatever_threads_its_parent_had():
    rng, done = fi.default_rng(42), threading.Event()

    def spawn():
        while not done.is_set():
            rng.spawn(1)

    thread = threading.Thread(target=spawn)
    thread.start()
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                signal.alarm(20)
                rng.spawn(1)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join()


def test_threads_that_advance_lose_no_step():
    rng = fi.default_rng(42)
    in_threads(lambda: [rng.advance(3).advance(-1) for _ in range(3000)])
    assert rng.position == 8 * 3000 * 2
    with pytest.raises(ValueError, match=r"moves the position from 48000 to -1; allowed: 0 to"):
        rng.advance(-1 - rng.position)
    with pytest.raises(ValueError, match=r"allowed: 0 to 2\*\*63"):
        rng.advance(10**400)
    assert rng.position == 8 * 3000 * 2
