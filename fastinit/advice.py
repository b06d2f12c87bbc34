"""Which initializer for which layer, why, and who says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fastinit._arguments import choice, integer, shown
from fastinit._errors import value_error
from fastinit.gains import ACTIVATIONS
from fastinit.initializer import Initializer

_DEEP = 20  # layers from which on we advise orthogonal weights; our own choice


class Recommendation(NamedTuple):
    """An initializer with its arguments, why it is the one, and the source.

    Examples
    --------
    >>> fi.recommend("relu").initializer
    Initializer('he_normal', nonlinearity='relu')
    """

    initializer: Initializer
    reason: str
    source: str

    def __str__(self) -> str:
        return f"{self.initializer}: {self.reason}.\nSource: {self.source}."


def recommend(
    activation: str = "relu", layer: str = "dense", depth: int | None = None
) -> Recommendation:
    """Return which initializer to use for a layer's weights, and why.

    Parameters
    ----------
    activation : str
        What follows the layer: linear, identity, tanh, sine, sigmoid, relu, leaky_relu, gelu,
        silu, swish, mish, elu, selu, softplus, relu2 (the square of relu) or swiglu, as in
        `fastinit.diagnostics.probe`.
    layer : str
        dense or conv; attention (query, key and value); residual (the last one of a residual
        branch); recurrent (from state to state); embedding; output (the last of the model);
        norm (the scale of a normalisation); bias.
    depth : int, optional
        How many layers or residual blocks the model has. The residual layer needs it. From 20
        layers on a dense or conv layer's advice says what else they need.

    Returns
    -------
    Recommendation
        ``print`` shows it in two lines.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> print(fi.recommend("relu"))
    he_normal(nonlinearity='relu'): a rectifier halves the second moment, and the gain makes up for it.
    Source: K. He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """  # noqa: E501  an output has no line breaks of ours
    choice("activation", activation, ACTIVATIONS)
    choice("layer", layer, _LAYERS)
    if depth is not None and integer("depth", depth) < 1:
        raise value_error(f"depth={shown(depth)} must be 1 or greater")
    if depth is None and layer == "residual":
        raise value_error("layer='residual' needs depth, the number of residual blocks")
    return _LAYERS[layer](activation, depth or 1)


_GLOROT = (
    'X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural '
    'networks", AISTATS 2010'
)
_HE = 'K. He et al., "Delving Deep into Rectifiers", ICCV 2015'


def _hidden(activation: str, depth: int) -> Recommendation:
    deep = depth >= _DEEP
    if activation == "selu":
        return Recommendation(
            Initializer("lecun_normal"),
            "self-normalising layers need the variance 1 / fan_in exactly",
            'G. Klambauer et al., "Self-Normalizing Neural Networks", NeurIPS 2017',
        )
    if activation in ("tanh", "sine", "linear", "identity"):
        # The gain is 1. With tanh's customary 5/3 fifty layers of 64 units made the gradient 145
        # times as large; with 1 both signal and gradient stay within a factor of 7. Of ten layers
        # and fewer all gains from 1 to 5/3 learn digits to within 0.02 nats.
        if deep:
            return Recommendation(
                Initializer("orthogonal"),
                "orthogonal weights keep all directions of a signal alike through many layers",
                'J. Pennington, S. Schoenholz, S. Ganguli, "Resurrecting the sigmoid", '
                "NeurIPS 2017",
            )
        siren = "; SIREN's layers, with the sine of 30 z, have the recipe siren"
        return Recommendation(
            Initializer("xavier_uniform"),
            "near 0 the activation is linear, and the mean of both fans serves signal and gradient"
            + (siren if activation == "sine" else ""),
            _GLOROT,
        )
    if activation == "sigmoid":
        return Recommendation(
            Initializer("xavier_uniform"),
            "a slope of at most 1/4 shrinks gradients by that in each layer" + _FEW[deep],
            _GLOROT,
        )
    initializer = Initializer("he_normal", nonlinearity=activation)
    if activation in ("relu", "leaky_relu"):
        reason = "a rectifier halves the second moment, and the gain makes up for it"
        return Recommendation(initializer, reason, _HE)
    reason = "the gain 1 / sqrt(E f(z)^2) keeps the second moment, as He's does for rectifiers"
    return Recommendation(
        initializer, reason + _needs(activation, deep), f"{_HE}, eq. 10 with this activation"
    )


_FEW = (
    ": for few layers only",
    ": so many layers need skip connections and LayerNorm, or another activation",
)


def _needs(activation: str, deep: bool) -> str:
    """Return what else such layers need, by mean-field theory (`fastinit.diagnostics`)."""
    if activation in ("relu2", "swiglu"):
        kind = {"relu2": "a square", "swiglu": "a product of two"}[activation]
        return (
            f"; {kind} doubles any error of the scale: it needs LayerNorm or RMSNorm, and skip "
            "connections"
        )
    if activation == "softplus":
        return "; its slope shrinks gradients by half in each layer" + _FEW[deep]
    if activation in ("gelu", "silu", "swish", "mish") and deep:
        return "; any error grows by 6 to 19 % in each layer: put LayerNorm before the activation"
    return ""


def _recurrent(activation: str, _: int) -> Recommendation:
    if activation in ("relu", "leaky_relu"):
        return Recommendation(
            Initializer("eye"),
            "a rectified state is then kept as it is until there is a reason to change it",
            'Q. V. Le, N. Jaitly, G. Hinton, "A Simple Way to Initialize Recurrent Networks of '
            'Rectified Linear Units", 2015',
        )
    return Recommendation(
        Initializer("orthogonal"),
        "applied again and again, it neither lets a state vanish nor explode",
        'A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of '
        'learning in deep linear neural networks", ICLR 2014',
    )


def _residual(_: str, depth: int) -> Recommendation:
    return Recommendation(
        Initializer("normal", std=0.02 / (2 * depth) ** 0.5),
        f"0.02 / sqrt(2 * {depth}): two branches in each of {depth} blocks add up to one",
        'A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, '
        "section 2.3",
    )


def _fixed(
    initializer: Initializer, reason: str, source: str
) -> Callable[[str, int], Recommendation]:
    return lambda _activation, _depth: Recommendation(initializer, reason, source)


_LAYERS: dict[str, Callable[[str, int], Recommendation]] = {
    "dense": _hidden,
    "conv": _hidden,
    "attention": _fixed(
        Initializer("xavier_uniform"),
        "queries and keys are multiplied and not rectified; fill a fused weight by blocks_",
        'A. Vaswani et al., "Attention Is All You Need", NeurIPS 2017, in tensor2tensor',
    ),
    "residual": _residual,
    "recurrent": _recurrent,
    "embedding": _fixed(
        Initializer("embedding", std=0.02),
        "rows are looked up and not summed, so that fans do not matter",
        'A. Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, '
        "section 4.1",
    ),
    "output": _fixed(
        Initializer("lecun_normal"),
        "nothing follows that would change the variance: logits of variance 1",
        'Y. LeCun et al., "Efficient BackProp", 1998',
    ),
    "norm": _fixed(
        Initializer("ones"),
        "what was normalised stays so",
        'S. Ioffe, C. Szegedy, "Batch Normalization", ICML 2015',
    ),
    "bias": _fixed(
        Initializer("zeros"),
        "weights alone break the symmetry between outputs",
        'K. He et al., "Delving Deep into Rectifiers", ICCV 2015, section 2.2',
    ),
}
