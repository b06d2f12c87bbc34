"""The noun: `Initializer` is the function it names, and a value that can be kept and compared."""

import copy
import pickle

import numpy as np
import pytest
from catalogue import NAMES, NOT_RANDOM, spec
from hypothesis import given
from hypothesis import strategies as st

import fastinit as fi
from fastinit.initializer import GIVEN, parameters, registry


def test_the_registry_is_what_the_package_offers():
    public = {n for n in fi.__all__ if f"{n}_" in fi.__all__}
    assert set(registry()) == public
    assert all(registry()[name] is getattr(fi, f"{name}_") for name in public)


@pytest.mark.parametrize("name", NAMES)
def test_it_fills_as_the_function_does(name):
    arguments, least = spec(name).arguments, spec(name).least
    shape = (8, 12)[: max(least, 1)] if least < 2 else (8, 12)
    initializer = fi.Initializer(name, **arguments)
    x, y = np.empty(shape, np.float32), np.empty(shape, np.float32)
    assert initializer.fill(x, rng=3) is x
    random = {} if name in NOT_RANDOM else {"rng": 3}
    getattr(fi, f"{name}_")(y, **arguments, **random)
    assert x.tobytes() == y.tobytes()
    assert initializer.random is (name not in NOT_RANDOM)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_has_the_values_of_the_whole(name):
    initializer = fi.Initializer(name, **spec(name).arguments)
    whole = initializer.fill(np.empty((8, 12), np.float32), rng=3)
    part = np.empty((3, 5), np.float32)
    place = {"global_shape": (8, 12), "offset": (2, 4)}
    assert initializer.divisible
    initializer.fill(part, rng=3, **place)
    assert part.tobytes() == np.ascontiguousarray(whole[2:5, 4:9]).tobytes()


@pytest.mark.parametrize(
    ("text", "shape", "axes"),
    [
        ("orthogonal", (8, 4), (0,)),
        ("orthogonal", (4, 8), (1,)),
        ("orthogonal", (8, 8), (0,)),
        ("orthogonal(column_axis=0)", (8, 8), (1,)),
        ("orthogonal(column_axis=0)", (8, 2, 2, 3), (1, 2, 3)),
        ("orthogonal(column_axis=0)", (16, 2, 2, 3), (0,)),
        ("delta_orthogonal", (3, 3, 4, 8), (3,)),
        ("delta_orthogonal", (3, 3, 8, 8), (2,)),
        ("delta_orthogonal(in_axis=1, out_axis=0)", (8, 4, 3, 3), (0,)),
        ("sparse(sparsity=0.5)", (8, 4), (0,)),
        ("sparse(sparsity=0.5, axis=-1)", (8, 4), (1,)),
        ("he_normal", (8, 4), ()),
    ],
)
def test_the_axes_that_a_part_has_to_have_whole(text, shape, axes):
    assert fi.Initializer.parse(text).whole_axes(shape) == axes


def test_check_raises_what_fill_raises_and_allocates_nothing():
    fi.Initializer("normal", std=0.02).check((2**30, 2**30), "bfloat16")
    for initializer, shape, dtype in [
        (fi.Initializer("normal", std=-1.0), (3,), "float32"),
        (fi.Initializer("normal", std=1e39), (3,), "float32"),
        (fi.Initializer("normal"), (3,), "int32"),
        (fi.Initializer("he_normal"), (3,), "float32"),
        (fi.Initializer("embedding", padding=7), (7, 2), "float32"),
        (fi.Initializer("eye"), (3, 3, 3), "float32"),
        (fi.Initializer("constant", value=300), (3,), "uint8"),
    ]:
        with pytest.raises((TypeError, ValueError)) as checked:
            initializer.check(shape, dtype)
        with pytest.raises(checked.type) as filled:
            initializer.fill(np.empty(shape, dtype), rng=0)
        ours, fills = (str(error.value).split(": ", 1) for error in (checked, filled))
        assert ours == ["Initializer.check()", fills[1]]
        assert fills[0] == "Initializer.fill()"


