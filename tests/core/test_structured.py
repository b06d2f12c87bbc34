"""Orthogonal, sparse, delta and Hadamard matrices, and weights in blocks."""

import math

import numpy as np
import pytest
from scipy.linalg import hadamard
from scipy.stats import chi2, ks_1samp, norm

import fastinit as fi


@pytest.mark.parametrize("shape", [(50, 50), (80, 30), (30, 80), (3, 4, 5, 6), (2, 3, 70), (1, 9)])
@pytest.mark.parametrize("column_axis", [-1, 0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_orthogonal(shape, column_axis, dtype):
    x = fi.orthogonal(shape, 1.5, column_axis, rng=1, dtype=dtype)
    matrix = np.moveaxis(x, column_axis, -1).reshape(-1, shape[column_axis]) / 1.5
    gram = matrix.T @ matrix if len(matrix) >= matrix.shape[1] else matrix @ matrix.T
    assert np.abs(gram - np.eye(len(gram))).max() < (1e-13 if dtype == "float64" else 2e-6)


def test_orthogonal_is_haar():
    """Without the signs of R's diagonal the eigenvalues avoid each other's place on the circle.

    The trace's square has mean 1, and its fourth power 3 (Diaconis, Shahshahani 1994); a sign
    fixed wrongly changes them: E tr^2 of NumPy's plain Q is some 0.4 n.
    """
    rng = fi.default_rng(3)
    traces = np.array([np.trace(fi.orthogonal((8, 8), rng=rng)) for _ in range(4000)])
    assert abs(traces.mean()) < 5 / math.sqrt(4000)
    assert abs((traces**2).mean() - 1) < 5 * math.sqrt(2 / 4000)
    assert abs((traces**4).mean() - 3) < 5 * math.sqrt(96 / 4000)


def test_orthogonal_takes_the_tensors_indices():
    rng = fi.default_rng(1)
    fi.orthogonal((3, 5), rng=rng)
    assert rng.position == 15
    assert (fi.orthogonal((3, 5), rng=1) == fi.orthogonal((3, 5), rng=1)).all()
    assert (fi.orthogonal((3, 5), rng=1) != fi.orthogonal((3, 5), rng=2)).any()


def test_negative_gain_is_a_factor():
    assert (fi.orthogonal((5, 3), -2.0, rng=1) == -2 * fi.orthogonal((5, 3), rng=1)).all()


@pytest.mark.parametrize(("rows", "columns"), [(30, 80), (80, 30), (50, 50)])
def test_scaled_orthogonal_has_the_elements_variance_of_lecun(rows, columns):
    x = fi.orthogonal((rows, columns), 1.5, scaled=True, rng=1, dtype="float64")
    assert math.isclose((x**2).mean(), 1.5**2 / rows, rel_tol=1e-12)


def test_delta_orthogonal_keeps_norms():
    x = fi.delta_orthogonal((3, 4, 5, 6), 2.0, rng=1, dtype="float64")
    centre = x[1, 2]
    assert np.allclose(centre @ centre.T, 4 * np.eye(5))
    assert np.count_nonzero(x) == centre.size
    assert (centre == fi.orthogonal((5, 6), 2.0, rng=1, dtype="float64")).all()
    pytorch = fi.delta_orthogonal((6, 5, 3, 4), in_axis=1, out_axis=0, rng=1, dtype="float64")
    assert np.allclose(pytorch[:, :, 1, 2], centre.T / 2)
    with pytest.raises(ValueError, match=r"x has 6 inputs and 5 outputs; .* no fewer outputs"):
        fi.delta_orthogonal((3, 6, 5))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sparsity", [0, 0.07, 0.1, 0.5, 1])
def test_sparse_counts(axis, sparsity):
    x = fi.sparse((100, 300) if axis == 0 else (300, 100), sparsity, axis=axis, rng=1)
    zeros = (x == 0).sum(axis=axis)
    assert (zeros == round(100 * sparsity)).all()


def test_sparse_counts_are_those_of_the_written_number():
    """0.07 * 100 is 7.000000000000001, and its ceiling 8."""
    assert ((fi.sparse((100, 50), 0.07, rng=1) == 0).sum(axis=0) == 7).all()
    assert ((fi.sparse((10, 50), 0.01, rng=1) == 0).sum(axis=0) == 1).all()


def test_sparse_places_are_uniform_and_each_columns_own():
    zero = fi.sparse((50, 20000), 0.3, rng=1) == 0
    assert len({column.tobytes() for column in zero.T}) == 20000
    expected = 20000 * 0.3
    # Zeros of a row: binomial, but without replacement in each column, hence 49/50 of chi^2.
    statistic = ((zero.sum(axis=1) - expected) ** 2).sum() / (expected * 0.7) * 49 / 50
    assert chi2(49).ppf(1e-4) < statistic < chi2(49).ppf(1 - 1e-4)
    # Neighbouring columns agree as often as independent ones: 0.3 * 0.3 of the places.
    both = (zero[:, 1:] & zero[:, :-1]).mean()
    assert abs(both - 0.09) < 5 * 0.29 / math.sqrt(50 * 20000)


def test_sparse_zeros_do_not_depend_on_the_values():
    """The others are whole normals: no size is more likely to become zero."""
    x = fi.sparse((1000, 500), 0.5, std=2.0, rng=1, dtype="float64")
    assert ks_1samp(x[x != 0] / 2, norm.cdf).pvalue > 1e-4


def test_sparse_long_columns():
    """Longer than the temporary: a column at a time, and its count still exact."""
    x = fi.sparse((300_003, 3), 0.25, rng=1)
    assert ((x == 0).sum(axis=0) == math.ceil(300_003 / 4)).all()


@pytest.mark.parametrize("outputs", [2, 4, 8, 64])
def test_hadamard(outputs):
    inputs = outputs - 1
    bits = outputs.bit_length() - 1
    expected = 2 ** (-(bits - 1) / 2) * hadamard(outputs)[:inputs]
    assert np.allclose(fi.hadamard((inputs, outputs), dtype="float64"), expected)


def test_hadamard_breaks_the_symmetry_of_outputs():
    x = fi.hadamard((5, 37))
    assert len({column.tobytes() for column in x.T}) >= 8  # 2^ceil(log2 5) different ones
    assert (fi.hadamard((7, 5)) == np.eye(7, 5)).all()
    assert (fi.hadamard((3, 3, 7, 5)) == fi.dirac((3, 3, 7, 5))).all()


def test_identities_of_other_dtypes():
    assert (fi.eye((2, 3), dtype="int8") == np.eye(2, 3)).all()
    assert (fi.dirac((3, 2, 2), dtype="bool").sum(axis=0) == np.eye(2)).all()
    with pytest.raises(TypeError, match=r"gain=0\.5 must be an integer"):
        fi.eye((2, 3), 0.5, dtype="int8")


def test_a_dirac_convolution_hands_its_input_on():
    signal = fi.normal((2, 9), rng=1)
    kernel = fi.dirac((3, 2, 2))  # kernel, in, out
    padded = np.pad(signal, ((0, 0), (1, 1)))
    out = sum(kernel[k].T @ padded[:, k : k + 9] for k in range(3))
    assert np.array_equal(out, signal)


def test_embedding():
    x = fi.embedding((10, 6), 3, 0.02, rng=1)
    plain = fi.normal((10, 6), std=0.02, rng=1)
    assert (x[3] == 0).all()
    assert (np.delete(x, 3, axis=0) == np.delete(plain, 3, axis=0)).all()
    assert (fi.embedding((10, 6), rng=1) == fi.normal((10, 6), rng=1)).all()


BLOCKS = [3, 0, 5, 2]


@pytest.mark.parametrize("initializer", [fi.xavier_uniform_, fi.orthogonal_, fi.normal_])
def test_blocks_are_tensors_of_their_own(initializer):
    rng = fi.default_rng(1)
    x = fi.blocks_(np.empty((4, 10)), initializer, BLOCKS, rng=rng)
    single, begin = fi.default_rng(1), 0
    for size in BLOCKS:
        piece = initializer(np.empty((4, size)), rng=single)
        assert (x[:, begin : begin + size] == piece).all()
        begin += size
    assert rng.position == single.position == 40


@pytest.mark.parametrize("cut", range(11))
def test_parts_of_blocks(cut):
    def fill(x, **part):
        return fi.blocks_(x, fi.he_normal_, BLOCKS, axis=0, rng=1, nonlinearity="tanh", **part)

    whole = fill(np.empty((10, 4)))
    parts = [
        fill(np.empty((n, 4)), global_shape=(10, 4), offset=(at, 0))
        for at, n in ((0, cut), (cut, 10 - cut))
    ]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_orthogonal_blocks_on_the_process_that_holds_them():
    whole = fi.blocks_(np.empty((10, 4)), fi.orthogonal_, [5, 5], axis=0, rng=1)
    for at in (0, 5):
        part = fi.blocks_(
            np.empty((5, 4)),
            fi.orthogonal_,
            [5, 5],
            axis=0,
            rng=1,
            global_shape=(10, 4),
            offset=(at, 0),
        )
        assert (part == whole[at : at + 5]).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: fi.dirac_(x, 3), ValueError, "groups=3 must divide the number of outputs, 8"),
        (lambda x: fi.dirac_(x, 0), ValueError, "groups=0 must divide"),
        (lambda x: fi.dirac_(x, 1.0), TypeError, "groups=1.0 must be an integer"),
        (lambda x: fi.dirac_(x, in_axis=2), ValueError, "in_axis=2 is not an axis of shape"),
        (lambda x: fi.dirac_(x, in_axis=-1), ValueError, "in_axis=-1 and out_axis=-1 must be diff"),
        (lambda x: fi.dirac_(x, gain=1e39), ValueError, r"gain=1e\+39 must be finite in float32"),
        (lambda x: fi.delta_(x, "1"), TypeError, "gain='1' must be a real number"),
        (lambda x: fi.eye_(x[None]), ValueError, r"x has shape \(1, 6, 8\); eye_ allows two axes"),
        (lambda x: fi.orthogonal_(x[0]), ValueError, r"x has shape \(8,\); orthogonal_ allows two"),
        (lambda x: fi.orthogonal_(x, 1e39), ValueError, r"gain=1e\+39 must be finite in float32"),
        (lambda x: fi.orthogonal_(x, column_axis=2), ValueError, "column_axis=2 is not an axis"),
        (lambda x: fi.orthogonal_(x, rng="a"), TypeError, "rng='a' is not a seed"),
        (lambda x: fi.delta_orthogonal_(x, rng="a"), TypeError, "rng='a' is not a seed"),
        (lambda x: fi.delta_orthogonal_(x, threads=0), ValueError, "threads=0 must be 1 to 1024"),
        (lambda x: fi.sparse_(x, 1.5), ValueError, "sparsity=1.5 must be 0 to 1"),
        (lambda x: fi.sparse_(x, math.nan), ValueError, "sparsity=nan must be 0 to 1"),
        (lambda x: fi.sparse_(x, "half"), TypeError, "sparsity='half' must be a real number"),
        (lambda x: fi.sparse_(x, 0.5, std=-1), ValueError, "std=-1.0 must be 0 or greater"),
        (lambda x: fi.sparse_(x[None], 0.5), ValueError, "sparse_ allows two axes"),
        (lambda x: fi.sparse_(x, 0.5, axis=2), ValueError, "axis=2 is not an axis"),
        (lambda x: fi.embedding_(x, 6), ValueError, "padding=6 is not a row of a table of shape"),
        (lambda x: fi.embedding_(x, -1), ValueError, "padding=-1 is not a row"),
        (lambda x: fi.hadamard_(x.view(np.int32)), TypeError, "x has dtype 'int32'; allowed: fl"),
        (lambda x: fi.blocks_(x, fi.normal_, [3, 3]), ValueError, "sizes=.3, 3. must be lengths"),
        (lambda x: fi.blocks_(x, fi.normal_, [9, -1]), ValueError, "must not be negative"),
        (lambda x: fi.blocks_(x, fi.normal_, [8], axis=2), ValueError, "axis=2 is not an axis"),
        (lambda x: fi.blocks_(x, fi.normal_, [8], std=-1), ValueError, "std=-1.0"),
    ],
)
def test_refused_arguments_leave_the_array_untouched(call, error, message):
    x = np.full((6, 8), 7, np.float32)
    with pytest.raises(error, match=message):
        call(x)
    assert (x == 7).all()
