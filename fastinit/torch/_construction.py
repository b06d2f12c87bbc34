"""A model's construction on tape: every operation that writes memory, so that it can be done again.

Goal: for each tensor of a model of any size, know what its author's code puts into it, without
the memory that it takes. The model is built of PyTorch's FakeTensors, which have a shape, a
dtype and a device but no memory, so that constructors, helper functions, `_init_weights` and
plain assignments run as they are. Below them a dispatch mode notes each operation with the
memory that it reads and writes. Python-level hooks are not enough for this: PyTorch runs
what `nn.init.constant_` and its like call inside outside of a TorchFunctionMode.

What a tensor holds in the end is then one of four things, see `Tape.content`: a draw, a
constant, a result of operations that can be run again (`Tape.run`), or nothing at all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from fastinit.torch import init
from fastinit.torch._fills import FUNCTIONS, truncated_overridable
from fastinit.torch._tensor import torchs_generator

aten = torch.ops.aten


class Place(NamedTuple):
    """A tensor as a place in a storage."""

    storage: int
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def side_by_side(self) -> bool:
        """Whether its elements lie in memory one after the other, in the order of the indices."""
        step = 1
        for length, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if length != 1 and stride != step:
                return False
            step *= length
        return True

    def within(self, storage: torch.UntypedStorage) -> torch.Tensor:
        """Return the tensor at this place of a storage."""
        return torch.empty(0, dtype=self.dtype).set_(storage, self.offset, self.shape, self.stride)


class Operation(NamedTuple):
    """A call that wrote memory, with places for its tensors.

    `reads` are storages, `writes` what it overwrites or makes.
    """

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    reads: tuple[int, ...]
    writes: tuple[Place, ...]
    result: Any

    @property
    def name(self) -> str:
        """The name without its overload, such as ``normal_``."""
        packet = getattr(self.call, "overloadpacket", self.call)
        return str(packet.__name__)

    @property
    def random(self) -> bool:
        """Whether its result depends on a random generator."""
        tags = getattr(self.call, "tags", ())
        return self.name == TRUNCATED or torch.Tag.nondeterministic_seeded in tags


class Draw(NamedTuple):
    """A random fill: which operation drew, the distribution, and its parameters.

    `plain` is whether it is that operation's own result, not one scaled or shifted since.
    `row` is a row of zeros, written after the draw.
    """

    operation: int
    distribution: str
    params: tuple[float, ...]
    plain: bool = True
    row: int | None = None


class Computed(NamedTuple):
    """The result of operations, in the order in which to run them."""

    operations: tuple[int, ...]


UNSET = None

Content = Draw | float | Computed | None

TRUNCATED = "_no_grad_trunc_normal_"

# Operations that overwrite their first argument without reading it; those of the first line
# keep its shape, whatever it is.
_FILLS = {"normal_", "uniform_", "zero_", "fill_", "random_", "bernoulli_", "exponential_"}
_OVERWRITE = _FILLS | {"copy_", "cauchy_", "geometric_", "log_normal_", TRUNCATED}
_UNSET = {f"{new}empty{like}" for new in ("", "new_") for like in ("", "_like", "_strided")}
_VIEWS = {aten.detach.default, aten.alias.default}
_LIFTS = {aten.lift.default, aten.lift_fresh.default}
_LOOKS = {torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.__array__}


class Tape(TorchDispatchMode):
    """Notes the operations of a thread; see `recording`."""

    def __init__(self, fakes: FakeTensorMode) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self._fakes = fakes
        self._written: defaultdict[int, list[int]] = defaultdict(list)
        self._nbytes: dict[int, int] = {}
        self._twins: dict[int, FakeTensor] = {}
        self._kept: list[Any] = []  # a storage is known by its address, so it must not be freed

    def place(self, tensor: torch.Tensor) -> Place:
        """Return where a tensor is; one that is real has a fake in its place."""
        if not isinstance(tensor, FakeTensor):
            tensor = self._fake(tensor)
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._nbytes:
            self._kept.append(storage)
            self._nbytes[key] = storage.nbytes()
        return Place(
            key,
            tensor.dtype,
            tensor.storage_offset(),
            tuple(tensor.shape),
            tuple(tensor.stride()),
        )

    # What is noted.

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation on fakes, and note it if it writes."""
        kwargs = kwargs or {}
        if func.namespace == "prim" or (func in _VIEWS and isinstance(args[0], FakeTensor)):
            return func(*args, **kwargs)
        if func in _LIFTS and not isinstance(args[0], FakeTensor):
            return self._constant(args[0])
        args, kwargs = _mapped(self._fake, args), _mapped(self._fake, kwargs)
        if _leaves((args, kwargs), torch.Generator):
            return self.with_generator(func, args, kwargs)
        try:
            return self.note(func, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            return self._really(func, args, kwargs)

    def note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run and note an operation on fakes; a fill, whose shape is its target's, is not run."""
        name = getattr(func, "overloadpacket", func).__name__
        places, named = _mapped(self._placed, args), _mapped(self._placed, kwargs)
        result = args[0] if name in _FILLS or name == TRUNCATED else func(*args, **kwargs)
        written = self._targets(func, places, named)
        read = list(_leaves((places[1:] if name in _OVERWRITE else places, named), Place))
        known = {place.storage for place in (*read, *written)}
        known |= {place.storage for place in _leaves(places[:1], Place)}
        where = _mapped(self._placed, result)
        made = [place for place in _leaves(where, Place) if place.storage not in known]
        if written or made:
            self._append(
                Operation(
                    func,
                    places,
                    named,
                    tuple(dict.fromkeys(place.storage for place in read)),
                    (*written, *made),
                    where,
                )
            )
        return result

    def _append(self, operation: Operation) -> None:
        for storage in dict.fromkeys(place.storage for place in operation.writes):
            self._written[storage].append(len(self.operations))
        self.operations.append(operation)

    def _placed(self, x: Any) -> Any:
        return self.place(x) if isinstance(x, torch.Tensor) else x

    def _fake(self, x: Any) -> Any:
        """Return the fake that stands for a tensor that is real: one for all its uses."""
        if not isinstance(x, torch.Tensor) or isinstance(x, FakeTensor):
            return x
        if id(x) not in self._twins:
            self._kept.append(x)
            self._twins[id(x)] = self._constant(x)
        return self._twins[id(x)]

    def _constant(self, real: torch.Tensor) -> FakeTensor:
        """Return a fake whose values are known."""
        with _disable_current_modes():
            values = real.detach().clone()
        fake = self._fakes.from_tensor(values, static_shapes=True)
        place = self.place(fake)
        self._append(Operation(torch.clone, (values,), {}, (), (place,), place))
        return fake

    @staticmethod
    def _targets(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Place, ...]:
        """Return what an operation overwrites, by its schema."""
        if not hasattr(func, "_schema"):
            return (args[0],)
        found: list[Place] = []
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = args[i] if i < len(args) else kwargs.get(argument.name)
                found += _leaves(given, Place)
        return tuple(found)

    def with_generator(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run what draws from a generator of its own at once: its values are the author's."""
        with _disable_current_modes(), torch.no_grad():
            now = _mapped(self._now, args)
            result = self._constant(func(*now, **_mapped(self._now, kwargs)))
        if self._targets(func, _mapped(self._placed, args), {}):
            return self.note(aten.copy_.default, (args[0], result), {})
        return result

    def _really(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run an operation whose result the code wants to know, on values."""
        with _disable_current_modes(), torch.no_grad():
            result = func(*_mapped(self._now, args), **_mapped(self._now, kwargs))
        return _mapped(lambda x: self._constant(x) if isinstance(x, torch.Tensor) else x, result)

    def _now(self, x: Any) -> Any:
        return self.values(x) if isinstance(x, torch.Tensor) else x

    def values(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return what a tensor holds now.

        Raises
        ------
        RuntimeError
            If that is random: what is built must not depend on it, as the seed comes later.
        """
        place = self.place(tensor)
        operations = self._needed(place.storage, len(self.operations))
        if any(self.operations[i].random for i in operations):
            raise RuntimeError("the construction of the model depends on random values")
        with _disable_current_modes():
            return self.run(operations, place)

    # What it amounts to.

    def content(self, tensor: torch.Tensor) -> Content:
        """Return what a tensor holds at the end: a draw, a number, `Computed`, or `UNSET`."""
        place = self.place(tensor)
        content = self._content(place.storage, len(self.operations))
        if isinstance(content, Draw) and content.row is not None and not self._is_all(place):
            content = Computed(())
        return self.computed(place) if isinstance(content, Computed) else content

    def computed(self, place: Place) -> Computed:
        """Return all the operations that what is at a place in the end depends on."""
        return Computed(self._needed(place.storage, len(self.operations)))

    def _is_all(self, place: Place) -> bool:
        """Return whether a place is all of its storage."""
        return bool(place.size * place.dtype.itemsize == self._nbytes[place.storage])

    def _content(self, storage: int, before: int) -> Content:
        at = next((i for i in reversed(self._written[storage]) if i < before), None)
        if at is None:
            return UNSET if self._nbytes[storage] else 0.0
        operation = self.operations[at]
        name, kwargs = operation.name, operation.kwargs
        if name in _UNSET:
            return UNSET if self._nbytes[storage] else 0.0
        if "alpha" in kwargs or "rounding_mode" in kwargs:
            return Computed(())
        target = next(place for place in operation.writes if place.storage == storage)
        if not self._is_all(target):
            return self._with_part(storage, at, target)
        content = self._whole(operation, at)
        if isinstance(content, float):
            return _rounded(content, target.dtype)
        is_float = target.dtype.is_floating_point
        return content if is_float or not isinstance(content, Draw) else Computed(())

    def _whole(self, operation: Operation, at: int) -> Content:
        """Return the content of a storage that an operation has overwritten as a whole."""
        name, args = operation.name, operation.args
        if name in _NUMBERS:
            return _NUMBERS[name]
        if name in _FULL:
            return _or_computed(self._number(args[_FULL[name]], at))
        if name in _DRAWS and not any(isinstance(x, Place) for x in args[1:]):
            distribution, defaults = _DRAWS[name]
            params = args[1:] if name.endswith("_") else args[:2] if name == "normal" else ()
            params = (*params, *defaults[len(params) :])[: len(defaults)]
            return Draw(at, distribution, tuple(map(float, params)))
        if name in _COPIES:
            return self._copied(args[_COPIES[name]], at)
        if name == "constant_pad_nd":
            source = self._copied(args[0], at)
            is_copy = not any(args[1]) or source == (args[2] if len(args) > 2 else 0.0)
            return source if is_copy else Computed(())
        if name.rstrip("_") in _AFFINE and len(args) <= 2:
            return self._moved(name.rstrip("_"), args, at)
        return Computed(())

    def _with_part(self, storage: int, at: int, target: Place) -> Content:
        """Return the content of a storage of which the last operation wrote a part."""
        before, operation = self._content(storage, at), self.operations[at]
        number = None
        if operation.name == "zero_":
            number = 0.0
        elif operation.name in ("fill_", "copy_"):
            number = self._number(operation.args[1], at)
        if number is not None and number == before:
            return number
        row, rest = divmod(target.offset, target.size) if target.size else (0, 1)
        is_row = target.side_by_side and not rest and len(target.shape) >= 1
        if (
            number == 0
            and is_row
            and isinstance(before, Draw)
            and before.distribution == "normal"
            and before.params[0] == 0
            and before.row in (None, row)
            and self._row_length(before) == target.size
        ):
            return before._replace(row=row)
        return Computed(())

    def _row_length(self, draw: Draw) -> int:
        """Return how many elements the first axis of what was drawn steps over."""
        (drawn,) = self.operations[draw.operation].writes
        return math.prod(drawn.shape[1:]) if len(drawn.shape) > 1 and drawn.side_by_side else -1

    def _copied(self, source: Any, at: int) -> Content:
        """Return the content of a storage that is a copy of something."""
        number = self._number(source, at)
        if number is not None or not isinstance(source, Place):
            return _or_computed(number)
        content = self._content(source.storage, at)
        if isinstance(content, Draw) and (content.row is not None or not self._is_all(source)):
            return Computed(())
        return Computed(()) if content is UNSET else content

    def _moved(self, name: str, args: tuple[Any, ...], at: int) -> Content:
        """Return the content of a storage that is a draw, times or plus a number."""
        draw, number = self._copied(args[0], at), self._number(args[-1], at)
        if len(args) == 1:
            number = 0.0
        movable = isinstance(draw, Draw) and draw.distribution in ("normal", "uniform")
        if not movable or number is None or (name == "div" and number == 0):
            return Computed(())
        assert isinstance(draw, Draw)
        scale, shift = _AFFINE[name](number)
        if draw.distribution == "normal":
            mean, std = draw.params
            params = (mean * scale + shift, std * abs(scale))
        else:
            low, high = sorted(value * scale + shift for value in draw.params)
            params = (low, high)
        return Draw(draw.operation, draw.distribution, params, plain=False)

    def _number(self, x: Any, at: int) -> float | None:
        """Return a number, given as such or as a tensor that holds no other."""
        if isinstance(x, (bool, int, float)):
            return float(x)
        if isinstance(x, torch.Tensor) and not x.is_complex() and x.numel():
            first = x.flatten()[0]
            return float(first) if bool((x == first).all()) else None
        content = self._content(x.storage, at) if isinstance(x, Place) else None
        return content if isinstance(content, float) else None

    # Doing it again.

    def _needed(self, storage: int, before: int) -> tuple[int, ...]:
        """Return the operations that decide what a storage holds before another, in order."""
        chosen: set[int] = set()
        todo = [(storage, before)]
        while todo:
            for i in self._deciding(*todo.pop()):
                if i not in chosen:
                    chosen.add(i)
                    todo += [(read, i) for read in self.operations[i].reads]
        return tuple(sorted(chosen))

    def _deciding(self, storage: int, before: int) -> Iterator[int]:
        """Yield the operations on a storage, the last first, back to one that overwrites it."""
        for i in reversed(self._written[storage]):
            if i < before:
                yield i
                operation = self.operations[i]
                wholes = [p for p in operation.writes if p.storage == storage and self._is_all(p)]
                if wholes and storage not in operation.reads:
                    return

    def run(
        self,
        operations: Iterable[int],
        place: Place,
        draw: Callable[[int, Callable[[], torch.Tensor]], bool] | None = None,
    ) -> torch.Tensor:
        """Run operations on the CPU; return what is then at a place.

        Parameters
        ----------
        operations : iterable of int
            Of a `Computed`.
        place : Place
            Of its tensor.
        draw : callable, optional
            Is given each random operation, and what returns the tensor that it writes. It fills
            that and returns True, or prepares PyTorch's generator.

        Notes
        -----
        What nobody has written is NaN, so that nobody takes it for a value.
        """
        storages: dict[int, torch.UntypedStorage] = {}

        def real(x: Any) -> Any:
            if not isinstance(x, Place):
                return x
            if x.storage not in storages:
                storages[x.storage] = _memory(x.dtype, self._nbytes[x.storage])
            return x.within(storages[x.storage])

        with torch.no_grad():
            for i in operations:
                operation = self.operations[i]
                args, kwargs = _mapped(real, operation.args), _mapped(real, operation.kwargs)
                if (
                    operation.random
                    and draw is not None
                    and draw(i, partial(real, operation.writes[0]))
                ):
                    continue
                result = operation.call(*args, **kwargs)
                made = _leaves(result, torch.Tensor)
                for tensor, where in zip(made, _leaves(operation.result, Place), strict=True):
                    if where.storage in storages:
                        continue
                    if operation.name in _UNSET or not self._same(tensor, where):
                        real(where).copy_(_unset(tensor) if operation.name in _UNSET else tensor)
                    else:
                        storages[where.storage] = tensor.untyped_storage()
            tensor = real(place)
            assert isinstance(tensor, torch.Tensor)
            return tensor

    def _same(self, tensor: torch.Tensor, place: Place) -> bool:
        """Return whether a tensor lies in its storage as its fake did."""
        mine = (tensor.dtype, tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        nbytes = tensor.untyped_storage().nbytes()
        return mine == place[1:] and nbytes == self._nbytes[place.storage]


# Operations that write one number, and which argument of those that are told it says so.
_NUMBERS = {
    f"{new}{name}{like}": number
    for name, number in (("zeros", 0.0), ("ones", 1.0))
    for new in ("", "new_")
    for like in ("", "_like")
} | {"zero_": 0.0}
_FULL = {"full": 1, "full_like": 1, "new_full": 2, "fill_": 1}
_COPIES = {"copy_": 1, "clone": 0, "_to_copy": 0}
_DRAWS = {
    "normal_": ("normal", (0.0, 1.0)),
    "normal": ("normal", (0.0, 1.0)),
    "randn": ("normal", (0.0, 1.0)),
    "randn_like": ("normal", (0.0, 1.0)),
    "uniform_": ("uniform", (0.0, 1.0)),
    "rand": ("uniform", (0.0, 1.0)),
    "rand_like": ("uniform", (0.0, 1.0)),
    TRUNCATED: ("trunc_normal", (0.0, 1.0, -2.0, 2.0)),
}
# By what a value is multiplied, and what is added then.
_AFFINE: dict[str, Callable[[float], tuple[float, float]]] = {
    "mul": lambda number: (number, 0.0),
    "div": lambda number: (1 / number, 0.0),
    "add": lambda number: (1.0, number),
    "sub": lambda number: (1.0, -number),
    "neg": lambda _: (-1.0, 0.0),
}


def _rounded(number: float, dtype: torch.dtype) -> float:
    """Return a number as a dtype holds it."""
    with _disable_current_modes():
        return float(torch.tensor(number, dtype=torch.float64).to(dtype))


def _or_computed(number: float | None) -> Content:
    return Computed(()) if number is None else number


def _memory(dtype: torch.dtype, nbytes: int) -> torch.UntypedStorage:
    return _unset(torch.empty(nbytes // dtype.itemsize, dtype=dtype)).untyped_storage()


def _unset(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.fill_(math.nan if tensor.is_floating_point() or tensor.is_complex() else 0)


def _mapped(function: Callable[[Any], Any], x: Any) -> Any:
    """Return what holds tensors with a function of each; several times faster than PyTorch's."""
    if type(x) in (list, tuple):
        return type(x)(_mapped(function, each) for each in x)
    if type(x) is dict:
        return {key: _mapped(function, each) for key, each in x.items()}
    if isinstance(x, tuple) and type(x).__module__ == "torch.return_types":
        return tuple(_mapped(function, each) for each in x)
    return function(x)


def _leaves(x: Any, kind: type) -> list[Any]:
    """Return what of a kind is in lists, tuples and dictionaries."""
    if isinstance(x, kind):
        return [x]
    if isinstance(x, (list, tuple)):
        return [leaf for each in x for leaf in _leaves(each, kind)]
    if isinstance(x, dict):
        return [leaf for each in x.values() for leaf in _leaves(each, kind)]
    return []


class _Python(TorchFunctionMode):
    """What the dispatcher does not see: truncated normals, and values that become Python's."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Take over a call of torch's, or let it be."""
        kwargs = kwargs or {}
        if func in _LOOKS and isinstance(args[0], FakeTensor):
            values = self._tape.values(args[0])
            with _disable_current_modes():
                return func(values, *args[1:], **kwargs)
        if func is init.draw and isinstance(args[0], FakeTensor):
            return self._draw(*args)
        ours = FUNCTIONS.get(func.__name__) if isinstance(func, FunctionType) else None
        if ours is None:
            return func(*args, **kwargs)
        with self:  # ends in a call of init.draw, with the parameters that `initialize` has
            return ours(*args, **kwargs)

    def _draw(
        self, tensor: torch.Tensor, kind: init.Kind, params: tuple[float, ...], generator: Any
    ) -> torch.Tensor:
        generator = torchs_generator(generator, tensor.device)
        if kind in (init.UNIFORM, init.NORMAL):
            fill = tensor.uniform_ if kind is init.UNIFORM else tensor.normal_
            with torch.no_grad():
                return fill(*params, generator=generator)
        mean, std, low, high = params
        if kind is init.TRUNCATED:
            low, high = mean + low * std, mean + high * std
        args = (tensor, mean, std, low, high)
        if generator is not None:
            return self._tape.with_generator(_no_grad_trunc_normal_, (*args, generator), {})
        return self._tape.note(_no_grad_trunc_normal_, args, {})


def _no_grad_trunc_normal_(tensor: torch.Tensor, *args: Any) -> torch.Tensor:
    return torch.nn.init._no_grad_trunc_normal_(tensor, *args)


@contextmanager
def recording() -> Iterator[Tape]:
    """Within the context, this thread's tensors are fakes, and a tape notes what is done.

    Examples
    --------
    >>> with recording() as tape:
    ...     layer = torch.nn.Linear(4, 3)
    >>> tape.content(layer.bias)
    Draw(operation=3, distribution='uniform', params=(-0.5, 0.5), plain=True, row=None)
    """
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    with truncated_overridable(), _data_set(), fakes, Tape(fakes) as tape, _Python(tape):
        yield tape


@contextmanager
def _data_set() -> Iterator[None]:
    """Let ``model.to(dtype)`` set the data of fakes: it would swap them, which PyTorch refuses."""
    swap = torch.utils.swap_tensors

    def swap_or_set(old: torch.Tensor, new: torch.Tensor) -> None:
        if isinstance(old, FakeTensor):
            old.data = new
        else:
            swap(old, new)

    torch.utils.swap_tensors = swap_or_set
    try:
        yield
    finally:
        torch.utils.swap_tensors = swap
