"""A Hugging Face config.json -> which model, and how to build it. Needs transformers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import transformers
from transformers.models.auto import modeling_auto

from fastinit.recipe import RecipeError


class Model(NamedTuple):
    """A model to build: what is written as its config.json, and what builds it."""

    name: str
    config: Mapping[str, Any]
    make: Callable[[], Any]


def model_of(path: Path, config: Mapping[str, Any]) -> Model:
    """Return the model that a config.json is of.

    Parameters
    ----------
    path : Path
        Of the file.
    config : mapping
        What it holds, with a model_type.

    Raises
    ------
    RecipeError
        If transformers has no such type, or makes no config of it.

    Warns
    -----
    UserWarning
        If the file names no class that transformers has, so that another is taken; if it says how
        weights are quantised, which is dropped.
    """
    kept = {key: value for key, value in config.items() if key not in _QUANTISED}
    for key in config.keys() - kept.keys():
        method = config[key].get("quant_method") if isinstance(config[key], dict) else None
        warnings.warn(
            f"{path}: {key} ({method or 'of an unknown method'}) is dropped: the weights are "
            "written as they are before they are quantised",
            stacklevel=2,
        )
    try:
        # transformers' own reader knows {"__float__": "Infinity"}, and older names of keys.
        read = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
        for key in _QUANTISED & vars(read).keys():
            delattr(read, key)
        cls = _class_of(path, config["model_type"], config.get("architectures"))
        make = partial(cls._from_config, read)
    except RecipeError:
        raise
    except Exception as error:  # whatever their code makes of it
        raise RecipeError(f"{path}: transformers makes no config of it: {error}") from None
    kept["architectures"] = [cls.__name__]
    name = f"{cls.__name__} of transformers {transformers.__version__}"
    return Model(name, kept, make)


_QUANTISED = {"quantization_config", "compression_config"}

# Whose class is taken if the file names none: with a head for what most are used for.
_TASKS = (
    "CAUSAL_LM",
    "SEQ_TO_SEQ_CAUSAL_LM",
    "IMAGE_TEXT_TO_TEXT",
    "MASKED_LM",
    "IMAGE_CLASSIFICATION",
)


def _class_of(path: Path, kind: object, architectures: object) -> Any:
    """Return the class that a config names, or the one that transformers has for its type."""
    named = architectures[0] if isinstance(architectures, list) and architectures else None
    if architectures and not isinstance(named, str):
        raise RecipeError(f"{path}: architectures={architectures!r} must be a list of names")
    if isinstance(named, str) and hasattr(transformers, named):
        return getattr(transformers, named)
    known = [*dict.fromkeys(classes_of(str(kind)))]
    head = None if named is None else re.search(r"(For[A-Z]\w+|Model)$", named)
    alike = [name for name in known if head is None or name.endswith(head[1])]
    if not alike:
        raise RecipeError(
            f"{path}: transformers has no {named or 'class'} for the model_type {kind!r}; "
            f"architectures may be one of {', '.join(known) or 'none'}"
        )
    warnings.warn(
        f"{path}: {alike[0]} is taken, since the file names "
        + ("no class" if named is None else f"{named}, which transformers has not"),
        stacklevel=3,
    )
    return getattr(transformers, alike[0])


def classes_of(kind: str) -> Iterator[str]:
    """Yield the names of the classes that transformers has for a model type, the likeliest first.

    Examples
    --------
    >>> next(classes_of("gpt2"))
    'GPT2LMHeadModel'
    """
    tables = [f"MODEL_FOR_{task}_MAPPING_NAMES" for task in _TASKS]
    tables += sorted(n for n in dir(modeling_auto) if re.fullmatch(r"MODEL_FOR_\w+_NAMES", n))
    for table in [*tables, "MODEL_MAPPING_NAMES"]:
        names = getattr(modeling_auto, table, {}).get(kind, ())
        yield from [names] if isinstance(names, str) else names
