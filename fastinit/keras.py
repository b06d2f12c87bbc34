"""Keras 3: its initializers over fastinit's stream, on any of its backends.

``from fastinit import keras as init`` and ``Dense(8, kernel_initializer=init.HeNormal(seed=1))``;
docs/adapters.md on seeds and what is copied. Each is a subclass of Keras's own of the same name,
with its arguments and configuration, and is saved with a model as ``fastinit>HeNormal``.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from numpy.typing import NDArray

import fastinit
from fastinit import Initializer, _arguments
from fastinit._errors import SHAPE_AND_DTYPE, renamed, type_error, value_error
from fastinit._fill import FLOAT_FORMATS, as_dtype, empty, say_drawn_by

__all__ = [
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "LecunNormal",
    "LecunUniform",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "VarianceScaling",
]

# What Keras's constructors take by name.
_CHOICES = {
    "mode": ("fan_in", "fan_out", "fan_avg"),
    "distribution": ("truncated_normal", "untruncated_normal", "normal", "uniform"),
}


def _registered(ours: Any) -> Any:
    """Register a class to be saved with models; what its constructor refuses it calls by name."""
    theirs = ours.__init__

    @functools.wraps(theirs)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        try:
            theirs(self, *args, **kwargs)
        except Exception as error:  # Keras's own, which may name no argument
            _check(inspect.signature(theirs), (self, *args), kwargs)
            raise value_error(str(error)) from None

    ours.__init__ = __init__
    return keras.saving.register_keras_serializable(package="fastinit")(ours)


def _check(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise TypeError or ValueError if an argument is none that Keras's constructors take."""
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise type_error(str(error)) from None
    for name, value in given.items():
        if name in _CHOICES:
            _arguments.choice(name, value, _CHOICES[name])
        elif name == "scale":
            _arguments.positive(name, value)
        elif name == "seed" and not isinstance(value, keras.random.SeedGenerator | None):
            _arguments.integer(name, value)


class _Drawn(keras.initializers.Initializer):
    """The call of an initializer: before Keras's own class among the bases of each below."""

    seed: Any
    # What Keras calls our arguments.
    _names: ClassVar[Mapping[str, str]] = {"std": "stddev", "low": "minval", "high": "maxval"}

    def _ours(self, shape: tuple[int, ...]) -> Initializer:
        """Return what draws a tensor of that shape."""
        raise NotImplementedError

    def __call__(self, shape: Sequence[int], dtype: Any = None, layout: Any = None) -> Any:
        """Return a new tensor of the backend, filled.

        Parameters
        ----------
        shape : tuple of int
            Of the tensor.
        dtype : str, optional
            Keras's `floatx` unless given. What fastinit cannot draw, Keras refuses, or
            draws, which a warning says.
        layout : keras.distribution.TensorLayout or jax.sharding.Sharding, optional
            On the JAX backend: each device makes its own part, with the bits of the whole.

        Returns
        -------
        tensor
            With the values that fastinit's NumPy functions give for ``rng=seed``.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        try:
            name = keras.backend.standardize_dtype(
                keras.config.floatx() if dtype is None else dtype
            )
        except (TypeError, ValueError):
            raise type_error(f"dtype={_arguments.shown(dtype)} is no dtype of Keras's") from None
        if name not in FLOAT_FORMATS:
            drawn = super().__call__(shape, dtype)
            say_drawn_by("Keras", f"tensors of dtype {name}")
            return drawn
        lengths = _arguments.shape("shape", shape)
        ours = self._ours(lengths)
        try:
            ours.check(lengths, name)
        except (TypeError, ValueError) as error:
            raise renamed(error, {**SHAPE_AND_DTYPE, **self._names}) from None
        if keras.config.backend() == "jax":
            return _jax_array(self.seed, lengths, name, layout, ours)
        # A word may be negative: a backend's seeds may have a sign.
        high, low = (int(word) % 2**32 for word in _words(self.seed))
        x = empty(lengths, name)
        ours.fill(x, rng=(high << 32) + low)
        return _tensor(x)


def _words(seed: Any) -> tuple[Any, Any]:
    """Return a seed as two words, the high one first: an integer's, or a generator's next state.

    That is a seed and a counter, so that an integer and the first draw of a generator seeded
    with it are the same, as they are in Keras.
    """
    if isinstance(seed, keras.random.SeedGenerator):
        low, high = seed.next()
        return high, low
    return divmod(_arguments.integer("seed", seed) % 2**64, 2**32)


def _jax_array(
    seed: Any, shape: tuple[int, ...], dtype: str, layout: Any, initializer: Initializer
) -> Any:
    """Return an array made where JAX wants it; the seed may be traced."""
    import jax

    from fastinit.jax import draw

    known = jax.dtypes.canonicalize_dtype(as_dtype(dtype))  # no float64 without x64
    sharding = getattr(layout, "backend_layout", layout)
    mesh = jax.sharding.get_abstract_mesh()
    if isinstance(seed, keras.random.SeedGenerator):
        # Its state was made outside of the mesh of explicit axes that Keras calls us within.
        mesh = jax.typeof(seed.state.value).sharding.mesh
    with jax.sharding.use_abstract_mesh(mesh):
        words = jax.numpy.array(_words(seed), np.uint32)
    return draw(words, shape, known, sharding, initializer)


def _tensor(x: NDArray[Any]) -> Any:
    """Return the backend's tensor of an array; NumPy's and torch's share its memory."""
    backend = keras.config.backend()
    if backend == "numpy":
        return x
    if backend != "torch":
        return keras.ops.convert_to_tensor(x)
    import torch

    narrow = x.dtype.name == "bfloat16"  # of which torch knows NumPy's not
    tensor = torch.from_numpy(x.view(np.int16) if narrow else x)
    return keras.ops.convert_to_tensor(tensor.view(torch.bfloat16) if narrow else tensor)


