"""Will it train? Signal and gradients of a network before its first step.

`probe` pushes a batch through a deep network, and random gradients back, for one or several
initializers; it measures what becomes of both, says what theory expects, gives a verdict, and
names what to use instead.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastinit._arguments import choice, integer
from fastinit._errors import type_error, value_error, with_name, without_name
from fastinit._files import appearing
from fastinit.advice import recommend
from fastinit.diagnostics import _mean_field, _verdict
from fastinit.diagnostics._activations import ACTIVATIONS, Array
from fastinit.diagnostics._model import Inside, outside
from fastinit.diagnostics._network import LayerTrace, Network, backward, jacobian
from fastinit.initializer import Initializer
from fastinit.random import Generator, default_rng

__all__ = ["Histogram", "Probe", "Setting", "Signal", "probe"]

SATURATED = 0.05
"""An active unit is saturated where its slope is below this part of the activation's largest.

For tanh this is beyond +-2.2, for sigmoid beyond +-4.4; for relu it is where the unit is off.
"""

_KERNEL = (3, 3)
_LARGEST_JACOBIAN = 2048  # rows and columns: a second or so for its singular values
_BINS = 61
_SHOWN = 5  # layers with a histogram, evenly spaced


Filler = Callable[[Array, Generator], object]
One = Initializer | str | Filler
Given = One | Sequence[One] | Mapping[str, One]


@dataclass(frozen=True)
class Setting:
    """What was probed, but for the weights.

    Parameters
    ----------
    widths : tuple of int
        Of the input and of each layer's output; channels for convolutions.
    activation : str
        A name in `fastinit.diagnostics._activations.ACTIVATIONS`.
    residual, layer_norm : bool
        Whether layers have skip connections, and LayerNorm.
    image : tuple of int, optional
        Height and width, for convolutions.
    """

    widths: tuple[int, ...]
    activation: str
    residual: bool = False
    layer_norm: bool = False
    image: tuple[int, int] | None = None

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.widths) - 1

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the weights: (in, out), or (3, 3, in, out) for convolutions."""
        kernel = _KERNEL if self.image else ()
        gated = ACTIVATIONS[self.activation].gated
        shapes: list[tuple[int, ...]] = []
        for n_in, n_out in pairwise(self.widths):
            if gated and self.residual and n_in == n_out:  # phi stands before the weight
                shapes.append((*kernel, n_in // 2, n_out))
            else:
                shapes.append((*kernel, n_in, 2 * n_out if gated else n_out))
        return shapes

    def weights(self, fill: Filler, rng: Generator) -> list[Array]:
        """Return each layer's weights, drawn from the stream of its name."""
        weights = []
        for layer, shape in enumerate(self.shapes, 1):
            weight = np.empty(shape)
            fill(weight, rng.stream(f"layer {layer}"))
            weights.append(weight)
        return weights

    def network(self, weights: Sequence[Array]) -> Network:
        """Return the network with these weights."""
        return Network(weights, self.activation, self.residual, self.layer_norm)

    def __str__(self) -> str:
        kind = "convolutions" if self.image else "dense layers"
        parts = [f"{self.depth} {kind}", f"{max(self.widths)} wide", self.activation]
        parts += ["skip connections"] * self.residual + ["LayerNorm"] * self.layer_norm
        return ", ".join(parts)


@dataclass(frozen=True)
class Histogram:
    """How a layer's activations are distributed.

    Parameters
    ----------
    layer : str
        The layer's number.
    std : float
        The activations' standard deviation.
    edges, density : array
        In units of the largest standard deviation of the layers that are shown, so that a signal
        that vanishes or explodes is seen to.
    """

    layer: str
    std: float
    edges: Array
    density: Array


@dataclass(frozen=True)
class Signal:
    """What was measured under one initializer. The first axis of all arrays is the seed.

    Parameters
    ----------
    name : str
        The initializer.
    layers : tuple of str
        The names of x_0 to x_L.
    mean, std : array
        Of the activations x_0 to x_L.
    gradient : array
        Standard deviation of dJ/dx_0 to dJ/dx_L, J = sum(x_L * g), g standard normal.
    saturation, dead : array
        Fractions, of layers 1 to L: of unit and sample pairs that are saturated (see
        `SATURATED`), and of units whose slope is 0 for the whole batch.
    weight_norm, gradient_norm : array
        Frobenius norms of W and dJ/dW of layers 1 to L, J averaged over the batch.
    loss_gradient : array
        Frobenius norms of dE/dW of layers 1 to L, E being the mean cross-entropy of ten classes,
        which a matrix of Xavier's reads from x_L; the labels are random. Of a PyTorch model, E is
        its own loss.
    singular_values : array
        Of d x_L / d x_0 for one sample, largest first; empty if not asked for.
    histograms : tuple of Histogram
        Of some layers, for the first seed.
    theory : Theory or None
        What mean-field theory expects of mean, std and gradient, for the seeds' mean scales.
    verdict : Verdict
        From the geometric means over the seeds.
    advice : str
        What to use instead; empty if healthy.
    inside : Inside or None
        What else is measured of a model whose weights are drawn when they are used.
    """

    name: str
    layers: tuple[str, ...]
    mean: Array
    std: Array
    gradient: Array
    saturation: Array
    dead: Array
    weight_norm: Array
    gradient_norm: Array
    loss_gradient: Array
    singular_values: Array
    histograms: tuple[Histogram, ...]
    theory: _mean_field.Theory | None
    verdict: _verdict.Verdict
    advice: str
    inside: Inside | None = None

    @property
    def weight_to_gradient(self) -> Array:
        """The norm of W over that of dJ/dW, layers 1 to L; infinity where the gradient is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.divide(self.weight_norm, self.gradient_norm)

    def out_of_range(self, dtype: str) -> tuple[str | None, str | None]:
        """Return the layers at which activations and gradients do not fit a format any more.

        They do not fit where the typical number, the standard deviation, is below the format's
        smallest normal number, or where the largest is above its largest. The largest activation is
        known of a model whose weights are drawn when they are used; otherwise, and for gradients,
        the standard deviation stands for it.

        Parameters
        ----------
        dtype : {"float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"}
            The format.

        Returns
        -------
        tuple of (str or None, str or None)
            The name of the first layer, from the input on, whose activations do not fit; and of the
            first layer from the output back whose gradient does not. None if all fit.

        Examples
        --------
        >>> (signal,) = fi.diagnostics.probe([64] * 21, "relu", "normal:0.01", seeds=[1])
        >>> signal.out_of_range("float16"), signal.out_of_range("bfloat16")
        (('4', '16'), (None, None))
        """
        std, gradient = map(_verdict.geometric_mean, (self.std, self.gradient))
        largest = None if self.inside is None else [std[0], *self.inside.largest]
        forward, back = outside(dtype, std, largest), outside(dtype, gradient[::-1])
        return (
            None if forward is None else self.layers[forward],
            None if back is None else self.layers[::-1][back],
        )

    @property
    def anisotropy(self) -> float:
        """The Jacobian's largest singular value over their root mean square, seeds averaged.

        1 if all n directions come through alike, sqrt(n) if one does; NaN if nothing is known.
        """
        if not self.singular_values.size:
            return math.nan
        with np.errstate(all="ignore"):
            relative = self.singular_values / self.singular_values.max(axis=1, keepdims=True)
            return float((1 / np.sqrt(np.mean(relative**2, axis=1))).mean())


@dataclass(frozen=True)
class Probe:
    """What `probe` returns: the setting, and one `Signal` for each initializer.

    Examples
    --------
    >>> print(fi.diagnostics.probe([64] * 21, "relu", ["he", "normal:0.01"], seeds=[1]))
    he           healthy: per layer the signal x 0.997, the gradient x 1.01
    normal:0.01  vanishing: per layer the signal x 0.0564, the gradient x 0.0569
    """

    setting: Setting | None  # None: a model of another library
    signals: tuple[Signal, ...]

    def __getitem__(self, name: str) -> Signal:
        for signal in self.signals:
            if signal.name == name:
                return signal
        raise KeyError(f"{name!r} was not probed; there are {', '.join(s.name for s in self)}")

    def __iter__(self) -> Iterator[Signal]:
        return iter(self.signals)

    def __str__(self) -> str:
        width = max(len(signal.name) for signal in self)
        return "\n".join(f"{signal.name:<{width}}  {signal.verdict}" for signal in self)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as what JSON can hold; numbers that are not finite become None.

        Examples
        --------
        >>> found = fi.diagnostics.probe([8, 8], "tanh", "xavier", seeds=[1]).as_dict()
        >>> found["setting"]["widths"], found["signals"][0]["verdict"]["kind"]
        ([8, 8], 'healthy')
        """
        everything: dict[str, Any] = plain(self)
        return everything

    def to_json(self, path: str | Path | None = None) -> str:
        """Return `as_dict` as JSON; write it to a file too, if one is given.

        Parameters
        ----------
        path : str or Path, optional
            The file; one that exists is replaced.

        Returns
        -------
        str
            The JSON text.

        Raises
        ------
        OSError
            If the file cannot be written; then no file appears.

        Examples
        --------
        >>> fi.diagnostics.probe([8, 8], "tanh", "xavier", seeds=[1]).to_json()[:25]
        '{"setting": {"widths": [8'
        """
        text = json.dumps(self.as_dict(), allow_nan=False)
        if path is not None:
            with appearing(Path(path)) as file:
                file.write(text.encode())
        return text

    def plot(self, panels: Sequence[str] | None = None) -> Any:
        """Return the probe's pictures as a matplotlib figure; it needs the extra ``probe``.

        Parameters
        ----------
        panels : sequence of {"depth", "histograms", "inside", "spectrum"}, optional
            Which of them; all that have something to show if it is not given.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``savefig`` writes it.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> found = fi.diagnostics.probe([16] * 5, "relu", "he", seeds=[1])
        >>> len(found.plot(["depth"]).axes)
        2
        """
        from fastinit.diagnostics import pictures

        return pictures.picture(self, panels=tuple(pictures.PANELS) if panels is None else panels)

    def _repr_html_(self) -> str:
        """Return a table for notebooks: each initializer, its verdict, and what to use instead."""
        rows = (
            (s.name, s.verdict.kind, f"{s.verdict.signal.rate:.3g}",
             f"{s.verdict.gradient.rate:.3g}", s.advice)
            for s in self
        )  # fmt: skip
        head = ("initializer", "verdict", "signal per layer", "gradient per layer", "instead")
        lines = ["".join(f"<th>{cell}</th>" for cell in head)]
        lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        caption = escape(str(self.setting or "a model"))
        return f"<table><caption>{caption}</caption>{table}</table>"


def plain(value: Any) -> Any:
    """Return what JSON can hold of arrays, dataclasses and named tuples; NaN and infinity as None.

    Examples
    --------
    >>> plain([np.array([1.0, np.inf])])
    [[1.0, None]]
    """
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def probe(
    layers: Sequence[int] | Sequence[Array],
    activation: str = "relu",
    initializer: Given | None = None,
    *,
    residual: bool = False,
    layer_norm: bool = False,
    image: tuple[int, int] | None = None,
    batch: int | Array = 256,
    seeds: Sequence[int] = (0, 1, 2),
    spectrum: bool = True,
    progress: Callable[[], object] = lambda: None,
) -> Probe:
    """Push a batch forward and gradients backward through a network that nobody has trained.

    With x_0 the batch, layer l is ``x_l = phi(norm(x_{l-1} W_l))``, or with skip connections
    ``x_l = x_{l-1} + phi(norm(x_{l-1})) W_l``, norm being LayerNorm or nothing. Back goes the
    gradient of ``J = sum(x_L * g)``, g standard normal. All in float64; no biases.

    Parameters
    ----------
    layers : sequence of int, or of arrays
        Widths: of the input and of each layer's output (channels, if `image` is given). Or the
        weights themselves, (in, out) each, or (height, width, in, out) for convolutions with
        `image`; then there is no initializer.
    activation : str
        linear, identity, tanh, sine, sigmoid, relu, leaky_relu (0.01), gelu (its tanh form), silu,
        swish, mish, elu, selu, softplus, relu2 (the square of relu) or swiglu. swiglu makes one
        number of two: its layers' weights have twice as many outputs, or with a skip connection
        half as many inputs.
    initializer : Initializer or str, a sequence of them, or a mapping
        One or several: an `Initializer`, or its text as `fastinit.Initializer.parse` takes it
        (``"he"``, ``["xavier", "normal:0.01"]``); a mapping gives each a name of its own, and
        may also hold functions ``fill(x, rng)``.
    residual : bool
        Skip connections around all layers with as many outputs as inputs.
    layer_norm : bool
        LayerNorm before each activation, without scale and shift.
    image : (int, int), optional
        Height and width of images: layers are 3 x 3 convolutions with wrapped borders.
    batch : int or array
        So many standard normal samples; or the samples, (samples, width) or (samples, height,
        width, channels).
    seeds : sequence of int
        The weights, the batch and g come from streams of each.
    spectrum : bool
        Whether to take the singular values of d x_L / d x_0, of one sample; beyond 2048 rows
        or columns they are left out.
    progress : callable
        Called after each seed of each initializer.

    Returns
    -------
    Probe
        For each initializer the measurements, theory's, a verdict and advice.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    References
    ----------
    X. Glorot, Y. Bengio, AISTATS 2010 (activations and gradients over the depth). B. Poole et
    al., NeurIPS 2016, and S. S. Schoenholz et al., ICLR 2017 (theory). J. Pennington,
    S. S. Schoenholz, S. Ganguli, NeurIPS 2017 (the Jacobian's singular values).

    Examples
    --------
    >>> found = fi.diagnostics.probe([64] * 51, "tanh", ["xavier", "normal:0.01", "zeros"])
    >>> [signal.verdict.kind for signal in found]
    ['healthy', 'vanishing', 'symmetric']
    """
    choice("activation", activation, ACTIVATIONS)
    if not seeds:
        raise value_error(f"seeds={seeds!r} must hold at least one seed")
    widths = _widths(layers, image)
    setting = Setting(widths, activation, residual, layer_norm, image)
    if ACTIVATIONS[activation].gated:
        _check_gated(setting, layers)
    signals, refused = [], []
    for name, draw in _sources(setting, layers, initializer).items():
        runs = []
        for seed in seeds:
            rng = default_rng(seed)
            x = _batch(setting, batch, rng)
            with np.errstate(all="ignore"):  # too large, too small: that is what is measured
                runs.append(_run(setting.network(draw(rng)), x, rng, spectrum))
            progress()
        signals.append(_signal(name, setting, runs))
        if signals[-1].verdict.kind != "healthy":
            refused.append(_Refused(name, [scale.forward for scale in _scales(runs)]))
    advice = _advice(setting, refused) if refused else ""
    return Probe(
        setting,
        tuple(
            signal if signal.verdict.kind == "healthy" else replace(signal, advice=advice)
            for signal in signals
        ),
    )


def _widths(
    layers: Sequence[int] | Sequence[Array], image: tuple[int, int] | None
) -> tuple[int, ...]:
    """Return the widths; raise if the layers do not fit together."""
    if all(isinstance(layer, np.ndarray) for layer in layers) and len(layers) > 0:
        return _widths_of_arrays(layers, 4 if image else 2)  # type: ignore[arg-type]
    if len(layers) < 2:
        raise value_error(f"layers={layers!r} must be two widths or more, or arrays")
    return tuple(integer("layers", width, 1, 2**31) for width in layers)


def _check_gated(setting: Setting, layers: Sequence[int] | Sequence[Array]) -> None:
    """Raise if a gated activation cannot be where the layers would have it."""
    if isinstance(layers[0], np.ndarray):
        raise value_error(
            f"activation={setting.activation!r} needs layers as widths; weights were given"
        )
    odd = [width for width in setting.widths if width % 2]
    if setting.residual and odd:
        raise value_error(
            f"layers={odd[0]} must be even for activation={setting.activation!r} with residual=True"
        )


def _widths_of_arrays(weights: Sequence[Array], ndim: int) -> tuple[int, ...]:
    shapes = [weight.shape for weight in weights]
    if any(len(shape) != ndim for shape in shapes) or any(
        before[-1] != after[-2] for before, after in pairwise(shapes)
    ):
        layout = "(height, width, in, out)" if ndim == 4 else "(in, out)"
        raise value_error(
            f"layers have the shapes {shapes}; allowed: {layout}, each in = the out before it"
        )
    return (shapes[0][-2], *(shape[-1] for shape in shapes))


def _sources(
    setting: Setting,
    layers: Sequence[int] | Sequence[Array],
    initializer: Given | None,
) -> dict[str, Callable[[Generator], Sequence[Array]]]:
    """Return by name how to get the weights."""
    given = isinstance(layers[0], np.ndarray)
    if given == (initializer is not None):
        raise value_error(
            f"initializer={initializer!r} must be None for weights that are given, else not None"
        )
    if initializer is None:
        weights = [np.asarray(layer, np.float64) for layer in layers]
        return {"given": lambda _: weights}
    if isinstance(initializer, str | Initializer) or callable(initializer):
        initializer = [initializer]
    if not isinstance(initializer, Mapping):
        initializer = {str(one): one for one in initializer}
    return {name: partial(setting.weights, filler(one)) for name, one in initializer.items()}


def filler(given: One) -> Filler:
    """Return the function that fills a layer's weights from a generator.

    Raises
    ------
    TypeError, ValueError
        If it is neither an initializer, nor the text of one, nor a function.

    Examples
    --------
    >>> filler("ones")(np.empty(2), fi.default_rng(1))
    array([1., 1.])
    """
    if isinstance(given, str):
        try:
            given = Initializer.parse(given)
        except (TypeError, ValueError) as error:
            reason = without_name(error).removeprefix("text=")
            raise type(error)(with_name(f"initializer={reason}")) from None
    if isinstance(given, Initializer):
        fill = given.fill
        return lambda x, rng: fill(x, rng=rng)
    if not callable(given):
        raise type_error(
            f"initializer={given!r} must be an Initializer, its text, or a function fill(x, rng)"
        )
    return given


def _batch(setting: Setting, batch: int | Array, rng: Generator) -> Array:
    """Return the samples: those given, or new ones."""
    one = (*(setting.image or ()), setting.widths[0])
    if isinstance(batch, np.ndarray):
        if batch.shape[1:] != one:
            raise value_error(f"batch has shape {batch.shape}; allowed: {('samples', *one)}")
        return batch.astype(np.float64)
    samples = integer("batch", batch, 1, 2**31)
    x: Array = rng.stream("batch").standard_normal((samples, *one))
    return x


class _Run(NamedTuple):
    """One seed's measurements; see `Signal`."""

    mean: list[float]
    std: list[float]
    gradient: list[float]
    saturation: list[float]
    dead: list[float]
    weight_norm: list[float]
    gradient_norm: list[float]
    loss_gradient: list[float]
    singular_values: Array
    histograms: tuple[Histogram, ...]
    symmetric: bool
    scales: list[_mean_field.Scale]
    second_moment: float


def _run(network: Network, x: Array, rng: Generator, spectrum: bool) -> _Run:
    traces = network.forward(x)
    output = traces[-1].output
    gradients = backward(traces, rng.stream("gradient").standard_normal(output.shape))
    by_weight = [
        layer.to_weight(gradient) / len(x)
        for layer, gradient in zip(traces, gradients[1:], strict=True)
    ]
    by_loss = _loss_gradients(traces, rng)
    signals = [x, *(layer.output for layer in traces)]
    flat = ACTIVATIONS[network.activation].steep() * SATURATED
    small = max(x[0].size, output[0].size) <= _LARGEST_JACOBIAN
    return _Run(
        mean=[float(signal.mean()) for signal in signals],
        std=[float(signal.std()) for signal in signals],
        gradient=[float(gradient.std()) for gradient in gradients],
        saturation=[float((abs(layer.slope) < flat).mean()) for layer in traces],
        dead=[_dead(layer.slope) for layer in traces],
        weight_norm=[float(np.linalg.norm(weight)) for weight in network.weights],
        gradient_norm=[float(np.linalg.norm(gradient)) for gradient in by_weight],
        loss_gradient=[float(np.linalg.norm(gradient)) for gradient in by_loss],
        singular_values=_spectrum(network, x[0]) if spectrum and small else np.empty(0),
        histograms=tuple(histograms(signals)),
        symmetric=_verdict.stuck(network.weights, by_loss),
        scales=[_mean_field.scale_of(weight, network.activation) for weight in network.weights],
        second_moment=float(np.mean(x**2)),
    )


def _loss_gradients(traces: Sequence[LayerTrace], rng: Generator) -> list[Array]:
    """Return dE/dW of each layer, E the mean cross-entropy of random labels among ten classes.

    A loss sees what the gradient of J does not: where all samples give the same output, the errors
    of different labels cancel.
    """
    output = traces[-1].output
    samples = len(output)
    flat = output.reshape(samples, -1)
    head = Initializer("xavier_normal").fill(
        np.empty((flat.shape[1], _CLASSES)), rng=rng.stream("head")
    )
    z = flat @ head
    e = np.exp(z - z.max(axis=1, keepdims=True))
    error = e / e.sum(axis=1, keepdims=True)
    labels = (_CLASSES * rng.stream("labels").random(samples)).astype(int)
    error[np.arange(samples), labels] -= 1
    error -= error.mean(axis=0)  # what a bias would learn says nothing of the layers
    gradients = backward(traces, (error @ head.T).reshape(output.shape) / samples)
    return [trace.to_weight(by) for trace, by in zip(traces, gradients[1:], strict=True)]


_CLASSES = 10


def _dead(slope: Array) -> float:
    """Return the fraction of units (the last axis) that are flat for the whole batch."""
    return float((slope == 0).all(axis=tuple(range(slope.ndim - 1))).mean())


def _spectrum(network: Network, x: Array) -> Array:
    matrix = jacobian(network, x)
    if not np.isfinite(matrix).all():
        return np.full(min(matrix.shape), np.nan)
    values: Array = np.linalg.svd(matrix, compute_uv=False)
    return values


def histograms(signals: Sequence[Array]) -> Iterator[Histogram]:
    """Yield the distributions of some of x_1 to x_L; none where all numbers are one, or too large.

    Examples
    --------
    >>> [h.layer for h in histograms([np.ones(3), np.arange(3.0)])]
    ['1']
    """
    layers = np.unique(np.linspace(1, len(signals) - 1, _SHOWN).round().astype(int))
    stds = {layer: float(signals[layer].std()) for layer in layers}
    stds = {layer: std for layer, std in stds.items() if 0 < std < math.inf}
    unit = max(stds.values(), default=1.0)
    for layer, std in stds.items():
        density, edges = np.histogram(signals[layer] / unit, _BINS, (-4, 4), density=True)
        yield Histogram(str(layer), std, edges, density)


def _signal(name: str, setting: Setting, runs: Sequence[_Run]) -> Signal:
    """Return what the seeds' runs say together."""
    series = {
        key: np.array([getattr(run, key) for run in runs])
        for key in _Run._fields[: _Run._fields.index("histograms")]
    }
    verdict = _verdict.judge(
        _verdict.geometric_mean(series["std"]),
        _verdict.geometric_mean(series["gradient"]),
        all(run.symmetric for run in runs),
        _verdict.geometric_mean(series["weight_norm"]),
        _verdict.geometric_mean(series["loss_gradient"]),
    )
    return Signal(
        name=name,
        layers=("input", *map(str, range(1, setting.depth + 1))),
        histograms=runs[0].histograms,
        theory=_theory(setting, _scales(runs), float(np.mean([run.second_moment for run in runs]))),
        verdict=verdict,
        advice="",
        inside=None,
        **series,
    )


def _theory(
    setting: Setting, scales: Sequence[_mean_field.Scale], second_moment: float = 1.0
) -> _mean_field.Theory:
    return _mean_field.predict(
        scales, setting.activation, setting.residual, setting.layer_norm, second_moment
    )


def _scales(runs: Sequence[_Run]) -> list[_mean_field.Scale]:
    """Return each layer's scale, the mean over the seeds."""
    return [
        _mean_field.mean_scale(layer) for layer in zip(*(run.scales for run in runs), strict=True)
    ]


class _Refused(NamedTuple):
    """What was not healthy: its name, and each layer's fan_in var(W)."""

    name: str
    scales: list[float]

    def is_(self, one: str, scales: Sequence[_mean_field.Scale]) -> bool:
        """Return whether it is this initializer, under whatever name or distribution."""
        alike = one.startswith("orthogonal") == self.name.startswith("orthogonal")
        return alike and np.allclose([s.forward for s in scales], self.scales, rtol=_SAME)


_SAME = 0.1  # of a scale: chance makes as much of a difference in narrow layers


def _advice(setting: Setting, refused: Sequence[_Refused]) -> str:
    """Return what theory finds healthy, with as little changed as possible.

    That is what `recommend` recommends, if it is healthy, or else what keeps the signal and the
    gradient most even.
    """
    for text, changes in _CHANGES.items():
        changed = replace(setting, **changes)
        healthy: dict[str, _verdict.Verdict] = {}
        for one in _candidates(changed):
            scales = _drawn_scales(changed, one)
            if changed == setting and any(other.is_(one, scales) for other in refused):
                continue
            theory = _theory(changed, scales)
            verdict = _verdict.judge(theory.std, theory.gradient)
            if verdict.kind == "healthy":
                healthy[one] = verdict
        if healthy:
            recommended = _candidates(changed)[0]
            flattest = min(healthy, key=lambda one: healthy[one].unevenness)
            return f"{recommended if recommended in healthy else flattest}{text}"
    return "fewer layers"


_CHANGES: dict[str, dict[str, Any]] = {
    "": {},
    " and LayerNorm": {"layer_norm": True},
    ", skip connections and LayerNorm": {"residual": True, "layer_norm": True},
    " and tanh": {"activation": "tanh"},
}
"""What to change besides the initializer, the least first."""


def _candidates(setting: Setting) -> tuple[str, ...]:
    """Return initializers to choose from, the best by reason first.

    That is what `recommend` recommends, but in a stack that has skips and no LayerNorm the branches
    scaled by its depth.
    """
    recommended = str(recommend(setting.activation, depth=setting.depth).initializer)
    scaled = tuple(f"{name}:{setting.depth**-0.5:.2g}" for name in ("he", "xavier"))
    if not setting.layer_norm and ACTIVATIONS[setting.activation].multiplies:
        return ()  # a product's tails are not those of theory: what is large gets larger
    if setting.residual and not setting.layer_norm:
        return (*scaled, recommended)
    return (recommended, "xavier", "he", *scaled)


def _drawn_scales(setting: Setting, initializer: str) -> list[_mean_field.Scale]:
    weights = setting.weights(filler(initializer), default_rng(0))
    return [_mean_field.scale_of(weight, setting.activation) for weight in weights]