def test_it_is_a_value():
    he = fi.Initializer("he_normal", nonlinearity="gelu")
    assert he == fi.Initializer("kaiming_normal", nonlinearity="gelu")
    assert he == fi.Initializer.parse(str(he))
    assert he != fi.Initializer("he_normal")
    assert he != "he_normal(nonlinearity='gelu')"
    assert len({he, fi.Initializer("he_normal", nonlinearity="gelu"), fi.Initializer("he")}) == 2
    for other in (pickle.loads(pickle.dumps(he)), copy.copy(he), copy.deepcopy(he)):
        assert other == he
    assert repr(he) == "Initializer('he_normal', nonlinearity='gelu')"
    assert str(fi.Initializer("zeros")) == "zeros"
    assert hash(fi.Initializer("variance_scaling", in_axis=[0, 1], out_axis=2))
    for change in (lambda: setattr(he, "name", "x"), lambda: setattr(he, "_name", "x")):
        with pytest.raises(AttributeError):
            change()
    with pytest.raises(TypeError):
        he.arguments["mode"] = "fan_out"


@given(
    st.sampled_from(NAMES),
    st.floats(allow_nan=False, allow_infinity=True),
    st.integers(-(10**20), 10**20),
)
def test_a_text_is_read_back_as_it_was(name, number, integer):
    arguments = dict(spec(name).arguments)
    for key in [k for k in parameters(name) if k not in GIVEN][:2]:
        arguments[key] = (number, integer, "a'\"\n", None, (0, -1))[len(key) % 5]
    initializer = fi.Initializer(name, **arguments)
    if not any(v in (float("inf"), -float("inf")) for v in arguments.values()):
        assert fi.Initializer.parse(str(initializer)) == initializer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("he", fi.Initializer("he_normal")),
        (" he_normal ", fi.Initializer("he_normal")),
        ("xavier", fi.Initializer("xavier_normal")),
        ("lecun", fi.Initializer("lecun_normal")),
        ("zeros", fi.Initializer("zeros")),
        ("zeros()", fi.Initializer("zeros")),
        ("normal:0.01", fi.Initializer("normal", std=0.01)),
        ("normal(std=0.02, mean=-1)", fi.Initializer("normal", std=0.02, mean=-1)),
        ("uniform:0.1", fi.Initializer("uniform", low=-0.1, high=0.1)),
        ("constant:2", fi.Initializer("constant", value=2.0)),
        ("orthogonal:1.4", fi.Initializer("orthogonal", gain=1.4)),
        ("lecun_normal(in_axis=(0, 1))", fi.Initializer("lecun_normal", in_axis=(0, 1))),
    ],
)
def test_texts(text, expected):
    assert fi.Initializer.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "name='' is unknown; allowed: "),
        ("hee", "name='hee' is unknown"),
        ("normal(sttd=1)", "normal has no argument 'sttd'; allowed: mean, std"),
        ("normal(rng=1)", "rng is given to fill"),
        ("normal(0.02)", "allowed: a name such as he_normal"),
        ("normal(std=x)", "allowed: a name such as"),
        ("normal(std=__import__('os'))", "allowed: a name such as"),
        ("normal(**{})", "allowed: a name such as"),
        ("normal(", "allowed: a name such as"),
        ("normal(std=1) + 1", "allowed: a name such as"),
        ("(" * 900, "allowed: a name such as"),
        ("x" * 1001, "1001 characters"),
        ("constant", "constant needs the argument value"),
        ("zeros:1", "no number may follow 'zeros'"),
        ("normal:x", "'x' is not a number"),
        ("normal:-1", "std=-1.0 must be 0 or greater"),
        ("he:0", "scale=0.0 must be positive"),
    ],
)
def test_texts_that_are_none(text, reason):
    with pytest.raises((TypeError, ValueError)) as error:
        fi.Initializer.parse(text)
    assert reason in str(error.value)
    assert len(str(error.value)) < 2500


def test_what_is_no_initializer():
    with pytest.raises(TypeError, match="text=3 must be a str"):
        fi.Initializer.parse(3)
    with pytest.raises(ValueError, match="name=3 is unknown"):
        fi.Initializer(3)
    with pytest.raises(TypeError, match="he_normal has no argument 'gain'"):
        fi.Initializer("he_normal", gain=2)
