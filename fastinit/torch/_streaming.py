"""A pass forward and back through a model that does not fit, block by block.

A block runs forward without a record, and again with one when its gradient is asked for: its
inputs are all that is kept (T. Chen et al., "Training Deep Nets with Sublinear Memory Cost",
2016), and its weights are drawn for each run. What is outside of the blocks is held, but for
large embeddings and output layers, which are cut: drawn, and multiplied, some rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  PyTorch's own habit
from torch.overrides import TorchFunctionMode

from fastinit import random
from fastinit._errors import type_error, value_error
from fastinit.diagnostics import _verdict
from fastinit.recipe import Recipe
from fastinit.torch import _drawing
from fastinit.torch._drawing import Cut, Moments, Weights, moments
from fastinit.torch._names import named
from fastinit.torch._private import buffers_of, parameters_of, tree_flatten, tree_unflatten

_SAMPLE = 2**16  # activations of a layer that are kept for its histogram
_MOST_EXPERTS = 4096  # of a choice among more, we do not know what it is


class Border:
    """What was seen of a stream at a block's border."""

    def __init__(self) -> None:
        self.signal, self.gradient = Moments(), Moments()
        self.sample: Any = None

    def see(self, x: Tensor) -> None:
        """Take in the stream."""
        self.signal = moments(x)
        step = -(-x.numel() // _SAMPLE)
        self.sample = x.detach().reshape(-1)[::step].double().numpy(force=True)

    def see_gradient(self, gradient: Tensor | None) -> None:
        """Take in the loss's gradient by the stream."""
        if gradient is not None:
            self.gradient = moments(gradient)


class Block:
    """A block, which tensors it draws, and what was seen of it."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module = name, module
        self.names: list[str] = []  # of the tensors that are drawn for it
        self.matrices: set[str] = set()  # those of them that are not biases or scales
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.entered, self.left = Border(), Border()
        self.stream = 0  # which of its output's tensors is the stream
        self.branch = self.load = self.dead = math.nan
        self.largest = 0.0
        self.activations: dict[str, float] = {}
        self.entropy: list[float] = []
        self.calls = 0  # whose gradients are to come
        self.gradients: dict[str, Tensor] = {}

    def see(self, entered: Sequence[Any], left: Sequence[Any]) -> None:
        """Take in what a call was given and gave, flat."""
        tensors = [x for x in left if isinstance(x, Tensor)]
        self.stream = next((i for i, x in enumerate(tensors) if _is_float(x)), 0)
        before = next((x for x in entered if _is_float(x)), None)
        after = tensors[self.stream]
        self.left.see(after)
        self.largest = max(self.largest, float(after.abs().max()))
        self.dead = _dead(after)
        if before is not None:
            self.entered.see(before)
            if before.shape == after.shape:
                self.branch = moments(after - before).std


def stacks(model: nn.Module) -> dict[str, dict[str, nn.Module]]:
    """Return the runs of children of one class that hold weights, none within another, by path."""
    runs_by_path: dict[str, dict[str, nn.Module]] = {}
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        children = {f"{path}.{key}".lstrip("."): child for key, child in module.named_children()}
        inside = any(path.startswith(f"{name}.") for run in runs_by_path.values() for name in run)
        alike = len({type(child) for child in children.values()}) == 1
        several = len(children) > 1 or module in _NARROWED
        if alike and several and not inside and any(True for _ in module.parameters()):
            runs_by_path[path] = children
    return runs_by_path


_NARROWED: WeakSet[nn.Module] = WeakSet()  # stacks within `only`, where one block is one


@contextmanager
def only(model: nn.Module, layers: slice | None) -> Iterator[None]:
    """Within the context each stack has these of its blocks alone, by their own names.

    Raises
    ------
    ValueError
        If a stack has none of them, or the model has no stack.
    """
    if layers is None:
        yield
        return
    runs = stacks(model)
    if not runs:
        raise value_error(f"layers={layers!r} needs a model with a stack of blocks; it has none")
    for path, run in runs.items():
        if not list(run)[layers]:
            raise value_error(f"layers={layers!r} is empty; {path} has {len(run)} blocks")
    before = {path: dict(model.get_submodule(path).named_children()) for path in runs}
    try:
        for path, blocks in before.items():
            _put(model.get_submodule(path), dict(list(blocks.items())[layers]))
            _NARROWED.add(model.get_submodule(path))
        yield
    finally:
        for path, blocks in before.items():
            _put(model.get_submodule(path), blocks)
            _NARROWED.discard(model.get_submodule(path))


def _put(stack: nn.Module, blocks: Mapping[str, nn.Module]) -> None:
    """Let a stack have these blocks in this order, and no others."""
    for key in [key for key, _ in stack.named_children()]:
        delattr(stack, key)
    for key, block in blocks.items():
        stack.add_module(key, block)


class Streaming:
    """One pass forward and one back through a model whose weights are drawn when they are used.

    Parameters
    ----------
    model : torch.nn.Module
        With its parameters on the meta device; it is left as it was.
    root : fastinit.Generator
        Each tensor is drawn from the stream of its name.
    rules : Recipe, optional
        Its rules come before the model's own.
    progress : callable
        Called with the number of weights that a step went through.
    """

    def __init__(
        self,
        model: nn.Module,
        root: random.Generator,
        rules: Recipe | None = None,
        progress: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.model, self._root, self._rules, self._progress = model, root, rules, progress
        self.stacks = {
            path: [Block(name, module) for name, module in run.items()]
            for path, run in (stacks(model) or {"": _leaves(model)}).items()
        }
        self.weights: dict[str, Moments] = {}
        self.gradients: dict[str, Moments] = {}
        self._moved = False  # whether any weight has a gradient
        self._alike: list[bool] = []  # of each weight whose units are alike: whether it has one
        self.loss = self.logits = self.guess = math.nan
        self.called: list[Block] = []  # in the order of their calls
        self.cuts: dict[int, Cut] = {}
        self.current: Block | None = None
        self.anchor = torch.zeros(1, requires_grad=True)
        self._weights = Weights(model, root, rules)
        self._share_out()

    def _share_out(self) -> None:
        """Say what each block draws, and what is held or cut."""
        tensors = named(self.model)
        first = {id(tensor): name for name, tensor in tensors.items()}
        blocks = [block for run in self.stacks.values() for block in run]
        users: dict[str, set[int]] = {}
        for i, block in enumerate(blocks):
            for _, tensor in (*block.module.named_parameters(), *block.module.named_buffers()):
                users.setdefault(first[id(tensor)], set()).add(i)
        outside = _outside(self.model, blocks)
        shared = {name for name, by in users.items() if len(by) > 1}
        shared |= {first[id(t)] for module in outside for t in _own(module)} & users.keys()
        meta = {name for name, tensor in tensors.items() if tensor.is_meta}
        for i, block in enumerate(blocks):
            block.names = [n for n in tensors if n in meta - shared and users.get(n) == {i}]
            block.matrices = {n for n in block.names if tensors[n].ndim > 1}
        self._held = [n for n in tensors if n in meta and (n in shared or n not in users)]
        self._tensors = tensors
        self.names = list(tensors)

    def cut(self) -> None:
        """Cut what is held and large, if each of its uses can be cut."""
        owners: dict[int, list[nn.Module]] = {}
        for module in self.model.modules():
            for tensor in _own(module):
                owners.setdefault(id(tensor), []).append(module)
        large = [
            name
            for name in self._held
            if (t := self._tensors[name]).ndim == 2
            and t.nbytes > _drawing.ROWS
            and all(_can_cut(module, t) for module in owners[id(t)])
        ]
        draws = _drawing.draws_of(self.model, self._root, self._rules, large)
        for name, draw in draws.items():
            meta = self._tensors[name]
            self.cuts[id(meta)] = Cut(name, meta, draw)
            self._held.remove(name)

    @property
    def symmetric(self) -> bool:
        """Whether some weight's units are alike and stay so, as `_verdict.stuck` says it."""
        return any(self._alike) or (bool(self._alike) and not self._moved)

    @property
    def drawing(self) -> bool:
        """Whether weights are being drawn, whose calls are not the model's."""
        return self._weights.drawing

    def run(self, call: Callable[[], Any], loss: Callable[[Any], Tensor]) -> None:
        """Go forward and back once.

        Raises
        ------
        TypeError, ValueError
            If the loss is no scalar, or a tensor has no rule.
        """
        self.cut()
        while True:
            try:
                self._run(call, loss)
                return
            except _NotCut as not_cut:
                cut = not_cut.args[0]
                del self.cuts[id(cut.meta)]
                self._held.append(cut.name)
                self.called.clear()
                for block in self.blocks():
                    block.forget()

    def matrices(self) -> list[str]:
        """Return the names of all weights but biases and scales."""
        return [name for name, tensor in self._tensors.items() if tensor.ndim > 1]

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks."""
        for run in self.stacks.values():
            yield from run

    def _run(self, call: Callable[[], Any], loss: Callable[[Any], Tensor]) -> None:
        with self._weights.drawn(self._held) as held, self._replaced(), torch.enable_grad():
            self._see_weights(held)
            with _Watch(self):
                output = call()
                value = loss(output)
            if not isinstance(value, Tensor) or value.ndim:
                raise type_error(f"loss gave {value!r}; it must be a scalar tensor")
            if not value.requires_grad:
                raise value_error("loss does not depend on the model's weights")
            self._see_output(output, value)
            value.backward()
            for name, parameter in held.items():
                if parameter.grad is not None:
                    self._see_gradient(name, parameter, parameter.grad)
            for cut in self.cuts.values():
                cut.measure()
                self.weights[cut.name], self.gradients[cut.name] = cut.weight, cut.gradient
            for block in self.blocks():
                self._flush(block)

    @contextmanager
    def _replaced(self) -> Iterator[None]:
        """Within the context the blocks' calls come here."""
        self._forwards = {block.name: block.module.forward for block in self.blocks()}
        try:
            for block in self.blocks():
                block.module.forward = self._called(block)
            yield
        finally:
            for block in self.blocks():
                del block.module.forward

    def _called(self, block: Block) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            flat, spec = tree_flatten((args, kwargs))
            entered = next((x for x in flat if _is_float(x)), None)
            if block not in self.called and entered is not None and entered.requires_grad:
                entered.register_hook(block.entered.see_gradient)
            out: list[Any] = []
            leaves = _Recomputed.apply(self, block, spec, out, self.anchor, *flat)
            left_spec, others = out
            tensors = iter(leaves)
            count = len(leaves) + len(others)
            return tree_unflatten(
                [others[i] if i in others else next(tensors) for i in range(count)], left_spec
            )

        return forward

    def forward(self, block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a block without a record."""
        first = block not in self.called
        block.calls += 1
        with self._weights.drawn(block.names) as parameters, ExitStack() as stack:
            if first:
                self.called.append(block)
                self._see_weights(parameters)
                self.current = stack.enter_context(self._seen(block))
            left = self._forwards[block.name](*args, **kwargs)
        if first:
            block.see(tree_flatten((args, kwargs))[0], tree_flatten(left)[0])
        self._advance(block, 1)
        return left

    def backward(self, block: Block, called: Any, by_output: Sequence[Tensor | None]) -> None:
        """Run a block with a record, and its gradient back."""
        args, kwargs = called
        block.calls -= 1
        block.left.see_gradient(by_output[block.stream])
        with self._weights.drawn(block.names) as parameters:
            for name, parameter in parameters.items():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(
                        partial(self._arrived, block, name)
                    )
            left = self._forwards[block.name](*args, **kwargs)
            tensors = [x for x in tree_flatten(left)[0] if isinstance(x, Tensor)]
            pairs = [
                (x, g)
                for x, g in zip(tensors, by_output, strict=True)
                if g is not None and x.requires_grad
            ]
            if pairs:
                torch.autograd.backward(*map(list, zip(*pairs, strict=True)))
        if block.calls == 0:
            self._flush(block)
        self._advance(block, 3)

    def _arrived(self, block: Block, name: str, parameter: Tensor) -> None:
        """Measure a gradient and drop it; keep it if there is more of it to come."""
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        if (before := block.gradients.pop(name, None)) is not None:
            gradient += before
        if block.calls:
            block.gradients[name] = gradient
        else:
            self._see_gradient(name, parameter, gradient)

    def _flush(self, block: Block) -> None:
        """Measure the gradients that wait for more which has not come."""
        tensors = self._tensors
        while block.gradients:
            name, gradient = block.gradients.popitem()
            self._see_gradient(name, tensors[name], gradient)

    def _see_weights(self, parameters: Mapping[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            self.weights[name] = moments(parameter)

    def _see_gradient(self, name: str, parameter: Tensor, gradient: Tensor) -> None:
        self.gradients[name] = moments(gradient)
        if parameter.ndim > 1:
            moves = self.gradients[name].squares > 0
            self._moved |= moves
            if not parameter.is_meta and _alike(parameter, gradient):
                self._alike.append(moves)

    def _see_output(self, output: Any, value: Tensor) -> None:
        self.loss = float(value.detach())
        logits = getattr(output, "logits", None)
        if isinstance(logits, Tensor):
            self.logits = moments(logits).std
            self.guess = math.log(logits.shape[-1])

    def _advance(self, block: Block, times: int) -> None:
        self._progress(times * sum(self._tensors[name].numel() for name in block.names))

    @contextmanager
    def _seen(self, block: Block) -> Iterator[Block]:
        """Within the context what the block's layers give is measured."""

        def hook(kind: str, _: nn.Module, __: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple) else output
            if _is_float(output) and kind not in block.activations:
                block.activations[kind] = moments(output).std
                block.largest = max(block.largest, float(output.abs().max()))

        handles = [
            module.register_forward_hook(partial(hook, kind))
            for kind, module in block.module.named_modules()
            if kind and not list(module.children())
        ]
        try:
            yield block
        finally:
            self.current = None
            for handle in handles:
                handle.remove()


class _NotCut(Exception):  # noqa: N818  no error: the weight is then held
    """A weight that was to be cut is used as a whole."""


class _Recomputed(torch.autograd.Function):
    """A block's call: forward without a record, and again with one on the way back."""

    @staticmethod
    def forward(
        ctx: Any, run: Streaming, block: Block, spec: Any, out: list[Any], *flat: Any
    ) -> Any:
        ctx.run, ctx.block, ctx.spec = run, block, spec
        ctx.random = torch.get_rng_state()
        ctx.set_materialize_grads(False)
        ctx.others = {i: x for i, x in enumerate(flat) if not isinstance(x, Tensor)}
        ctx.save_for_backward(*(x for x in flat if isinstance(x, Tensor)))
        left = run.forward(block, *tree_unflatten(list(flat[1:]), spec))
        leaves, left_spec = tree_flatten(left)
        out += [left_spec, {i: x for i, x in enumerate(leaves) if not isinstance(x, Tensor)}]
        return tuple(x for x in leaves if isinstance(x, Tensor))

    @staticmethod
    def backward(ctx: Any, *by_output: Tensor | None) -> Any:
        wanted = ctx.needs_input_grad[4:]
        saved = iter(ctx.saved_tensors)
        flat = [
            ctx.others[i] if i in ctx.others else next(saved).detach().requires_grad_(wants)
            for i, wants in enumerate(wanted)
        ]
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.set_rng_state(ctx.random)
            ctx.run.backward(ctx.block, tree_unflatten(flat[1:], ctx.spec), by_output)
        by_input = [x.grad if wants else None for x, wants in zip(flat, wanted, strict=True)]
        return None, None, None, None, *by_input


class _CutEmbedding(torch.autograd.Function):
    """Looks rows up."""

    @staticmethod
    def forward(ctx: Any, cut: Cut, ids: Tensor, padding: int | None, _: Tensor) -> Tensor:
        ctx.cut, ctx.ids, ctx.padding = cut, ids, padding
        vectors = torch.empty((*ids.shape, cut.shape[1]), dtype=cut.meta.dtype)
        for first, last, rows in cut.rows():
            here = (ids >= first) & (ids < last)
            vectors[here] = rows[ids[here] - first]
        return vectors

    @staticmethod
    def backward(ctx: Any, by_output: Tensor) -> Any:
        ids, padding = ctx.ids, ctx.padding

        def part(first: int, last: int) -> Tensor:
            here = (ids >= first) & (ids < last)
            if padding is not None:
                here &= ids != padding
            gradient = by_output.new_zeros((last - first, by_output.shape[-1]))
            return gradient.index_add_(0, ids[here] - first, by_output[here])

        ctx.cut.uses.append(part)
        return None, None, None, None


class _CutLinear(torch.autograd.Function):
    """Multiplies by some rows at a time."""

    @staticmethod
    def forward(ctx: Any, cut: Cut, x: Tensor, _: Tensor) -> Tensor:
        ctx.cut, ctx.x = cut, x.detach()
        y = x.new_empty((*x.shape[:-1], cut.shape[0]))
        for first, last, rows in cut.rows():
            y[..., first:last] = F.linear(x, rows)
        return y

    @staticmethod
    def backward(ctx: Any, by_output: Tensor) -> Any:
        x = ctx.x.reshape(-1, ctx.x.shape[-1])
        by_rows = by_output.reshape(-1, by_output.shape[-1])
        ctx.cut.uses.append(lambda first, last: by_rows[:, first:last].T @ x)
        by_x = torch.zeros_like(x)
        for first, last, rows in ctx.cut.rows():
            by_x.addmm_(by_rows[:, first:last], rows)
        return None, by_x.reshape(ctx.x.shape), None


class _Watch(TorchFunctionMode):
    """Sees a model's calls: large layers are cut, attention and routers are measured."""

    def __init__(self, run: Streaming) -> None:
        super().__init__()
        self._run = run

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take over what needs a large layer, and look at the rest."""
        kwargs = kwargs or {}
        if self._run.drawing:
            return func(*args, **kwargs)
        if func is torch.Tensor.device.__get__ and args[0].is_meta:
            return torch.device("cpu")  # where its values will be
        cuts = [self._run.cuts[id(x)] for x in (*args, *kwargs.values()) if id(x) in self._run.cuts]
        if cuts and getattr(func, "__name__", "") != "__get__":
            return self._cut(cuts[0], func, args, kwargs)
        result = func(*args, **kwargs)
        if self._run.current is not None and not torch.is_grad_enabled():
            _look(self._run.current, func, args, kwargs, result)
        return result

    def _cut(self, cut: Cut, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is F.embedding:
            given = (
                dict(zip(("input", "weight", "padding_idx", *_ODD), args, strict=False)) | kwargs
            )
            if id(given["weight"]) == id(cut.meta) and not any(given.get(k) for k in _ODD):
                return _CutEmbedding.apply(
                    cut, given["input"], _positive(given.get("padding_idx"), cut), self._run.anchor
                )
        if func is F.linear:
            x, weight, bias, *_ = (*args, kwargs.get("bias"), None)
            if weight is cut.meta and x is not cut.meta:
                y = _CutLinear.apply(cut, x, self._run.anchor)
                return y if bias is None else y + bias
        raise _NotCut(cut)


_EMBEDDING = (
    "input",
    "weight",
    "padding_idx",
    "max_norm",
    "norm_type",
    "scale_grad_by_freq",
    "sparse",
)  # what F.embedding takes, in order
_ODD = ("max_norm", "scale_grad_by_freq", "sparse")  # of an embedding that is not cut


def _positive(padding: int | None, cut: Cut) -> int | None:
    return None if padding is None else padding % cut.shape[0]


def _look(block: Block, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Measure what a call within a block says of attention and of experts."""
    if func is F.scaled_dot_product_attention:
        block.entropy.append(_entropy(_attention(*args, **kwargs)))
    elif func in _SOFTMAX and out.ndim == 4:
        block.entropy.append(_entropy(out))
    elif func in _TOPK and out[1].ndim == 2 and args[0].shape[-1] <= _MOST_EXPERTS:
        counts = torch.bincount(out[1].reshape(-1), minlength=args[0].shape[-1])
        block.load = float(counts.max() / counts.double().mean())


_SOFTMAX = {F.softmax, torch.softmax, torch.Tensor.softmax}
_TOPK = {torch.topk, torch.Tensor.topk}


def _attention(
    query: Tensor,
    key: Tensor,
    _value: Tensor,
    attn_mask: Tensor | None = None,
    _dropout: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """Return the weights that `scaled_dot_product_attention` computes and does not return."""
    if key.shape[-3] != query.shape[-3]:  # several queries' heads share one of the keys
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    logits = query.float() @ key.float().mT * (scale or query.shape[-1] ** -0.5)
    if is_causal:
        seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device="cpu").tril()
        logits = logits.masked_fill(~seen, -math.inf)
    if attn_mask is not None:
        masked = attn_mask.dtype == torch.bool
        logits = logits.masked_fill(~attn_mask, -math.inf) if masked else logits + attn_mask
    return logits.softmax(-1)


def _entropy(weights: Tensor) -> float:
    """Return the mean entropy over the largest that it could be, 1 if all places count alike."""
    p = weights.float()
    entropy = -(p * p.clamp_min(1e-30).log()).sum(-1)
    largest = (p > 0).sum(-1).clamp_min(1).float().log()
    return float(entropy.mean() / largest.mean().clamp_min(1e-30))


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _own(module: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that a module itself holds."""
    for slots in (parameters_of(module), buffers_of(module)):
        yield from (tensor for tensor in slots.values() if tensor is not None)


def _outside(model: nn.Module, blocks: Sequence[Block]) -> list[nn.Module]:
    """Return the modules that are in no block."""
    inside = {module for block in blocks for module in block.module.modules()}
    return [module for module in model.modules() if module not in inside]


def _leaves(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules that hold matrices and no other modules, but for the large ones."""
    return {
        name: module
        for name, module in model.named_modules()
        if not list(module.children())
        and any(p.ndim > 1 for p in module.parameters())
        and not any(_can_cut(module, p) and p.nbytes > _drawing.ROWS for p in module.parameters())
    }


def _can_cut(module: nn.Module, tensor: Tensor) -> bool:
    return (
        isinstance(module, nn.Embedding | nn.Linear) and tensor is parameters_of(module)["weight"]
    )


def _dead(x: Tensor) -> float:
    """Return the fraction of units that are 0 for the whole batch."""
    units = 1 if x.ndim > 3 else x.ndim - 1  # channels come second in images
    return float((x.detach() == 0).movedim(units, -1).flatten(0, -2).all(dim=0).double().mean())


def _alike(weight: Tensor, gradient: Tensor) -> bool:
    """Return whether all outputs, or all inputs, have the same weights and gradients.

    Which axis is which differs: nn.Linear has (out, in), transformers' Conv1D (in, out).
    """

    def same(axis: int) -> bool:
        two = [x.narrow(axis, 0, min(2, x.shape[axis])) for x in (weight, gradient)]
        return all(
            _verdict.alike(*(x.detach().double().movedim(axis, -1).numpy(force=True) for x in pair))
            for pair in (two, (weight, gradient))
        )

    return same(-1) or same(0)
