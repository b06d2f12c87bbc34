"""Memory of torch's that changes hands while a fill waits for it, and memory that is gone.

What `accelerate` puts off must be as if it were done at once, whatever becomes of the memory.
"""

import ctypes
import importlib
import multiprocessing.reduction
import subprocess
import sys

import numpy as np
import pytest
from adapters import adapter

# torch warns about its own matters, at import and later.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
    # Said once for each reason, to whichever test comes first; test_torch_devices.py tests it.
    pytest.mark.filterwarnings("ignore:PyTorch drew the values"),
]
torch = adapter("torch")
init = importlib.import_module("fastinit.torch")
fills = importlib.import_module("fastinit.torch._fills")

N = 3000


def first_value(address):
    return ctypes.cast(address, ctypes.POINTER(ctypes.c_float))[0]


def of_numpy(w):
    array = w.numpy()
    w.normal_()
    return array.copy()


def of_an_array(_):
    array = np.zeros(N, np.float32)
    torch.from_numpy(array).normal_()
    return array.copy()


def of_a_buffer(_):
    memory = bytearray(4 * N)
    torch.frombuffer(memory, dtype=torch.float32).normal_()
    return np.frombuffer(memory, np.float32).copy()


def of_dlpack(_):
    array = np.zeros(N, np.float32)
    torch.from_dlpack(array).normal_()
    return array.copy()


def of_a_file(w, tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(4 * N))
    torch.from_file(str(path), shared=True, size=N, dtype=torch.float32).normal_()
    return w, np.fromfile(path, np.float32)


def shared_before(w):
    w.share_memory_()
    w.normal_()
    handle = w.untyped_storage()._share_filename_cpu_()
    return torch.tensor([], dtype=torch.float32).set_(
        torch.UntypedStorage._new_shared_filename_cpu(*handle)
    )


def shared_after(w):
    w.normal_()
    w.share_memory_()
    return w


def storage_freed(w):
    w.normal_()
    w.untyped_storage().resize_(0)
    return w.untyped_storage().nbytes()


def held_storage_freed(w):
    storage = w.untyped_storage()
    w.normal_()
    storage.resize_(0)
    return [bytearray(4 * N) for _ in range(100)], storage.nbytes()


def held_storage_freed_and_back(w):
    storage = w.untyped_storage()
    w.normal_()
    storage.resize_(0)
    storage.resize_(4 * N)
    return w.zero_()


def held_storage_written(w):
    storage = w.untyped_storage()
    w.normal_()
    storage.fill_(0)
    return w


def held_storage_read(w):
    storage = w.untyped_storage()
    w.normal_()
    return torch.tensor(storage.tolist())


def held_typed_storage_read(w):
    storage = w.storage()
    w.normal_()
    return torch.tensor(storage.tolist())


def resized_as_fsdp_does(w):
    flat = w.detach()
    w.normal_()
    flat.untyped_storage().resize_(0)
    flat.untyped_storage().resize_(4 * N)
    return flat.copy_(torch.ones(N))


def longer(w):
    w.normal_()
    return w.resize_(2 * N)[:N]


def shorter(w):
    w.normal_()
    return w.resize_(5)


def set_to_other_memory(w):
    before = w.detach()
    w.normal_()
    w.set_(torch.zeros(5))
    return before, w


def set_from_another(w):
    other = torch.ones(N)
    w.normal_()
    other.set_(w)
    return other, w


def other_data(w):
    before = w.detach()
    w.normal_()
    w.data = torch.zeros(5)
    return before, w


def data_of_another(w):
    other = torch.ones(N)
    w.normal_()
    other.data = w
    w.zero_()
    return other, w


def swapped(w):
    other = torch.ones(N)
    w.normal_()
    torch.utils.swap_tensors(w, other)
    return other, w


def swapped_storage(w):
    other = torch.ones(N)
    w.normal_()
    ours, theirs = w.untyped_storage(), other.untyped_storage()
    w.set_(theirs, 0, (N,))
    other.set_(ours, 0, (N,))
    return other, w


def parameter(w):
    held = torch.nn.Parameter(w)
    with torch.no_grad():
        held.normal_()
    w.add_(1)
    return held


def deleted(w):
    view = w[10:20]
    w.normal_()
    del w
    return view


def of_its_address(w):
    w.normal_()
    return torch.tensor(first_value(w.data_ptr()))


def overlapping(_):
    w = torch.zeros(4).as_strided((2, 2), (1, 1))
    w.normal_()
    return w


def pickled(w):
    w.normal_()
    return torch.from_numpy(
        multiprocessing.reduction.ForkingPickler.loads(
            multiprocessing.reduction.ForkingPickler.dumps(w.numpy())
        )
    )


WAYS = [
    value
    for value in list(vars().values())
    if callable(value) and getattr(value, "__module__", "") == __name__ and value is not first_value
]


def run(way, directory):
    with init.accelerate(0):
        extra = (directory,) if way is of_a_file else ()
        return way(torch.zeros(N), *extra)


def numbers(value):
    if isinstance(value, (tuple, list)):
        return [numbers(each) for each in value]
    return value.detach().numpy().tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_fill_that_waits_is_as_one_done_at_once(way, tmp_path, monkeypatch):
    waited = numbers(run(way, tmp_path))
    monkeypatch.setattr(fills, "_may_wait", lambda _: False)
    np.testing.assert_equal(waited, numbers(run(way, tmp_path)))


def test_plain_tensors_and_parameters_do_wait():
    for w in (torch.zeros(N), torch.nn.Parameter(torch.zeros(N)).data, torch.zeros(30, 100)):
        assert fills._may_wait(w)
    layer = torch.nn.Linear(10, 10)
    assert fills._may_wait(layer.weight)


