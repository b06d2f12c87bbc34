"""fastinit.torch against torch.nn.init: the same functions, over the stream."""

import doctest
import importlib
import inspect
import math
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from adapters import adapter
from scipy import stats

import fastinit as fi
from fastinit import _fill

# torch warns about its own matters, at import and later.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit")
torch = adapter("torch")
init = importlib.import_module("fastinit.torch")
tensors = importlib.import_module("fastinit.torch._tensor")
theirs = torch.nn.init

DTYPES = ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
RANDOM = ["uniform_", "normal_", "trunc_normal_"]
OF_FANS = ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"]
OWN = [name for name in init.__all__ if not hasattr(theirs, name)]


def bits(tensor):
    """Return the elements in C order as bytes."""
    flat = tensor.detach().contiguous()
    return (
        flat.view(torch.uint8).numpy().tobytes() if flat.ndim else flat.reshape(1).numpy().tobytes()
    )


def outcome(function, *args, **options):
    """Return what a call raises and warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            function(*args, **options)
            raised = None
        except Exception as error:
            raised = type(error), str(error)
    return raised, [(w.category, str(w.message)) for w in caught]


class TestTheSameFace:
    def test_every_function_is_there(self):
        assert set(theirs.__all__) <= set(init.__all__)

    @pytest.mark.parametrize("name", [n for n in theirs.__all__ if n.endswith("_")])
    def test_arguments_and_defaults(self, name):
        expected = inspect.signature(getattr(theirs, name)).parameters
        ours = inspect.signature(getattr(init, name)).parameters
        more = {k for k, p in ours.items() if p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD)}
        assert more <= {"global_shape", "offset", "fans"}
        assert {k: p.default for k, p in ours.items() if k not in more} == {
            k: p.default for k, p in expected.items()
        }
        assert [k for k in ours if k not in more] == list(expected)

    @pytest.mark.parametrize("name", [*RANDOM, *OF_FANS, "orthogonal_", "eye_", "zeros_", "ones_"])
    def test_the_tensor_is_returned(self, name):
        w = torch.empty(4, 5)
        assert getattr(init, name)(w) is w

    @pytest.mark.parametrize(
        ("name", "shape", "arguments"),
        [
            ("uniform_", (3,), {"a": 1.0, "b": 0.0}),
            ("uniform_", (3,), {"a": 0.0, "b": math.inf}),
            ("uniform_", (3,), {"a": "0"}),
            ("normal_", (3,), {"std": -1.0}),
            ("normal_", (3,), {"mean": None}),
            ("trunc_normal_", (3,), {"a": 2.0, "b": 1.0}),
            ("trunc_normal_", (3,), {"std": 0.0}),
            ("trunc_normal_", (3,), {"mean": 9.0}),
            ("trunc_normal_", (3,), {"mean": 9.0, "std": 0.1}),
            ("xavier_uniform_", (3,), {}),
            ("xavier_normal_", (3, 4), {"gain": -1.0}),
            ("xavier_uniform_", (3, 4), {"gain": -1.0}),
            ("xavier_uniform_", (0, 0), {}),
            ("kaiming_uniform_", (3,), {}),
            ("kaiming_uniform_", (3, 0), {}),
            ("kaiming_normal_", (3, 0), {}),
            ("kaiming_normal_", (3, 4), {"mode": "fan"}),
            ("kaiming_normal_", (3, 4), {"nonlinearity": "other"}),
            ("kaiming_uniform_", (3, 4), {"a": "much"}),
            ("orthogonal_", (3,), {}),
            ("sparse_", (3,), {"sparsity": 0.1}),
            ("sparse_", (3, 4), {"sparsity": "0.1"}),
            ("eye_", (3,), {}),
            ("dirac_", (3,), {}),
            ("dirac_", (3, 4, 5), {"groups": 2}),
            ("normal", (3,), {}),
            ("kaiming_uniform", (3, 4), {}),
            ("constant", (3,), {"val": 1.0}),
        ],
    )
    def test_what_torch_refuses_is_refused_by_name_and_warnings_are_torchs(
        self, name, shape, arguments
    ):
        expected = outcome(getattr(theirs, name), torch.zeros(shape), **arguments)
        assert expected != (None, [])
        w = torch.zeros(shape)
        error, warned = outcome(getattr(init, name), w, **arguments)
        assert warned == expected[1]
        with init.accelerate(1):  # a function of torch's stays torch's
            assert outcome(getattr(theirs, name), torch.zeros(shape), **arguments) == expected
        if expected[0] is None or (name, shape) == ("xavier_uniform_", (0, 0)):  # nothing to fill
            assert error is None
            return
        kind, text = error
        assert kind in (TypeError, ValueError)
        assert text.startswith(f"{name}(): ")
        assert all(f"{argument}=" in text for argument in arguments if name != "sparse_")
        assert not w.any()

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("normal_", {"std": -1.0}),
            ("uniform_", {"a": 2.0, "b": 1.0}),
            ("trunc_normal_", {"std": -1.0}),
            ("truncated_normal_", {"low": 2.0, "high": 1.0}),
            ("kaiming_normal_", {"mode": "x"}),
            ("variance_scaling_", {"scale": -1.0}),
            ("orthogonal_", {"gain": "x"}),
            ("sparse_", {"sparsity": 2.0}),
        ],
    )
    @pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
    def test_a_generator_of_torchs_stays_where_it_is_if_an_argument_is_refused(
        self, name, arguments, dtype
    ):
        if dtype.is_complex and name not in ("normal_", "uniform_"):
            pytest.skip("torch refuses the dtype, some of it after it has drawn")
        generator = torch.Generator().manual_seed(3)
        before = generator.get_state()
        with pytest.raises((TypeError, ValueError, RuntimeError)):
            getattr(init, name)(torch.empty(4, 6, dtype=dtype), **arguments, generator=generator)
        assert torch.equal(generator.get_state(), before)

    @pytest.mark.parametrize("name", RANDOM)
    def test_memory_that_overlaps_is_refused_as_by_torch(self, name):
        w = torch.zeros(1).expand(5)
        expected = outcome(getattr(theirs, name), w)
        assert expected[0][0] is RuntimeError
        (kind, text), warned = outcome(getattr(init, name), w)
        assert (kind, warned) == (ValueError, [])
        assert text.startswith(f"{name}(): tensor has overlapping elements: shape (5,)")

    @pytest.mark.parametrize("name", [*RANDOM, *OF_FANS, "orthogonal_"])
    def test_meta_tensors_are_left_alone(self, name):
        w = torch.empty(3, 4, device="meta")
        state = torch.random.get_rng_state()
        assert getattr(init, name)(w) is w
        assert getattr(init, name)(w, generator=1) is w
        with init.accelerate():
            assert getattr(theirs, name)(w) is w
        assert torch.equal(torch.random.get_rng_state(), state)

    @pytest.mark.parametrize("name", RANDOM)
    @pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1, 1, 1)])
    def test_small_shapes(self, name, shape):
        w = torch.full(shape, 7.0)
        assert getattr(init, name)(w, generator=1) is w
        assert w.shape == shape
        assert not (w == 7.0).any()

    def test_what_fastinit_cannot_fill_torch_does(self, monkeypatch):
        monkeypatch.setattr(_fill, "_said", set())
        w = torch.empty(1000, dtype=torch.complex64).conj()
        with pytest.warns(UserWarning, match="PyTorch drew the values of a tensor of dtype"):
            init.normal_(w, 5.0, generator=3)
        again = init.normal_(torch.empty(1000, dtype=torch.complex64).conj(), 5.0, generator=3)
        assert torch.equal(w, again)
        assert abs(w.imag.mean() - 5) < 0.2

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
    @pytest.mark.parametrize("shift", [0.0, 5.0])
    def test_complex_numbers_have_torchs_distributions(self, shift, dtype):
        """The bounds and the mean are those of both parts; the variance is that of the number."""
        w = init.normal_(torch.empty(10**5, dtype=dtype), shift, 2.0, generator=3)
        for part in (w.real, w.imag):
            assert abs(part.mean() - shift) < 0.03
            assert abs(part.std() - 2**0.5) < 0.03
        w = init.uniform_(torch.empty(10**5, dtype=dtype), shift - 1, shift + 1, generator=3)
        for part in (w.real, w.imag):
            assert shift - 1 <= part.min() < shift - 0.99
            assert shift + 0.99 < part.max() <= shift + 1
        assert abs(torch.corrcoef(torch.view_as_real(w).T)[0, 1]) < 0.02

    @pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
    @pytest.mark.parametrize("name", ["normal_", "kaiming_normal_", "xavier_normal_"])
    def test_complex_normals_are_those_of_numpys_face(self, name, dtype):
        w = torch.empty(30, 40, dtype=dtype)
        version = w._version
        assert getattr(init, name)(w, generator=3) is w
        assert w._version > version
        numpys = {"kaiming_normal_": "he_normal_"}.get(name, name)
        layout = {} if name == "normal_" else {"in_axis": 1, "out_axis": 0}
        expected = getattr(fi, numpys)(np.empty((30, 40), w.numpy().dtype), rng=3, **layout)
        assert (w.numpy() == expected).all()
        part = torch.empty(40, 7, dtype=dtype).T
        getattr(init, name)(part, generator=3, global_shape=(30, 40), offset=(23, 0))
        assert torch.equal(part, w[23:])
        torch.manual_seed(5)
        first = getattr(init, name)(torch.empty_like(w))
        torch.manual_seed(5)
        assert torch.equal(first, getattr(init, name)(torch.nn.Parameter(torch.empty_like(w))))
        assert abs(first.real.var() / first.imag.var() - 1) < 0.3

    def test_calls_by_other_modes_and_subclasses(self):
        class Named(torch.Tensor):
            pass

        w = torch.zeros(5).as_subclass(Named)
        with pytest.warns(UserWarning, match="PyTorch drew the values of a Named, a subclass"):
            assert init.normal_(w) is w
        assert w.all()


class TestTheStream:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", RANDOM)
    def test_values_are_the_cores(self, name, dtype):
        w = torch.zeros(37, 53, dtype=getattr(torch, dtype))
        getattr(init, name)(w, generator=42)
        expected = getattr(fi, name)(fi.zeros((37, 53), dtype=dtype), rng=42)
        assert bits(w) == expected.tobytes()

    @pytest.mark.parametrize("name", [*OF_FANS, *(n for n in OWN if n.endswith("normal_"))])
    @pytest.mark.parametrize("shape", [(37, 53), (8, 4, 3, 3)])
    def test_values_by_fans_are_the_cores(self, name, shape):
        options = {} if name == "truncated_normal_" else {"in_axis": 1, "out_axis": 0}
        w = getattr(init, name)(torch.zeros(shape), generator=42)
        expected = getattr(fi, name)(fi.zeros(shape), rng=42, **options)
        assert bits(w) == expected.tobytes()

    @pytest.mark.parametrize("distribution", ["normal", "uniform", "truncated_normal"])
    @pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
    def test_variance_scaling_is_the_cores(self, mode, distribution):
        w = init.variance_scaling_(torch.zeros(37, 53), 2.0, mode, distribution, generator=42)
        expected = fi.variance_scaling(
            (37, 53), 2.0, mode, distribution, in_axis=1, out_axis=0, rng=42
        )
        assert bits(w) == expected.tobytes()

    def test_variance_scaling_refuses(self):
        with pytest.raises(ValueError, match="mode='fan' is unknown; allowed: fan_in"):
            init.variance_scaling_(torch.zeros(3, 4), mode="fan")
        with pytest.raises(ValueError, match="distribution='n' is unknown; allowed: normal"):
            init.variance_scaling_(torch.zeros(3, 4), distribution="n")

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_layout_does_not_matter(self, dtype):
        def filled(make):
            return bits(init.normal_(make(getattr(torch, dtype)), generator=7))

        whole = filled(lambda d: torch.zeros(6, 8, 10, 12, dtype=d))
        assert whole == filled(
            lambda d: torch.zeros(6, 8, 10, 12, dtype=d).to(memory_format=torch.channels_last)
        )
        assert whole == filled(lambda d: torch.zeros(12, 24, 20, 12, dtype=d)[::2, ::3, ::2])
        assert whole == filled(lambda d: torch.zeros(12, 10, 8, 6, dtype=d).permute(3, 2, 1, 0))

    def test_bfloat16_needs_no_ml_dtypes(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
        for name in [*RANDOM, "orthogonal_"]:
            getattr(init, name)(torch.empty(8, 9, dtype=torch.bfloat16), generator=1)

    def test_orthogonal(self):
        for shape in [(5, 9), (9, 5), (6, 3, 2, 2)]:
            w = init.orthogonal_(torch.empty(shape, dtype=torch.float64), 2.0, generator=1)
            m = w.reshape(shape[0], -1)
            m = m if m.shape[0] <= m.shape[1] else m.T
            assert torch.allclose(m @ m.T, 4 * torch.eye(len(m), dtype=m.dtype), atol=1e-12)
            numpys = fi.orthogonal(shape, 2.0, 0, rng=1, dtype="float64")
            assert torch.equal(w, torch.from_numpy(numpys))
        narrow = init.orthogonal_(torch.empty(40, 50, dtype=torch.bfloat16), generator=1)
        wide = init.orthogonal_(torch.empty(40, 50), generator=1)
        assert torch.equal(narrow, wide.bfloat16())

    @pytest.mark.parametrize("gain", [1e5, float("nan"), float("inf")])
    def test_a_gain_that_the_dtype_cannot_hold_moves_no_generator(self, gain):
        rng, w = fi.default_rng(3), torch.zeros(4, 4, dtype=torch.float16)
        with pytest.raises(ValueError, match=r"gain=.*float16|gain=.*finite"):
            init.orthogonal_(w, gain, generator=rng)
        assert rng.position == 0
        assert not w.any()

    def test_sparse(self):
        w = init.sparse_(torch.empty(50, 30), 0.3, generator=1)
        assert ((w == 0).sum(dim=0) == 15).all()
        assert torch.equal(w, init.sparse_(torch.empty(50, 30), 0.3, generator=1))


class TestGenerators:
    def test_manual_seed_rules(self):
        def two(seed):
            torch.manual_seed(seed)
            return bits(init.normal_(torch.empty(50))), bits(init.normal_(torch.empty(50)))

        first, second = two(1)
        assert first != second
        assert two(1) == (first, second) != two(2)

    def test_a_torch_generator_moves_on(self):
        def two():
            g = torch.Generator().manual_seed(5)
            return [bits(init.uniform_(torch.empty(50), generator=g)) for _ in range(2)]

        state = torch.random.get_rng_state()
        first, second = two()
        assert first != second
        assert two() == [first, second]
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_a_fastinit_generator_moves_on(self):
        rng = fi.default_rng(5)
        parts = [bits(init.normal_(torch.empty(n), generator=rng)) for n in (33, 44)]
        assert rng.position == 77
        assert b"".join(parts) == fi.normal(77, rng=5).tobytes()

    def test_others_are_refused(self):
        w = torch.zeros(5)
        with pytest.raises(TypeError, match="generator='42' is not a seed"):
            init.normal_(w, generator="42")
        with pytest.raises(ValueError, match="generator=-1 is not a seed"):
            init.kaiming_uniform_(w[None], generator=-1)
        assert not w.any()

    def test_threads_draw_different_keys(self):
        keys, lock = [], threading.Lock()

        def draw():
            mine = [tensors.cursor(None).key for _ in range(500)]
            with lock:
                keys.extend(mine)

        workers = [threading.Thread(target=draw) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(set(keys)) == 2000

    def test_a_signals_handler_draws_a_key_of_its_own(self, monkeypatch):
        words, x, y = tensors._Words(), torch.empty(50), torch.empty(50)
        draw = words.draw

        def interrupted():
            draw()
            init.normal_(y)

        words.draw = interrupted
        monkeypatch.setattr(tensors, "_words", [words])
        torch.manual_seed(0)
        init.normal_(x)
        words.draw = draw
        torch.manual_seed(0)
        assert bits(x) == bits(init.normal_(torch.empty(50)))
        assert bits(y) == bits(init.normal_(torch.empty(50)))

    def test_first_use_under_inference_mode_and_on_meta(self):
        def first():
            with torch.inference_mode(), torch.device("meta"):
                init.normal_(torch.zeros(3, device="cpu"))
            init.normal_(torch.zeros(3))
            done.append(True)

        done = []
        worker = threading.Thread(target=first)
        worker.start()
        worker.join()
        assert done


class TestAutograd:
    @pytest.mark.parametrize("name", RANDOM)
    def test_parameters(self, name):
        p = torch.nn.Parameter(torch.zeros(4, 5))
        getattr(init, name)(p)
        assert p.requires_grad
        assert p.is_leaf
        assert p.grad_fn is None
        assert p.any()

    @pytest.mark.parametrize("name", [*RANDOM, "orthogonal_", "sparse_"])
    def test_the_version_counter(self, name):
        w = torch.zeros(4, 5, requires_grad=True)
        y = (w**2).sum()
        before = w._version
        getattr(init, name)(w, *[0.1] if name == "sparse_" else [])
        assert w._version > before
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()

    def test_views_share_it(self):
        base = torch.zeros(4, 5)
        init.normal_(base[1:3, ::2])
        assert base._version > 0


@pytest.mark.parametrize(
    ("name", "arguments", "cdf"),
    [
        ("uniform_", {"a": -1.0, "b": 3.0}, stats.uniform(-1, 4).cdf),
        ("normal_", {"mean": 1.0, "std": 2.0}, stats.norm(1, 2).cdf),
        ("trunc_normal_", {"mean": 1.0, "std": 2.0}, stats.truncnorm(-1.5, 0.5, 1, 2).cdf),
        ("trunc_normal_", {"mean": 0.0, "std": 0.1, "a": 0.3}, stats.truncnorm(3, 20, 0, 0.1).cdf),
        ("truncated_normal_", {"std": 0.1, "low": -1}, stats.truncnorm(-1, 2, 0, 0.1).cdf),
    ],
)
@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
def test_distributions(name, arguments, cdf):
    w = getattr(init, name)(torch.empty(10**5), **arguments, generator=1)
    assert stats.kstest(w.numpy(), cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", init.__all__)
def test_docstring_examples(name):
    thing = getattr(init, name)
    assert inspect.getdoc(thing)
    if not getattr(thing, "__module__", "").startswith("fastinit"):
        return  # torch's own
    names = {"init": init, "torch": torch, **{n: getattr(init, n) for n in init.__all__}}
    tests = doctest.DocTestFinder().find(thing, name, module=False, globs=names)
    runner = doctest.DocTestRunner(verbose=False)
    for test in tests:
        runner.run(test)
    results = runner.summarize(verbose=False)
    if not name.endswith("_") and hasattr(theirs, name):
        return  # deprecated, and says no more than so
    assert results.attempted > 0
    assert results.failed == 0


def test_numpy_scalars_and_tensors_as_arguments():
    w = init.normal_(torch.empty(100), np.float32(1), np.float64(0), generator=1)
    assert (w == 1).all()
    assert (init.normal_(torch.empty(100), torch.tensor(1.0), torch.tensor(0.0)) == 1).all()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"model": 3}, TypeError, "model=3 must be a torch.nn.Module"),
        ({"seed": True}, TypeError, "seed=True is not a seed"),
        ({"recipe": 3}, TypeError, "recipe=3 must be a Recipe, or its name or path"),
        ({"only": "weight"}, TypeError, "only='weight' must be a collection of names"),
        ({"missing": 3}, TypeError, "missing=3 must be a collection of names"),
        ({"prefix": None}, TypeError, "prefix=None must be a str"),
        ({"rename": "x"}, TypeError, "rename='x' is not a function"),
    ],
)
def test_initialize_refuses_wrong_values_by_name(given, error, message):
    model = torch.nn.Linear(2, 3)
    before = model.weight.detach().clone()
    with pytest.raises(error, match=message):
        init.initialize(**{"model": model, "seed": 1, **given})
    assert torch.equal(before, model.weight)


@pytest.mark.parametrize("name", ["normal_", "orthogonal_"])
def test_a_generator_that_is_none_is_refused_by_name(name):
    with pytest.raises(TypeError, match="generator='x' is not a seed"):
        getattr(init, name)(torch.zeros(2, 2), generator="x")


@pytest.mark.parametrize("shape", [(40, 13), (13, 40), (7, 5, 6), (33, 1)])
@pytest.mark.parametrize("name", ["orthogonal_", "sparse_", "eye_", "dirac_"])
def test_strips_are_parts_of_the_whole(monkeypatch, name, shape):
    """Of a dtype that is not the one it is made in, or on a device, a matrix is made in strips."""
    if name in ("sparse_", "eye_") and len(shape) != 2:
        pytest.skip("of matrices")
    shape = (*shape, 3) if name == "dirac_" and len(shape) == 2 else shape
    arguments = {"sparsity": 0.3} if name == "sparse_" else {}
    if name in ("orthogonal_", "sparse_"):
        arguments["generator"] = 5
    fill = getattr(init, name)
    whole = fill(torch.empty(shape), **arguments)
    module = importlib.import_module("fastinit.torch.init")
    monkeypatch.setattr(module, "LINES", 2)
    monkeypatch.setattr(module, "_STRIP_BYTES", 4)
    strips = []
    cut = module._strips
    monkeypatch.setattr(module, "_strips", lambda *a: strips.extend(cut(*a)) or cut(*a))
    narrow = fill(torch.empty(shape, dtype=torch.bfloat16), **arguments)
    assert torch.equal(narrow, whole.to(torch.bfloat16))
    if name in ("orthogonal_", "sparse_"):
        assert len(strips) > 1 or min(shape) == 1
    turned = torch.empty(shape[::-1]).permute(*reversed(range(len(shape))))
    assert torch.equal(fill(turned, **arguments), whole)


IMPORT = """
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
with FakeTensorMode():
    import fastinit.torch
assert fastinit.torch.normal_(torch.zeros(9)).count_nonzero() == 9
"""


def test_imported_while_tensors_have_no_memory():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, timeout=99
    )
    assert done.returncode == 0, done.stderr
