"""Every public initializer, with arguments that any of its tests can use."""

from typing import Any, NamedTuple

import fastinit as fi

# An alias is the same function, with another's name.
NAMES = sorted(n for n in fi.__all__ if f"{n}_" in fi.__all__ and getattr(fi, n).__name__ == n)
NOT_RANDOM = {"constant", "zeros", "ones", "delta", "dirac", "eye", "hadamard"}
NOT_RANDOM |= {"arange", "geomspace", "sinusoid"}


class Spec(NamedTuple):
    """What an initializer needs, and for which numbers of axes it is."""

    arguments: dict[str, Any]
    least: int = 0
    most: int = 5


def spec(name: str) -> Spec:
    """Return an initializer's needs; a name that is not among these takes fans from two axes."""
    known = {
        "constant": Spec({"value": 0.25}),
        "zeros": Spec({}),
        "ones": Spec({}),
        "uniform": Spec({}),
        "normal": Spec({}),
        "truncated_normal": Spec({"low": -1, "high": 3}),
        "trunc_normal": Spec({"a": -0.5, "b": 0.7}),
        "embedding": Spec({"padding": 0}, least=1),
        "sparse": Spec({"sparsity": 0.4}, least=2, most=2),
        "log_uniform": Spec({"low": 0.001, "high": 0.1}),
        "dt_bias": Spec({}),
        "a_log": Spec({"low": 1, "high": 8}),
        "arange": Spec({"start": 2}, least=1),
        "geomspace": Spec({"start": 1, "stop": 0.01}, least=1),
        "sinusoid": Spec({"start": 3}, least=2),
        "eye": Spec({"gain": 0.5}, least=2, most=2),
    }
    return known.get(name, Spec({}, least=2))


def fill(name: str, x: Any, rng: Any, **options: Any) -> Any:
    """Fill x by an initializer with its arguments."""
    random = {} if name in NOT_RANDOM else {"rng": rng}
    return getattr(fi, f"{name}_")(x, **spec(name).arguments, **random, **options)
