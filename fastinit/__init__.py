"""fastinit fills the weight buffers of neural networks, in place, at the speed of memory.

    value = f(stream version, key, index, distribution and its parameters, dtype)

Nothing else enters: the same seed gives the same bits on every machine, for any number of
threads, and for any part of a tensor.

>>> w = np.empty((4096, 4096), np.float32)
>>> fi.xavier_uniform_(w, rng=42) is w
True
"""

from importlib import import_module as _import_module
from importlib.machinery import PathFinder as _PathFinder
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _PathFinder.find_spec("fastinit._kernels", __path__) is None:
    raise ImportError(
        f"fastinit in {__path__[0]} is source text whose compiled part is missing. If fastinit is "
        "installed, start Python in another folder; to use this source, run "
        "'pip install --editable .' in the folder above"
    )

from fastinit import _kernels, _settings
from fastinit._allocating import (
    a_log,
    arange,
    constant,
    delta,
    delta_orthogonal,
    dirac,
    dt_bias,
    embedding,
    eye,
    geomspace,
    glorot_normal,
    glorot_truncated_normal,
    glorot_uniform,
    hadamard,
    he_normal,
    he_truncated_normal,
    he_uniform,
    identity,
    kaiming_normal,
    kaiming_truncated_normal,
    kaiming_uniform,
    lecun_normal,
    lecun_truncated_normal,
    lecun_uniform,
    log_uniform,
    normal,
    ones,
    orthogonal,
    sinusoid,
    sparse,
    trunc_normal,
    truncated_normal,
    uniform,
    variance_scaling,
    xavier_normal,
    xavier_truncated_normal,
    xavier_uniform,
    zeros,
)
from fastinit._capi import capi, get_include, values_at
from fastinit._settings import get_num_threads, set_backend, set_num_threads
from fastinit.advice import Recommendation, recommend
from fastinit.fans import compute_fans
from fastinit.formulas import a_log_, arange_, dt_bias_, geomspace_, log_uniform_, sinusoid_
from fastinit.gains import calculate_gain
from fastinit.initializer import Initializer
from fastinit.initializers import (
    constant_,
    glorot_normal_,
    glorot_truncated_normal_,
    glorot_uniform_,
    he_normal_,
    he_truncated_normal_,
    he_uniform_,
    kaiming_normal_,
    kaiming_truncated_normal_,
    kaiming_uniform_,
    lecun_normal_,
    lecun_truncated_normal_,
    lecun_uniform_,
    normal_,
    ones_,
    trunc_normal_,
    truncated_normal_,
    uniform_,
    variance_scaling_,
    xavier_normal_,
    xavier_truncated_normal_,
    xavier_uniform_,
    zeros_,
)
from fastinit.random import Generator, default_rng
from fastinit.standardize import lsuv_, normalize_, standardize_
from fastinit.structured import (
    blocks_,
    delta_,
    delta_orthogonal_,
    dirac_,
    embedding_,
    eye_,
    hadamard_,
    identity_,
    orthogonal_,
    sparse_,
)

if _TYPE_CHECKING:
    from fastinit._bit_generator import PCG32

__version__ = "0.1.0"

__all__ = [
    "PCG32",
    "Generator",
    "Initializer",
    "Recommendation",
    "__version__",
    "a_log",
    "a_log_",
    "arange",
    "arange_",
    "blocks_",
    "calculate_gain",
    "capi",
    "compute_fans",
    "constant",
    "constant_",
    "default_rng",
    "delta",
    "delta_",
    "delta_orthogonal",
    "delta_orthogonal_",
    "dirac",
    "dirac_",
    "dt_bias",
    "dt_bias_",
    "embedding",
    "embedding_",
    "eye",
    "eye_",
    "geomspace",
    "geomspace_",
    "get_include",
    "get_num_threads",
    "glorot_normal",
    "glorot_normal_",
    "glorot_truncated_normal",
    "glorot_truncated_normal_",
    "glorot_uniform",
    "glorot_uniform_",
    "hadamard",
    "hadamard_",
    "he_normal",
    "he_normal_",
    "he_truncated_normal",
    "he_truncated_normal_",
    "he_uniform",
    "he_uniform_",
    "identity",
    "identity_",
    "info",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_truncated_normal",
    "kaiming_truncated_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "lecun_normal",
    "lecun_normal_",
    "lecun_truncated_normal",
    "lecun_truncated_normal_",
    "lecun_uniform",
    "lecun_uniform_",
    "log_uniform",
    "log_uniform_",
    "lsuv_",
    "normal",
    "normal_",
    "normalize_",
    "ones",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "recommend",
    "set_backend",
    "set_num_threads",
    "sinusoid",
    "sinusoid_",
    "sparse",
    "sparse_",
    "standardize_",
    "trunc_normal",
    "trunc_normal_",
    "truncated_normal",
    "truncated_normal_",
    "uniform",
    "uniform_",
    "values_at",
    "variance_scaling",
    "variance_scaling_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_truncated_normal",
    "xavier_truncated_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros",
    "zeros_",
]


# Imported when they are asked for: `import fastinit` needs NumPy alone, and little time.
_SUBPACKAGES = frozenset(
    (
        "benchmark",
        "checkpoint",
        "cuda",
        "dask",
        "diagnostics",
        "jax",
        "keras",
        "numba",
        "recipe",
        "torch",
    )
)


def __getattr__(name: str) -> _Any:
    if name in _SUBPACKAGES:
        return _import_module(f"fastinit.{name}")
    if name == "PCG32":
        return _import_module("fastinit._bit_generator").PCG32
    raise AttributeError(f"module 'fastinit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES})


def info() -> dict[str, _Any]:
    """Return what this installation is: versions, stream, instruction set, threads, backend.

    ``"cuda"`` is how the memory of NVIDIA's GPUs is filled: by kernels of its own, or else, for
    PyTorch's tensors, drawn on the CPU and copied, with the reason why.

    Examples
    --------
    >>> fi.info()["stream"]
    'fastinit-3'
    """
    from fastinit import cuda

    reason = cuda.missing()
    return {
        "version": __version__,
        "stream": _kernels.STREAM,
        "abi": _kernels.ABI,
        "isa": _kernels.isa(),
        "isas": _kernels.isas(),
        "threads": get_num_threads(),
        "backend": _settings.backend_name,
        "cuda": f"drawn on the CPU: {reason}" if reason else "kernels",
    }


_settings.read_environment()

# Errors, pickles and documentation name what a user writes, and not the file that it stands in.
for _name in __all__:
    if hasattr(globals().get(_name), "__module__"):
        globals()[_name].__module__ = "fastinit"
