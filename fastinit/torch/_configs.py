"""Models of Hugging Face by their ``config.json``, without weights, and inputs for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastinit.torch._deferred import deferred
from fastinit.torch._streaming import stacks

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def model_of(path: Path, dtype: str = "float32") -> nn.Module:
    """Return the model that a ``config.json`` describes, in evaluation mode, without memory.

    Parameters
    ----------
    path : Path
        The file, or the directory that it is in.
    dtype : {"float32", "bfloat16"}
        Of the weights, whatever the file says.

    Raises
    ------
    ValueError
        If transformers is not there, or cannot make a model of it.
    OSError
        If the file cannot be read.
    """
    path = path / "config.json" if path.is_dir() else path
    text = path.read_text("utf-8")
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"{path} needs the package transformers: pip install 'fastinit-nn[hf]' ({error})"
        ) from None
    try:
        entries = json.loads(text)
        config = transformers.AutoConfig.for_model(**entries)
        config.use_cache = False
        kind = (entries.get("architectures") or ["AutoModelForCausalLM"])[0]
        make = getattr(transformers, kind)
        make = make.from_config if kind.startswith("Auto") else make._from_config
        with deferred():
            model: nn.Module = make(config, dtype=DTYPES[dtype])
    except Exception as error:  # whatever their code makes of it
        raise ValueError(f"{path}: transformers cannot make a model of it: {error}") from None
    return model.eval()


def batch_for(model: Any, tokens: int, samples: int, seed: int) -> Mapping[str, Tensor]:
    """Return a random input for a model of transformers: what it reads, and labels.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Reads ``input_ids``, ``pixel_values`` or ``input_features``.
    tokens : int
        The length of each text.
    samples : int
        How many texts, images or recordings.
    seed : int
        Of the random numbers.

    Raises
    ------
    ValueError
        If it reads something else.
    """
    config, rng = model.config, torch.Generator().manual_seed(seed)
    dtype = next(model.parameters()).dtype
    reads = model.main_input_name
    if reads == "input_ids":
        vocabulary = config.get_text_config().vocab_size
        ids = torch.randint(vocabulary, (samples, tokens), generator=rng)
        return {"input_ids": ids, "labels": ids}
    if reads == "pixel_values":
        size = config.image_size
        sides = (size, size) if isinstance(size, int) else tuple(size)
        shape = (samples, getattr(config, "num_channels", 3), *sides)
        images = torch.randn(shape, generator=rng).to(dtype)
        return {"pixel_values": images, "labels": torch.arange(samples) % config.num_labels}
    if reads == "input_features":
        shape = (samples, config.num_mel_bins, 2 * config.max_source_positions)
        ids = torch.randint(config.vocab_size, (samples, tokens), generator=rng)
        return {"input_features": torch.randn(shape, generator=rng).to(dtype), "labels": ids}
    raise ValueError(
        f"{type(model).__name__} reads {reads}; allowed: input_ids, pixel_values, input_features. "
        "Give it to fastinit.torch.probe with an input of yours"
    )


def loss_of(output: Any) -> Tensor:
    """Return the loss in a model's output.

    Raises
    ------
    ValueError
        If there is none: the architecture has no task.
    """
    loss = getattr(output, "loss", None)
    if not isinstance(loss, Tensor):
        raise ValueError(
            f"{type(output).__name__} has no loss; allowed: an architecture with a task, such as "
            "LlamaForCausalLM, in the config's architectures"
        )
    return loss


def work(model: nn.Module) -> int:
    """Return how many weights a probe's progress counts: four times those of the blocks."""
    blocks = [module for run in stacks(model).values() for module in run.values()]
    weights: int = sum(p.numel() for block in blocks for p in block.parameters())
    return 4 * weights