@_registered
class RandomNormal(_Drawn, keras.initializers.RandomNormal):
    """Normals of mean `mean` and standard deviation `stddev`.

    Parameters
    ----------
    mean, stddev : float
        stddev >= 0.
    seed : int, keras.random.SeedGenerator, or None
        An integer gives the same values at each call, a generator others; None chooses an
        integer, from Python's `random`, when the initializer is made.

    Raises
    ------
    TypeError, ValueError
        When called, if an argument is not as described.

    Examples
    --------
    >>> w = init.RandomNormal(0.0, 0.02, seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.normal((2, 3), 0.0, 0.02, rng=42)).all())
    True
    """

    mean: float
    stddev: float

    def _ours(self, shape: tuple[int, ...]) -> Initializer:  # noqa: ARG002
        return Initializer(
            "normal",
            mean=_arguments.real("mean", self.mean),
            std=_arguments.real("stddev", self.stddev),
        )


@_registered
class TruncatedNormal(_Drawn, keras.initializers.TruncatedNormal):
    """Normals of mean `mean` and standard deviation `stddev`, cut at two of them on both sides.

    Parameters
    ----------
    mean, stddev : float
        Of the normal before it is cut.
    seed : int, keras.random.SeedGenerator, or None
        As in `RandomNormal`.

    Raises
    ------
    TypeError, ValueError
        As `RandomNormal`.

    Examples
    --------
    >>> w = init.TruncatedNormal(0.0, 0.02, seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.truncated_normal((2, 3), 0.0, 0.02, rng=42)).all())
    True
    """

    mean: float
    stddev: float

    def _ours(self, shape: tuple[int, ...]) -> Initializer:  # noqa: ARG002
        return Initializer(
            "truncated_normal",
            mean=_arguments.real("mean", self.mean),
            std=_arguments.real("stddev", self.stddev),
        )


@_registered
class RandomUniform(_Drawn, keras.initializers.RandomUniform):
    """Uniforms on [minval, maxval).

    Parameters
    ----------
    minval, maxval : float
        The bounds.
    seed : int, keras.random.SeedGenerator, or None
        As in `RandomNormal`.

    Raises
    ------
    TypeError, ValueError
        As `RandomNormal`.

    Examples
    --------
    >>> w = init.RandomUniform(-0.1, 0.1, seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.uniform((2, 3), -0.1, 0.1, rng=42)).all())
    True
    """

    minval: float
    maxval: float

    def _ours(self, shape: tuple[int, ...]) -> Initializer:  # noqa: ARG002
        return Initializer(
            "uniform",
            low=_arguments.real("minval", self.minval),
            high=_arguments.real("maxval", self.maxval),
        )


_DISTRIBUTIONS = {
    "truncated_normal": "truncated_normal",
    "untruncated_normal": "normal",
    "uniform": "uniform",
}


class _Scaled(_Drawn):
    """What `VarianceScaling` and its named cases draw: Keras computes their arguments."""

    scale: float
    mode: str
    distribution: str
    input_axes: Sequence[int] | None
    output_axes: Sequence[int] | None

    def _ours(self, shape: tuple[int, ...]) -> Initializer:
        fan_in, fan_out = _fans(shape, self.input_axes, self.output_axes)
        return Initializer(
            "variance_scaling",
            scale=_arguments.real("scale", self.scale),
            mode=self.mode,
            distribution=_DISTRIBUTIONS[self.distribution],
            fan_in=max(1, fan_in),
            fan_out=max(1, fan_out),
        )


