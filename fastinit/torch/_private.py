"""Every private name of PyTorch's that fastinit uses, each with a way out if it is gone.

The way out is a public name that does the same, or an error that says which PyTorch has the name:
never other values. A test looks for private names in the other files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

try:
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
except ImportError as error:
    raise ImportError(
        f"fastinit.torch: PyTorch {torch.__version__} has changed: {error}; allowed: PyTorch 2.6 "
        "to 2.13, or a newer fastinit"
    ) from error

# The truncated normals that no mode of PyTorch's can take over: callers find each here.
TRUNCATED = (
    ("torch.nn.init", "_no_grad_trunc_normal_"),
    ("timm.layers.weight_init", "_trunc_normal_"),
)

__all__ = [
    "TRUNCATED",
    "TorchDispatchMode",
    "buffers_of",
    "count_writes",
    "functions_off",
    "in_functorch",
    "is_sharded_by_fsdp",
    "local_tensor",
    "modes_off",
    "negated_view",
    "operator_arguments",
    "parameters_of",
    "reads_a_number",
    "register_again",
    "split",
    "storage_number",
    "tensors_of",
    "tree_flatten",
    "tree_leaves",
    "tree_unflatten",
    "unsaved_buffers",
    "version",
]


def _known(x: object, name: str) -> Any:
    """Return an attribute of PyTorch's that nothing can stand for."""
    try:
        return getattr(x, name)
    except AttributeError:
        owner = x.__name__ if isinstance(x, type) else type(x).__name__
        raise RuntimeError(
            f"fastinit.torch needs {owner}.{name}, which PyTorch {torch.__version__} "
            "does not have; allowed: PyTorch 2.6 to 2.13, or a newer fastinit"
        ) from None


@contextmanager
def modes_off() -> Iterator[None]:
    """Within the context, no mode of this thread takes over a call."""
    with ExitStack() as stack:
        for guard in ("DisableTorchFunction", "_DisableTorchDispatch"):
            stack.enter_context(_known(torch._C, guard)())
        yield


def functions_off() -> AbstractContextManager[Any]:
    """Return a context in which no subclass and no mode takes over a function of PyTorch's."""
    guard: AbstractContextManager[Any] = _known(torch._C, "DisableTorchFunction")()
    return guard


def operators_off() -> AbstractContextManager[Any]:
    """Return a context in which no subclass and no mode takes over an operator of PyTorch's."""
    guard: AbstractContextManager[Any] = _known(torch._C, "_DisableTorchDispatch")()
    return guard


def is_only_operators_mode() -> bool:
    """Return whether no more than one mode of this thread takes over operators; False in doubt."""
    count = getattr(torch._C, "_len_torch_dispatch_stack", None)
    return count is not None and count() <= 1


def in_functorch() -> bool:
    """Return whether a transform of functorch (`vmap`, `grad`) is at work in this thread.

    If PyTorch cannot tell, none is.
    """
    functorch = getattr(torch._C, "_functorch", None)
    peek = getattr(functorch, "peek_interpreter_stack", None)
    return peek is not None and peek() is not None


def storage_number(storage: torch.UntypedStorage) -> int:
    """Return the number of a storage: no other that lives has it, also without memory."""
    return int(_known(storage, "_cdata"))


def version(tensor: torch.Tensor) -> int:
    """Return how often a tensor has been written."""
    return int(_known(tensor, "_version"))


def _write_counter() -> Callable[[Iterable[torch.Tensor]], None]:
    """Return what counts one more write of each of some tensors, for autograd."""
    # The public function checks its argument first, which takes as long as 64 values.
    counter: Callable[[Iterable[torch.Tensor]], None] = getattr(
        torch._C, "_increment_version", torch.autograd.graph.increment_version
    )
    return counter


count_writes = _write_counter()


def parameters_of(module: nn.Module) -> dict[str, Any]:
    """Return the dictionary in which a module keeps its own parameters."""
    held: dict[str, Any] = _known(module, "_parameters")
    return held


def buffers_of(module: nn.Module) -> dict[str, Any]:
    """Return the dictionary in which a module keeps its own buffers."""
    held: dict[str, Any] = _known(module, "_buffers")
    return held


def tensors_of(module: nn.Module, kind: str) -> dict[str, Any]:
    """Return the dictionary in which a module keeps its own "parameters" or "buffers"."""
    held: dict[str, Any] = _known(module, f"_{kind}")
    return held


def unsaved_buffers(module: nn.Module) -> set[str]:
    """Return the names of a module's own buffers that its state_dict leaves out."""
    names: set[str] = _known(module, "_non_persistent_buffers_set")
    return names


def register_again(model: nn.Module) -> None:
    """Have modules look for their parameters again: FSDP2 and recurrent layers keep them twice.

    Those that do have a method of their own for a change of all tensors.
    """
    plain = _known(nn.Module, "_apply")
    for module in model.modules():
        if getattr(module._apply, "__func__", None) is not plain:
            module._apply(lambda tensor: tensor)


def is_sharded_by_fsdp(module: nn.Module) -> bool:
    """Return whether FullyShardedDataParallel has cut a module's parameters; True in doubt."""
    handle = getattr(module, "_handle", None)
    if not getattr(handle, "uses_sharded_strategy", False):
        return False
    flat = getattr(handle, "flat_param", None)
    whole = getattr(flat, "_unpadded_unsharded_size", None)
    return flat is None or whole is None or flat.numel() < whole.numel()


def negated_view(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view of a tensor that shows the negatives of its values."""
    view: torch.Tensor = _known(torch, "_neg_view")(tensor)
    return view


def operator_arguments(operator: Any) -> Sequence[Any]:
    """Return the arguments that an operator declares."""
    arguments: Sequence[Any] = _known(operator, "_schema").arguments
    return arguments


def reads_a_number(operator: Any) -> bool:
    """Return whether an operator gives one of a tensor's values to Python, as `item` does."""
    return operator is _known(torch.ops.aten, "_local_scalar_dense").default


def local_tensor(tensor: Any) -> torch.Tensor:
    """Return what this process holds of a DTensor."""
    try:
        local: torch.Tensor = tensor._local_tensor  # quicker, and nothing for autograd
    except AttributeError:
        with torch.no_grad():
            local = tensor.to_local()
    return local


def split(placement: Any, tensor: torch.Tensor, n: int) -> Sequence[torch.Tensor]:
    """Return the parts that a placement makes of a tensor for n processes."""
    parts: Sequence[torch.Tensor] = _known(placement, "_split_tensor")(
        tensor, n, with_padding=False
    )[0]
    return parts
