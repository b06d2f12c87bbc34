"""Sources: whatever says which tensors a model has -> a recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastinit._errors import value_error
from fastinit._extras import missing
from fastinit.checkpoint import _safetensors, _stored
from fastinit.checkpoint._layout import CONFIG
from fastinit.recipe import Recipe, RecipeError, Tensor, Values
from fastinit.recipe import load as load_recipe
from fastinit.recipe import parse as parse_recipe


def load(
    source: str | Path,
    rules: str | Path | None = None,
    variables: Mapping[str, float] | None = None,
) -> Recipe:
    """Return the recipe for a source: which tensors, and how each is initialised.

    Parameters
    ----------
    source : str or Path
        A built-in recipe's name, a recipe (``.toml``), a ``.safetensors`` file, a directory
        with such files, or a JSON file (``.json``): such a file's header, an index beside its
        files, or a Hugging Face ``config.json`` (for which transformers and PyTorch must be
        there: the extra ``hf``). A directory with nothing but ``config.json`` is as that. Of
        files only names, shapes and dtypes are used, and the recipe that fastinit wrote into
        them: to write the same files again, give the files.
    rules : str or Path, optional
        A recipe whose rules and seed to use; its tensors are ignored. Without it a recipe has
        its own, a file those it was written with, and otherwise the built-in "default". A
        ``config.json`` has those of its architecture, for what no given rule fits.
    variables : mapping, optional
        Values for the variables that the source's recipe or the rules have or need. What the
        rules need and nobody gives, they take from the source's recipe.

    Returns
    -------
    Recipe
        With the source's tensors.

    Raises
    ------
    RecipeError
        If the source or the rules are not as described.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> len(load("gpt2").tensors)
    148
    """
    path, given = Path(source), dict(variables or {})
    if _stored.is_stored(path):
        return _of_stored(_stored.read(path), rules, given)
    if path.is_dir():
        path /= CONFIG
    if path.suffix == ".json":
        return _of_json(path, rules, given)
    if rules is None:
        return load_recipe(source, given)
    names = load_recipe(source).variables
    recipe = load_recipe(source, {k: given.pop(k) for k in [*given] if k in names})
    asked = load_recipe(rules, given, recipe.variables)
    return _over(asked, recipe.tensors, recipe.config, {})


Given = dict[str, float]


def _over(
    rules: Recipe,
    tensors: tuple[Tensor, ...],
    config: Mapping[str, Any],
    values: Mapping[str, Values],
) -> Recipe:
    return replace(rules, tensors=tensors, config=config, values=values)


def _of_json(path: Path, rules: str | Path | None, given: Given) -> Recipe:
    entries = _safetensors.load_json(path)
    if "weight_map" in entries:
        return _of_stored(_stored.read(path.parent), rules, given)
    if "model_type" in entries:
        return _of_config(path, entries, rules, given)
    _refuse_others(path, entries)
    header = _safetensors.parse(entries, str(path))
    places = zip(header.tensors, header.begins, strict=True)
    stored = tuple(_stored.Stored(tensor, path, begin) for tensor, begin in places)
    return _of_stored(_stored.Checkpoint(path, stored, header.metadata, {}), rules, given)


def _of_stored(checkpoint: _stored.Checkpoint, rules: str | Path | None, given: Given) -> Recipe:
    tensors = tuple(stored.tensor for stored in checkpoint.stored)
    own = recorded(checkpoint)
    if rules is not None or own is None:
        asked = _over(load_recipe(rules or "default", given), tensors, checkpoint.config, {})
        return asked.with_values(own.values if own else {})
    if given:
        raise RecipeError(
            f"{checkpoint.path} was written by a recipe of its own; give variables with rules"
        )
    known = {(t.name, t.shape) for t in tensors} == {(t.name, t.shape) for t in own.tensors}
    return _over(own, tensors, own.config if known else checkpoint.config, own.values)


def recorded(checkpoint: _stored.Checkpoint) -> Recipe | None:
    """Return the recipe that a checkpoint was written by, with the seed, if it says so.

    Raises
    ------
    RecipeError
        If what it says is no recipe.
    """
    path, metadata = checkpoint.path, checkpoint.metadata
    text, seed = metadata.get("fastinit.recipe"), metadata.get("fastinit.seed")
    if text is None or seed is None:
        return None
    if not re.fullmatch("[0-9]{1,100}", seed):
        raise RecipeError(
            f"{path}: its metadata has fastinit.seed={seed[:100]!r}; allowed: a number"
        )
    try:
        variables = _safetensors.loads(metadata.get("fastinit.variables", "{}").encode())
    except ValueError as error:
        raise RecipeError(f"{path}: its metadata has fastinit.variables: {error}") from None
    recipe = parse_recipe(text, f"recorded in {path}", variables)
    return replace(recipe, seed=int(seed), values=_values(checkpoint, int(seed)))


def _values(checkpoint: _stored.Checkpoint, seed: int) -> dict[str, Values]:
    """Return what a checkpoint says of its tensors that no rule can draw again."""
    try:
        said = json.loads(checkpoint.metadata.get("fastinit.values", "{}"))
        return {
            stored.tensor.name: _recorded(stored, seed, **said[stored.tensor.name])
            for stored in checkpoint.stored
            if stored.tensor.name in said
        }
    except (ValueError, TypeError, RecursionError) as error:
        raise RecipeError(f"{checkpoint.path}: its metadata has fastinit.values: {error}") from None


def _recorded(
    stored: _stored.Stored, seed: int, *, digest: str, origin: str, seeded: bool
) -> _stored.Recorded:
    kinds = (str, str, bool)
    if tuple(map(type, (digest, origin, seeded))) != kinds or not origin.isprintable():
        raise value_error(f"{stored.tensor.name!r} must have a digest, an origin and seeded")
    return _stored.Recorded(stored, origin, digest, seeded, seed)


def _of_config(
    path: Path, config: dict[str, Any], rules: str | Path | None, given: Given
) -> Recipe:
    """Return the recipe of a model that transformers knows, without its weights."""
    try:
        from fastinit.checkpoint._configs import model_of
        from fastinit.torch._recipe import recipe_of
    except ImportError as error:
        raise RecipeError(
            f"{missing('transformers', f'{path}, with PyTorch,')} ({error})"
        ) from None
    if rules is None and given:
        raise RecipeError(f"{path} has no variables; give them with rules")
    first = None if rules is None else load_recipe(rules, given)
    model = model_of(path, config)
    try:
        return recipe_of(model.make, model.name, model.config, first)
    except RecipeError:
        raise
    except Exception as error:  # whatever their code makes of it
        raise RecipeError(f"{path}: transformers cannot make a model of it: {error}") from None


# What tells the config.json of another library, and how such a model is saved with our values.
_OTHERS = {"_class_name": "diffusers", "architecture": "timm", "peft_type": "PEFT"}


def _refuse_others(path: Path, entries: Mapping[str, Any]) -> None:
    for key, library in _OTHERS.items():
        if isinstance(entries.get(key), str):
            raise RecipeError(
                f"{path} is a config of {library} ({key}: {entries[key]!r}); allowed: one of "
                f"transformers, with a model_type. Make the model with {library} within "
                "fastinit.torch.accelerate(seed), and save it as that does"
            )