def _fans(
    shape: tuple[int, ...], ins: Sequence[int] | None, outs: Sequence[int] | None
) -> tuple[int, int]:
    """Return Keras's fans: those of given axes without the rest, and some for less than two."""
    if ins is not None and outs is not None:
        ins, outs = _arguments.axes(shape, input_axes=ins, output_axes=outs)
        return math.prod(shape[axis] for axis in ins), math.prod(shape[axis] for axis in outs)
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    return fastinit.compute_fans(shape)


@_registered
class VarianceScaling(_Scaled, keras.initializers.VarianceScaling):
    """Values of variance scale / fan.

    Parameters
    ----------
    scale : float
        Positive.
    mode : {"fan_in", "fan_out", "fan_avg"}
        Which fan.
    distribution : {"truncated_normal", "untruncated_normal", "uniform"}
        What is drawn; "normal" is "truncated_normal".
    seed : int, keras.random.SeedGenerator, or None
        As in `RandomNormal`.
    input_axes, output_axes : list of int, optional
        Both: the fans are the products of these axes.

    Raises
    ------
    TypeError, ValueError
        As `RandomNormal`.

    Examples
    --------
    >>> w = init.VarianceScaling(2.0, "fan_out", "uniform", seed=42)((2, 3))
    >>> expected = fi.variance_scaling((2, 3), 2.0, "fan_out", "uniform", rng=42)
    >>> bool((np.asarray(w) == expected).all())
    True
    """


@_registered
class GlorotUniform(_Scaled, keras.initializers.GlorotUniform):
    """Uniforms on +- sqrt(6 / (fan_in + fan_out)).

    Parameters and raises are those of `VarianceScaling` from `seed` on.

    References
    ----------
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    Examples
    --------
    >>> w = init.GlorotUniform(seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.glorot_uniform((2, 3), rng=42)).all())
    True
    """


@_registered
class GlorotNormal(_Scaled, keras.initializers.GlorotNormal):
    """Truncated normals of standard deviation sqrt(2 / (fan_in + fan_out)).

    Parameters and raises are those of `VarianceScaling` from `seed` on.

    References
    ----------
    As `GlorotUniform`.

    Examples
    --------
    >>> w = init.GlorotNormal(seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.glorot_truncated_normal((2, 3), rng=42)).all())
    True
    """


@_registered
class LecunUniform(_Scaled, keras.initializers.LecunUniform):
    """Uniforms on +- sqrt(3 / fan_in).

    Parameters and raises are those of `VarianceScaling` from `seed` on.

    References
    ----------
    Y. LeCun et al., "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.

    Examples
    --------
    >>> w = init.LecunUniform(seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.lecun_uniform((2, 3), rng=42)).all())
    True
    """


@_registered
class LecunNormal(_Scaled, keras.initializers.LecunNormal):
    """Truncated normals of standard deviation sqrt(1 / fan_in).

    Parameters and raises are those of `VarianceScaling` from `seed` on.

    References
    ----------
    As `LecunUniform`.

    Examples
    --------
    >>> w = init.LecunNormal(seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.lecun_truncated_normal((2, 3), rng=42)).all())
    True
    """


@_registered
class HeUniform(_Scaled, keras.initializers.HeUniform):
    """Uniforms on +- sqrt(6 / fan_in).

    Parameters and raises are those of `VarianceScaling` from `seed` on.

    References
    ----------
    K. He et al., "Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet
    Classification", ICCV 2015.

    Examples
    --------
    >>> w = init.HeUniform(seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.he_uniform((2, 3), rng=42)).all())
    True
    """


@_registered
class HeNormal(_Scaled, keras.initializers.HeNormal):
    """Truncated normals of standard deviation sqrt(2 / fan_in).

    Parameters and raises are those of `VarianceScaling` from `seed` on.

    References
    ----------
    As `HeUniform`.

    Examples
    --------
    >>> w = init.HeNormal(seed=42)((2, 3))
    >>> bool((np.asarray(w) == fi.he_truncated_normal((2, 3), rng=42)).all())
    True
    """


@_registered
class Orthogonal(_Drawn, keras.initializers.Orthogonal):
    """`gain` times a random orthogonal matrix, its columns along the last axis.

    Parameters
    ----------
    gain : float
        All singular values.
    seed : int, keras.random.SeedGenerator, or None
        As in `RandomNormal`.

    Raises
    ------
    TypeError, ValueError
        As `RandomNormal`; and if the shape has not two axes or more.

    References
    ----------
    A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in
    deep linear neural networks", ICLR 2014.

    Examples
    --------
    >>> w = np.asarray(init.Orthogonal(seed=42)((3, 2)))
    >>> bool(np.allclose(w.T @ w, np.eye(2), atol=1e-6))
    True
    """

    gain: float

    def _ours(self, shape: tuple[int, ...]) -> Initializer:  # noqa: ARG002
        return Initializer("orthogonal", gain=_arguments.real("gain", self.gain))
