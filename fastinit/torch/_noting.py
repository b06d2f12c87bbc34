"""The modes under which a model is built without its memory, and all that is done to it noted.

The upper mode sees functions by name: it takes over the fills that fastinit has itself, and
answers what looks at a tensor from outside (its device, its values as numbers). The lower mode
sees every operator, whoever calls it: it runs them on the meta device, and puts those that write
memory on a tape.

The code that builds the model must not notice: a tensor says that it is on the CPU, since
PyTorch's own functions and transformers do nothing for tensors that are on the meta device.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from fastinit import random
from fastinit._arguments import Shape
from fastinit._errors import value_error
from fastinit._fill import params_in
from fastinit._kernels import Cursor
from fastinit.torch import init
from fastinit.torch._fills import ours_of, truncated_overridable
from fastinit.torch._operators import leaves_of, map_leaves, traits_of, written_by
from fastinit.torch._private import (
    TorchDispatchMode,
    functions_off,
    is_only_operators_mode,
    modes_off,
    operator_arguments,
    operators_off,
    reads_a_number,
    tree_leaves,
)
from fastinit.torch._replay import Replay
from fastinit.torch._tape import Call, Check, Tape, View
from fastinit.torch._tensor import (
    COMPLEX_DTYPES,
    DTYPES,
    RandomSource,
    cursor,
    generator_of,
    is_plain,
)

aten = torch.ops.aten

_META, _CPU = torch.device("meta"), torch.device("cpu")

# What an attribute's getter says of a tensor without memory.
_SAID = {"is_meta": False, "is_cpu": True, "device": _CPU}

# Functions that make a tensor of data: whatever device they are asked for, the data is here.
_OF_DATA = {
    torch.tensor,
    torch.as_tensor,
    torch.asarray,
    torch.Tensor.new_tensor,
    torch.sparse_coo_tensor,
    torch.sparse_compressed_tensor,
    torch.sparse_csr_tensor,
    torch.sparse_csc_tensor,
    torch.sparse_bsr_tensor,
    torch.sparse_bsc_tensor,
}
_INDEXED = {torch.Tensor.__getitem__, torch.Tensor.__setitem__}
_MOVES = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda}
_READS = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}

_EMPTY = {
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
}
# Operators that are fills of ours.
_DRAWN_NEW = {
    "rand": init.UNIFORM,
    "rand_like": init.UNIFORM,
    "randn": init.NORMAL,
    "randn_like": init.NORMAL,
}
_DRAWN_IN_PLACE = {"normal_": init.NORMAL, "uniform_": init.UNIFORM}


_FORMED_BY_VALUES = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}


class Noting(TorchDispatchMode):
    """The lower mode: runs operators without memory, and puts those that write on a tape."""

    def __init__(self) -> None:
        super().__init__()
        self.tape = Tape()
        self._numbers: dict[int, float] = {}  # storages that hold one number, and which
        # PyTorch's generator has this seed unless code within the context gives it another.
        self._seed = torch.default_generator.initial_seed()
        self._root: random.Generator | None = None  # of what the code reads

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator."""
        with functions_off():  # so that tensors say what they are
            return self._run(func, args, kwargs or {})

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = leaves_of(torch.Tensor, (args, kwargs))
        traits = traits_of(func)
        if any(map(is_lazy, tensors)):  # it has no values yet
            return func(*args, **kwargs)
        if not all(is_plain(x) for x in tensors) and any(map(_has_operators, tensors)):
            with self:  # a subclass's operators are made of those of plain tensors
                return func(*args, **kwargs)
        if func is aten.lift_fresh.default:
            return self._constant(args[0])
        # A sparse tensor has its own memory for indices, which is not noted.
        is_sparse = kwargs.get("layout", torch.strided) not in (None, torch.strided)
        if is_sparse or (reads_a_number(func) and args[0].is_meta):
            return self._run_on_values(func, args, kwargs)
        if traits.moves_memory:
            return func(*args, **kwargs)
        written = written_by(func, args, kwargs)
        if any(not x.is_meta for x in written):
            return self._run_on_real(func, args, kwargs)
        if tensors and not traits.random and not any(x.is_meta for x in tensors):
            return func(*args, **kwargs)
        return self._run_on_meta(func, args, kwargs, written)

    def value(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the values that a tensor has now, on the CPU, for the author's code.

        What is random in them is drawn from PyTorch's default generator, as it is in the
        author's own run: no seed has been given yet.
        """
        if self._is_random([tensor]):
            self.tape.was_read = True
            _warn(
                "the model's constructor reads values that it has drawn; what it makes of them "
                "follows torch.manual_seed, and not the seed of initialize"
            )
        self._check_written(tensor)
        real: torch.Tensor = self._real(tensor)
        return real

    def _is_random(self, tensors: Iterable[torch.Tensor]) -> bool:
        storages = [self.tape.storage(x) for x in tensors if x.is_meta]
        return any(call.random for call in self.tape.history(*storages))

    def empty(self, *size: Any, **options: Any) -> torch.Tensor:
        """Return what `torch.empty` makes, without memory.

        No operator is run for it: every layer makes such tensors, and all that would be noted of
        one is its storage.
        """
        with operators_off():
            new = torch.empty(*size, **{**options, "device": _META})
        self.tape.storage(new)
        return new

    def draw(
        self,
        tensor: torch.Tensor,
        kind: init.Kind,
        params: tuple[float, ...],
        rng: Cursor | None,
        part: init.Part | None = None,
    ) -> None:
        """Note a fill of ours; `rng` is the author's own generator, if he gave one.

        `part` is where in a larger tensor the tensor is, if the author said so.
        """
        view = self.tape.view(tensor)
        if rng is not None:
            rng = Cursor(rng.key, rng.take(tensor.numel() if part is None else part.size))
        self._add(
            Call(
                init.draw,
                (view, kind, params, rng, part),
                writes=(view,),
                replaces={view.storage} if self.tape.is_whole(view) else (),
                random=rng is None,
            )
        )

    def seeded(self) -> bool:
        """Return whether someone has seeded PyTorch's generator within the context."""
        return bool(torch.default_generator.initial_seed() != self._seed)

    def _constant(self, value: torch.Tensor) -> torch.Tensor:
        """Return a tensor without memory that stands for values which are there."""
        new = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=_META)
        view, value = self.tape.view(new), value.detach().clone()
        self._add(Call(given, (value,), writes=(view,), results=((0, view),),
                       replaces={view.storage}))  # fmt: skip
        if value.numel() == 1 and not value.is_complex():
            self._numbers[view.storage] = value.item()
        return new

    def _run_on_real(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operator that writes a tensor which was there before the context."""
        if traits_of(func).random and args[0].numel():
            _warn(
                f"{func} draws into a tensor that was made outside of deferred(): it is done now, "
                "and follows torch.manual_seed, and not the seed of initialize"
            )
        args, kwargs = map_leaves(self._real, (args, kwargs))
        return func(*args, **kwargs)

    def _run_on_meta(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        written: list[torch.Tensor],
    ) -> Any:
        """Run an operator without memory, and note it."""
        traits = traits_of(func)
        args, kwargs = map_leaves(self._without_memory, (args, kwargs))
        if traits.takes_device and (not traits.takes_tensors or kwargs.get("device") is not None):
            kwargs["device"] = _META
        before = self._storages((args, kwargs)) if traits.takes_tensors else set()
        written_views = [self.tape.view(x) for x in written]
        try:
            # The kernels refuse a generator that is not of the device.
            drawn = {**kwargs, "generator": None} if "generator" in kwargs else kwargs
            results = func(*args, **drawn)
        except (NotImplementedError, RuntimeError, IndexError):
            if _FORMED_BY_VALUES.intersection(func.tags) or written:
                return self._run_on_values(func, args, kwargs)
            results = self._form(func, args, kwargs)
        outs = results if isinstance(results, (tuple, list)) else (results,)
        if any(x.layout is not torch.strided for x in leaves_of(torch.Tensor, outs)):
            return self._run_on_values(func, args, kwargs)
        views = [(i, self.tape.view(x)) for i, x in enumerate(outs) if isinstance(x, torch.Tensor)]
        new = tuple((i, view) for i, view in views if view.storage not in before)
        if (new or written) and traits.name not in _EMPTY:
            self._note(func, args, kwargs, written_views, new, outs)
        return results

    def _note(
        self,
        func: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        written: list[View],
        new: tuple[tuple[int, View], ...],
        outs: Sequence[Any],
    ) -> None:
        """Put an operator that wrote memory, or whose results are in new memory, on the tape."""
        traits, generator = traits_of(func), kwargs.get("generator")
        if generator is None and self.seeded():
            generator = torch.default_generator
        if generator is None and self._is_ours(func, args, kwargs, outs):
            return
        inputs = [*args, *kwargs.values()]
        for i, name in traits.written:
            if name in traits.outs:
                out = args[i] if i < len(args) else kwargs[name]
                inputs = [x for x in inputs if x is not out]
        formed = traits.name.endswith("_like") or traits.name.startswith("new_")
        reads = set() if formed else self._storages(inputs)  # those look at its form alone
        replaces = {v.storage for v in written if traits.outs and self.tape.is_whole(v)} - reads
        state = None
        if traits.random and generator is not None:
            state = _state(func, args, kwargs, generator)
        if traits.name == "copy_" and (number := self._number(args[1])) is not None:
            func, args, kwargs, reads = aten.fill_.Scalar, (args[0], number), {}, set()
        self._add(
            Call(
                func,
                *self.tape.views((args, kwargs)),
                writes=(*written, *(view for _, view in new)),
                results=new,
                reads=reads,
                replaces=replaces | {view.storage for _, view in new},
                random=traits.random and state is None,
                state=state,
            )
        )
        if traits.name == "scalar_tensor":
            self._numbers[new[0][1].storage] = args[0]

    def _add(self, call: Call) -> None:
        for view in call.writes:
            self._numbers.pop(view.storage, None)
        self.tape.add(call)

    def _number(self, source: Any) -> float | None:
        """Return the number that a tensor holds, also one that was expanded."""
        if not isinstance(source, torch.Tensor):
            return None
        return self._numbers.get(self.tape.storage(source))

    def _storages(self, values: Any) -> set[int]:
        return {self.tape.storage(x) for x in leaves_of(torch.Tensor, values)}

    def _is_ours(self, func: Any, args: tuple[Any, ...], kwargs: Any, outs: Any) -> bool:
        """Note an operator as a fill of ours if it is one; return whether it is."""
        name = traits_of(func).name
        params: tuple[float, ...]
        if name in _DRAWN_NEW:
            tensor, kind, params = outs[0], _DRAWN_NEW[name], (0.0, 1.0)
        elif name in _DRAWN_IN_PLACE:
            tensor, kind, params = args[0], _DRAWN_IN_PLACE[name], _parameters(func, args, kwargs)
        else:
            return False
        is_complex = tensor.dtype in COMPLEX_DTYPES
        dtype = DTYPES.get(tensor.dtype.to_real() if is_complex else tensor.dtype)
        distribution = kind.of_parts if is_complex else kind.distribution
        if dtype is None or distribution is None:
            return False
        try:
            params_in(distribution(*params), dtype)
        except (TypeError, ValueError):
            return False  # for torch to refuse, or not
        self.draw(tensor, kind, params, None)
        return True

    def _without_memory(self, x: Any) -> Any:
        """Return what stands for an argument of a call."""
        if isinstance(x, torch.Tensor) and not x.is_meta:
            return self._constant(x)
        return _META if isinstance(x, torch.device) else x

    def _run_on_values(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operator whose result, or its form, depends on values."""
        tensors = leaves_of(torch.Tensor, (args, kwargs))
        written = [id(x) for x in written_by(func, args, kwargs)]
        for tensor in tensors:
            if id(tensor) not in written:
                self._check_written(tensor)
        results = self._result(func, args, kwargs)
        if self._is_random(tensors):
            if isinstance(results, bool):
                views, keywords = self.tape.views((args, kwargs))
                self.tape.checks.append(Check(func, views, keywords, self.tape.length, results))
            else:
                self.value(next(x for x in tensors if self._is_random([x])))  # to warn
        return map_leaves(
            lambda x: self._constant(x) if isinstance(x, torch.Tensor) and is_plain(x) else x,
            results,
        )

    def _form(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return an operator's results without memory; PyTorch cannot tell them without values."""
        return map_leaves(
            lambda x: (
                torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=_META)
                if isinstance(x, torch.Tensor) and is_plain(x)
                else x
            ),
            self._result(func, args, kwargs),
        )

    def _result(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Return an operator's results; if it fails here, the author's own code does."""
        args, kwargs = map_leaves(self._real, (args, {**kwargs}))
        if "device" in kwargs:
            kwargs["device"] = _CPU
        return func(*args, **kwargs)

    def _real(self, x: Any) -> Any:
        """Return an argument of a call with its values."""
        if not (isinstance(x, torch.Tensor) and x.is_meta):
            return x
        if self._root is None:
            with modes_off():
                self._root = generator_of(None)
        view = self.tape.view(x)
        return Replay(self.tape, self._root, {}).value(view, self.tape.history(view.storage))

    def _check_written(self, tensor: torch.Tensor) -> None:
        """Raise ValueError if a tensor whose values are asked for has none yet."""
        view = self.tape.view(tensor)
        if tensor.is_meta and self.tape.undefined(view, self.tape.history(view.storage)):
            raise value_error(
                "deferred(): the model's constructor reads a tensor to which nobody has written; "
                "allowed: one that has values"
            )


def given(value: torch.Tensor) -> torch.Tensor:
    """Return a copy of a constant: a tape's operator for values that were there."""
    return value.clone()


def _indices(index: Any) -> Any:
    """Return an index with tensors for lists: on the meta device PyTorch forgets their numbers."""
    if isinstance(index, tuple):
        return tuple(map(_indices, index))
    if isinstance(index, (list, range)) and all(isinstance(x, int) for x in tree_leaves([*index])):
        index = np.array(index, None if len(index) else np.int64)
    return torch.as_tensor(index, device=_CPU) if isinstance(index, np.ndarray) else index


def _has_operators(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's class does operators itself: as those of plain ones."""
    return type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__


def _parameters(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, ...]:
    """Return the two numbers of `normal_` or `uniform_`, given or by default."""
    return tuple(
        float(args[i] if i < len(args) else kwargs.get(argument.name, argument.default_value))
        for i, argument in enumerate(operator_arguments(func)[1:3], start=1)
    )


def _state(func: Any, args: Any, kwargs: Any, generator: torch.Generator) -> torch.Tensor:
    """Return the state of a generator that an author chose; it moves on as by his call."""
    state = generator.get_state()
    args, kwargs = map_leaves(
        lambda x: (
            torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
            if isinstance(x, torch.Tensor)
            else _CPU if isinstance(x, torch.device) else x
        ),
        (args, kwargs),
    )  # fmt: skip
    func(*args, **kwargs)
    return state


def _warn(text: str) -> None:
    """Warn of the nearest caller outside of fastinit and PyTorch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] not in ("fastinit", "torch"):
            break
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


class Looking(TorchFunctionMode):
    """The upper mode: fills of ours, and looks at tensors from outside."""

    def __init__(self, noting: Noting) -> None:
        super().__init__()
        self._noting = noting

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take over a call of torch's."""
        kwargs = kwargs or {}
        if func is init.draw:
            return self.draw(*args)
        meta = bool(args) and isinstance(args[0], torch.Tensor) and args[0].is_meta
        if getattr(func, "__name__", "") == "__get__":
            said = _SAID.get(func.__self__.__name__) if meta else None
            return func(*args, **kwargs) if said is None else said
        ours = None if self._noting.seeded() else ours_of(func, args, kwargs)
        if ours is not None:
            with self:  # ends in a call of init.draw
                return ours(*args, **kwargs)
        if func is torch.empty and _is_simple(args, kwargs) and is_only_operators_mode():
            return self._noting.empty(*args, **kwargs)
        if func in _OF_DATA:
            args, kwargs = self._read((args, kwargs))
            return func(*args, **{**kwargs, "device": _CPU})
        if func in _INDEXED and meta:
            args = (args[0], _indices(args[1]), *args[2:])
        if func in _MOVES and meta:
            return _moved(func, args, kwargs)
        if func in _READS and meta:
            return func(self._noting.value(args[0]), *args[1:], **kwargs)
        return func(*args, **kwargs)

    def _read(self, arguments: tuple[Any, Any]) -> Any:
        """Return the arguments of a call of `torch.tensor` with the values of tensors in lists."""

        def read(x: Any, depth: int = 0) -> Any:
            if type(x) in (list, tuple):
                return [read(each, depth + 1) for each in x]
            inside = depth > 0 and isinstance(x, torch.Tensor) and x.is_meta
            return self._noting.value(x) if inside else x

        args, kwargs = arguments
        return [read(x) for x in args], {key: read(x) for key, x in kwargs.items()}

    def draw(
        self,
        tensor: torch.Tensor,
        kind: init.Kind,
        params: tuple[float, ...],
        generator: RandomSource | Cursor,
        global_shape: Shape | None = None,
        offset: Shape | None = None,
    ) -> torch.Tensor:
        """Note a fill, or let PyTorch do what is its own."""
        part = init.part_of(tensor, global_shape, offset)
        dtype = DTYPES.get(tensor.dtype)
        if tensor.dtype in COMPLEX_DTYPES and kind.of_parts is None:
            with modes_off():  # PyTorch refuses it, where there is memory
                kind.torchs(torch.empty(1, dtype=tensor.dtype), *params, generator=None)
        if not tensor.is_meta or dtype is None:
            return init.draw(tensor, kind, params, generator, global_shape, offset)
        try:
            params_in(kind.distribution(*params), dtype)
        except (TypeError, ValueError):
            # For torch to refuse, in its own words, or not.
            kind.torchs(torch.empty(1, dtype=tensor.dtype), *params, generator=None)
            return kind.torchs(tensor, *params, generator=None)
        rng = None
        if generator is not None:
            with modes_off():
                rng = cursor(generator)
        self._noting.draw(tensor, kind, params, rng, part)
        return tensor


def _is_simple(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a call of `torch.empty` gives numbers, no device, and a dtype at most."""
    shape = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
    options = {key for key, value in kwargs.items() if value is not None}
    return options <= {"dtype"} and all(type(n) is int for n in shape)


def _moved(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """Return a tensor without memory for one on another device: there it has none either."""
    tensor: torch.Tensor = args[0]
    if func is not torch.Tensor.to:
        return tensor
    first = args[1] if len(args) > 1 else None
    names: tuple[str, ...] = ("dtype", "non_blocking", "copy")
    if not isinstance(first, torch.dtype):
        names = ("device", *names) if not isinstance(first, torch.Tensor) else ("other", *names[1:])
    given = {**dict(zip(names, args[1:], strict=False)), **kwargs}
    dtype = given["other"].dtype if "other" in given else given.get("dtype")
    options = {key: given[key] for key in ("copy", "memory_format") if key in given}
    return tensor.to(tensor.dtype if dtype is None else dtype, **options)


@contextmanager
def noting() -> Iterator[Noting]:
    """Within the context, this thread's tensors have no memory, and calls are noted."""
    with torch.random.fork_rng(devices=[]):
        # Another seed than whatever an author sets, which follows from PyTorch's.
        torch.default_generator.manual_seed(torch.default_generator.initial_seed() ^ _OWN)
        notes = Noting()
        with truncated_overridable(), Looking(notes), notes:
            yield notes


_OWN = 0x66617374696E6974
