"""Models of Hugging Face by their ``config.json``, without weights, and inputs for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastinit._errors import value_error
from fastinit._files import contents
from fastinit.torch._deferred import deferred
from fastinit.torch._drawing import ROWS
from fastinit.torch._streaming import stacks
from fastinit.torch.init import normal_

_MOST = 10**8  # bytes of a file that is read

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
    text = contents(path, _MOST)
    try:
        import transformers
    except ImportError as error:
        raise value_error(
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
        raise value_error(f"{path}: transformers cannot make a model of it: {error}") from None
    return model.eval()


def read_tokens(path: Path) -> Tensor:
    """Return the tokens that a file holds, (samples, tokens).

    Parameters
    ----------
    path : Path
        A ``.npy`` of integers, of one or two axes; or a text of integers, a sample on each line.

    Raises
    ------
    ValueError
        If it holds something else, or its samples are not of one length.
    OSError
        If it cannot be read.
    """
    text = BytesIO(contents(path, _MOST))
    try:
        if path.suffix == ".npy":
            array = np.lib.format.read_array(text, allow_pickle=False)
        else:
            lines = [line.split() for line in text.read().decode().splitlines()]
            array = np.array([[int(word) for word in line] for line in lines if line])
    except Exception as error:  # NumPy reads a header by Python's own parser
        raise value_error(
            f"{path} does not hold tokens, integers of equal lines: {error}"
        ) from None
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or array.size == 0:
        raise value_error(
            f"{path} has dtype {array.dtype} and shape {array.shape}; allowed: integers, (tokens,) "
            "or (samples, tokens)"
        )
    return torch.from_numpy(np.atleast_2d(array).astype(np.int64))


def batch_for(model: Any, tokens: int | Tensor, samples: int, seed: int) -> Mapping[str, Tensor]:
    """Return an input for a model of transformers: what it reads, and labels.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Reads ``input_ids``, ``pixel_values`` or ``input_features``.
    tokens : int or Tensor
        The length of each random text; or the texts.
    samples : int
        How many texts, images or recordings, if they are random.
    seed : int
        Of the random numbers.

    Raises
    ------
    ValueError
        If it reads something else, or a token is not in its vocabulary.
    """
    config, rng = model.config, torch.Generator().manual_seed(seed)
    vocabulary = getattr(config.get_text_config(), "vocab_size", 0)
    if isinstance(tokens, Tensor):
        _check_tokens(model, tokens, vocabulary)
    dtype = next(model.parameters()).dtype
    reads = model.main_input_name
    if reads == "input_ids":
        if isinstance(tokens, Tensor):
            ids = tokens
        else:
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
        ids = torch.randint(config.vocab_size, (samples, int(tokens)), generator=rng)
        return {"input_features": torch.randn(shape, generator=rng).to(dtype), "labels": ids}
    raise value_error(
        f"{type(model).__name__} reads {reads}; allowed: input_ids, pixel_values, input_features. "
        "Give it to fastinit.torch.probe with an input of yours"
    )


def _check_tokens(model: Any, tokens: Tensor, vocabulary: int) -> None:
    """Raise unless the model reads these tokens."""
    if model.main_input_name != "input_ids":
        raise value_error(
            f"{type(model).__name__} reads {model.main_input_name}; allowed without a file of "
            "tokens, which is for models that read input_ids"
        )
    outside = tokens[(tokens < 0) | (tokens >= vocabulary)]
    if outside.numel():
        raise value_error(
            f"tokens have {int(outside[0])}; allowed: 0 to {vocabulary - 1}, the vocabulary of "
            f"{type(model).__name__}"
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
        raise value_error(
            f"{type(output).__name__} has no loss; allowed: an architecture with a task, such as "
            "LlamaForCausalLM, in the config's architectures"
        )
    return loss


class Estimate(NamedTuple):
    """What a probe will take, by a few operations that are timed.

    Parameters
    ----------
    seconds : float
        Of one set of rules.
    nbytes : int
        Of weights, gradients and activations at once.
    block : int
        Of the largest block's weights.
    """

    seconds: float
    nbytes: int
    block: int


def estimate(model: nn.Module, batch: Mapping[str, Tensor]) -> Estimate:
    """Return what a probe of a model will take here.

    Each weight of a block is drawn twice and multiplied four times, forward, forward again, and
    twice on the way back: 2 operations for each of them and each token.

    Parameters
    ----------
    model : torch.nn.Module
        On the meta device.
    batch : mapping
        Its input, with ``labels``.
    """
    blocks = [module for run in stacks(model).values() for module in run.values()]
    weights = [_count(block) for block in blocks]
    inside = sum(weights)
    rest = max(0, _count(model) - inside)
    dtype = next(model.parameters()).dtype
    size = dtype.itemsize
    tokens = max(x.shape[:2].numel() for x in batch.values())
    each = 2 * _seconds_of_a_draw(dtype) + 8 * tokens * _seconds_of_an_operation(dtype, tokens)
    largest = max(weights, default=0) * size
    width = max((p.shape[-1] for p in model.parameters()), default=1)
    borders = (len(blocks) + 2) * tokens * width * size
    outputs = 4 * tokens * max((p.shape[0] for p in model.parameters()), default=1) * 4
    held = min(rest * size, 4 * ROWS)  # what is larger is cut
    return Estimate((inside + rest) * each, 2 * (largest + held) + borders + outputs, largest)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _seconds_of_a_draw(dtype: torch.dtype) -> float:
    x = torch.empty(2**22, dtype=dtype)
    each: float = _seconds(lambda: normal_(x)) / x.numel()
    return each


def _seconds_of_an_operation(dtype: torch.dtype, tokens: int) -> float:
    """Return how long half of a multiplication and addition takes in a product of that shape."""
    x, w = torch.ones(tokens, 1024, dtype=dtype), torch.ones(1024, 4096, dtype=dtype)
    each: float = _seconds(lambda: x @ w) / (2 * tokens * w.numel())
    return each


def _seconds(work: Callable[[], object]) -> float:
    """Return how long something takes when it is done for the second time."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def work(model: nn.Module) -> int:
    """Return how many weights a probe's progress counts: four times those of the blocks."""
    blocks = [module for run in stacks(model).values() for module in run.values()]
    weights: int = sum(p.numel() for block in blocks for p in block.parameters())
    return 4 * weights