FILLS = [init.normal_, init.uniform_, init.trunc_normal_]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("nbytes", [0, 40, 4 * N - 1])
@pytest.mark.parametrize("view", [lambda w: w, lambda w: w[::2], lambda w: w.view(30, 100).T])
def test_a_storage_that_is_too_short_is_refused(fill, nbytes, view):
    w = torch.zeros(N)
    strided = view(w)
    w.untyped_storage().resize_(nbytes)
    if view(torch.arange(N)).max() == N - 1 or nbytes < 4 * N - 4:
        with pytest.raises(RuntimeError, match=rf"the {nbytes} bytes of its storage"):
            fill(strided, generator=0)
    assert fill(torch.empty(0), generator=0).numel() == 0


@pytest.mark.parametrize("fill", FILLS)
def test_a_lazy_copy_gets_memory_of_its_own(fill):
    w = torch.zeros(N)
    copy = torch._lazy_clone(w)
    assert fill(copy[7:], generator=0).std() > 0.1
    assert not w.any()
    assert not copy[:7].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_that_is_not_aligned_is_left_to_torch(dtype):
    w = torch.frombuffer(bytearray(4 * N), dtype=dtype, offset=1, count=N // 2)
    name = str(dtype).removeprefix("torch.")
    with pytest.warns(UserWarning, match=rf"PyTorch drew .* x is not aligned to its dtype, {name}"):
        init.normal_(w, generator=0)
    assert init.normal_(w[:0], generator=0).numel() == 0


# Memory of 128 MiB goes back to the system as soon as nobody holds it: a write there is the end.
WHILE_FILLING = """
import ctypes, threading
import torch
import fastinit.torch as init

def turn(change):
    x = torch.zeros(2**25)
    first = ctypes.cast(x.data_ptr(), ctypes.POINTER(ctypes.c_float))
    done, changed = threading.Event(), []

    def watch():
        while first[0] == 0:
            pass
        change(x)
        changed.append(not done.is_set())

    thread = threading.Thread(target=watch)
    thread.start()
    init.normal_(x)
    done.set()
    thread.join()
    return changed == [True]

def data(x):
    x.data = torch.empty(0)

def wider(x):
    x.data = torch.empty(3, dtype=torch.float64)

for change in (data, wider, lambda x: x.set_(torch.empty(0))):
    assert any(turn(change) for _ in range(30))
"""


def test_memory_that_another_thread_takes_away_while_it_is_filled():
    done = subprocess.run([sys.executable, "-c", WHILE_FILLING], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("nbytes", [4 * N, 8 * N])
def test_a_tensor_that_becomes_wider_between_its_check_and_its_fill(nbytes):
    """`x.data = y` by another thread: the fill keeps within the memory that it finds."""
    known = fills.known_dtype(torch.empty(N))
    tensor = torch.zeros(nbytes // 2, dtype=torch.float16)
    distribution = importlib.import_module("fastinit._distributions").normal_distribution(0.0, 1.0)
    tensors = importlib.import_module("fastinit.torch._tensor")
    rng = importlib.import_module("fastinit").default_rng(1)
    with pytest.raises(RuntimeError, match="does not lie within"):
        tensors.fill(tensor, known, distribution, rng)
    with pytest.raises(ValueError, match="x has items of 2 bytes, and no float32"):
        tensors.fill(tensor[::2], known, distribution, rng)
    assert not tensor.any()


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("view", [lambda w: w.view(30, 100).T, lambda w: w[::2]])
def test_after_a_fill_a_storage_can_still_be_resized(fill, view):
    w = torch.zeros(N)
    fill(view(w), generator=0)
    w.untyped_storage().resize_(0)
    assert w.untyped_storage().nbytes() == 0


@pytest.mark.parametrize("fill", FILLS)
def test_negative_tensors_have_the_values_that_they_show(fill):
    shown = torch._neg_view(torch.zeros(10**5))
    assert shown.is_neg()
    assert fill is init.trunc_normal_ or fill(shown, 1.0, 2.0, generator=0).mean() > 0.9
    torch.manual_seed(0)
    with init.accelerate():
        shown.uniform_(1, 2)
    assert shown.min() >= 1
    assert shown.max() <= 2


@pytest.mark.parametrize("fill", FILLS)
def test_inference_tensors_are_refused_outside_inference_mode(fill):
    with torch.inference_mode():
        w = torch.zeros(N)
        assert fill(w, generator=0).std() > 0.1
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside"):
        fill(w, generator=0)
    with init.accelerate(0), pytest.raises(RuntimeError, match="Inplace update to inference"):
        w.normal_()


@pytest.mark.parametrize("recipe", [None, "default"])
def test_models_whose_memory_is_not_to_be_written_are_refused(recipe):
    """By the author's rules and by a recipe's: nothing of the model is written."""
    with torch.inference_mode():
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3))
    before = [parameter.tolist() for parameter in model.parameters()]
    with pytest.raises(TypeError, match="inference tensor, outside of inference mode"):
        init.initialize(model, 1, recipe)
    assert [parameter.tolist() for parameter in model.parameters()] == before


def test_a_recipe_does_not_write_beside_what_a_view_shows():
    model = torch.nn.Linear(3, 4)
    model.weight = torch.nn.Parameter(torch._neg_view(torch.zeros(4, 3)))
    if not model.weight.is_neg():
        pytest.skip("this version of PyTorch makes no such parameters")
    with pytest.raises(TypeError, match="negatives of other values"):
        init.initialize(model, 1, "default")
