"""fan_in and fan_out: how many inputs an output has, and how many outputs an input."""

from __future__ import annotations

import math

from fastinit._arguments import Axes, Shape, axes, positive
from fastinit._arguments import shape as check_shape


def compute_fans(
    shape: Shape, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = ()
) -> tuple[int, int]:
    """Return (fan_in, fan_out): how many inputs feed an output, and how many an input feeds.

    The axes to give for weights that are not (..., in, out):

    ================================== =========================== =======================
    weight                             NumPy, JAX, Keras           PyTorch
    ================================== =========================== =======================
    dense, convolution                 (the default)               in_axis=1, out_axis=0
    transposed convolution             (the default)               in_axis=0, out_axis=1
    attention, (in, heads, out)        in_axis=0, out_axis=(1, 2)
    experts, (experts, in, out)        batch_axis=0
    embedding, (entries, width)        none: give fan_in           none: give fan_in
    depthwise, (..., 1, channels)      out_axis=(), batch_axis=-1  in_axis=1, out_axis=(),
                                                                   batch_axis=0
    ================================== =========================== =======================

    PyTorch's own function and Keras's count a depthwise or grouped convolution's outputs as
    if each input fed them all, as the default axes here do. A weight of no axis or one has no
    fans, as in PyTorch and JAX: name its axes (``in_axis=0, out_axis=()``), or give the
    initializer fan_in and fan_out. (Keras has 1 and 1, and n and n.)

    Parameters
    ----------
    shape : tuple of int
        Of the whole tensor, also where a process holds a part of it.
    in_axis, out_axis, batch_axis : int or tuple of int
        The axes of inputs, of outputs, and of independent weights, as in JAX: by default the
        last two are (in, out), and all others (a convolution's kernel) count in both fans.

    Returns
    -------
    tuple of int
        The two fans, in elements.

    Raises
    ------
    TypeError, ValueError
        If `shape` is no shape, or the axes are not in it, or not distinct.

    Examples
    --------
    >>> fi.compute_fans((3, 3, 16, 32))  # height, width, in, out
    (144, 288)
    """
    lengths = check_shape("shape", shape)
    ins, outs, batch = axes(
        lengths,
        "; for such a weight give fan_in and fan_out",
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )
    receptive = math.prod(n for a, n in enumerate(lengths) if a not in ins + outs + batch)
    n_in, n_out = (math.prod(lengths[a] for a in group) for group in (ins, outs))
    return n_in * receptive, n_out * receptive


def fan_of(
    shape: tuple[int, ...],
    mode: str,
    axes: tuple[Axes, Axes, Axes],
    fan_in: float | None,
    fan_out: float | None,
) -> float:
    """Return the fan of a mode; the shape is asked only for what is not given."""
    given = {"fan_in": fan_in, "fan_out": fan_out}
    for name, fan in given.items():
        if fan is not None:
            positive(name, fan)
    wanted = {mode: given[mode]} if mode in given else given
    computed = compute_fans(shape, *axes) if None in wanted.values() else (0, 0)
    from_shape = dict(zip(given, computed, strict=True))
    fans = [from_shape[name] if fan is None else fan for name, fan in wanted.items()]
    return math.sqrt(math.prod(fans)) if mode == "fan_geo_avg" else sum(fans) / len(fans)
