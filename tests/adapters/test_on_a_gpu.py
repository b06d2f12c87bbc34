"""What needs an NVIDIA GPU, and a CUDA build of PyTorch: skipped without.

``python -m pytest tests/adapters/test_on_a_gpu.py`` on such a machine. docs/devices.md says whether
that has been done.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from adapters import adapter

torch = adapter("torch")
import fastinit as fi  # noqa: E402
import fastinit.torch as init  # noqa: E402
from fastinit import cuda  # noqa: E402

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    pytest.mark.xdist_group("gpu"),
]

N = 1 << 28
DTYPES = ["float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
FILLS = {
    "uniform": lambda w: init.uniform_(w, -0.3, 0.7, generator=3),
    "normal": lambda w: init.normal_(w, 0.1, 2.5, generator=3),
    "truncated": lambda w: init.truncated_normal_(w, generator=3),
    "wide": lambda w: init.truncated_normal_(w, low=-3.0, high=4.0, generator=3),
    "far": lambda w: init.truncated_normal_(w, low=9.0, high=11.0, generator=3),
}
SCRIPT = Path(__file__).parents[1] / "processes" / "on_gpus.py"


def equal(there, here, chunk=1 << 26):
    """Compare bits, a chunk at a time."""
    flat = [t.reshape(-1).view(torch.uint8) for t in (there, here)]
    return all(
        torch.equal(flat[0][at : at + chunk].cpu(), flat[1][at : at + chunk])
        for at in range(0, flat[1].numel(), chunk)
    )


def test_there_are_kernels():
    assert cuda.missing() is None
    assert fi.info()["cuda"] == "kernels"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FILLS)
def test_bits_are_the_cpus(name, dtype):
    n = N if name != "far" else N >> 6  # the CPU takes a quarter of a minute for these
    kind = getattr(torch, dtype)
    there = FILLS[name](torch.zeros(n, dtype=kind, device="cuda"))
    assert equal(there, FILLS[name](torch.zeros(n, dtype=kind)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype):
    def both(view):
        memory = torch.zeros(60, 70, 80, dtype=getattr(torch, dtype))
        there = memory.cuda()
        init.normal_(view(there), generator=3)
        init.normal_(view(memory), generator=3)
        return equal(there, memory)

    assert both(lambda t: t.transpose(0, 2))
    assert both(lambda t: t[::2, 3:9, 1::3])
    assert both(lambda t: t.permute(1, 2, 0))
    assert both(lambda t: t[7])


def test_the_current_stream_and_two_at_once():
    """A fill is ordered with its stream's work, and with no other's."""
    streams = [torch.cuda.Stream() for _ in range(2)]
    made = []
    for number, stream in enumerate(streams):
        with torch.cuda.stream(stream):
            w = torch.zeros(1 << 24, device="cuda")
            torch.cuda._sleep(10_000_000)
            init.normal_(w, generator=number)
            made.append(w * 2)
    torch.cuda.synchronize()
    for number, w in enumerate(made):
        assert equal(w, init.normal_(torch.zeros(1 << 24), generator=number) * 2)


def test_in_a_cuda_graph():
    w = torch.zeros(1 << 20, device="cuda")
    init.normal_(w, generator=3)  # compiles and loads the kernel, which no graph can hold
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        init.normal_(w, generator=3)
    expected = init.normal_(torch.zeros(1 << 20), generator=3)
    for _ in range(2):
        w.zero_()
        graph.replay()
        assert equal(w, expected)


def test_a_model_from_the_meta_device():
    def make():
        return torch.nn.Sequential(torch.nn.Linear(300, 200), torch.nn.LayerNorm(200))

    here = make()
    init.initialize(here, 42)
    with torch.device("meta"):
        there = make()
    init.initialize(there, 42, device="cuda")
    for name, tensor in here.named_parameters():
        assert there.get_parameter(name).is_cuda
        assert equal(there.get_parameter(name).detach(), tensor.detach())


@pytest.mark.parametrize("world", [2, 4])
def test_shards_over_processes(world, tmp_path):
    """DTensors on as many GPUs as there are; processes share them, and no values travel."""
    done = subprocess.run(
        [sys.executable, SCRIPT, str(world), str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_out_of_memory_is_pytorchs_own_error():
    with torch.device("meta"):
        layer = torch.nn.Linear(1 << 20, 1 << 20)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        init.initialize(layer, 1, device="cuda")


def test_a_lost_device_is_pytorchs_own_error():
    """After an assertion on the device no call works: the process has to end, so it is another."""
    text = """
import torch, fastinit.torch as init
w = torch.zeros(1 << 20, device="cuda")
init.normal_(w)
try:
    torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")]
    torch.cuda.synchronize()
except RuntimeError:
    pass
try:
    init.normal_(w)
    torch.cuda.synchronize()
except RuntimeError as error:
    assert type(error).__module__.startswith("torch"), error
    print("as PyTorch")
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "as PyTorch", done.stderr


def test_arrays_of_others():
    cupy = pytest.importorskip("cupy")
    x = cupy.zeros((300, 200), cupy.float32)
    with cupy.cuda.Stream():
        fi.he_normal_(x, rng=3)
    assert x.get().tobytes() == fi.he_normal((300, 200), rng=3).tobytes()


def test_the_examples_kernel():
    """examples/cuda/dropout.cu, whose values are those of a fill."""
    cupy = pytest.importorskip("cupy")
    source = Path(__file__).parents[2] / "examples" / "cuda" / "dropout.cu"
    include = f"-I{fi.get_include()}"
    options = ("--std=c++17", "--fmad=false", include)
    module = cupy.RawModule(code=source.read_text(), options=options, backend="nvrtc")
    key, x, n = fi.default_rng(3).key, cupy.ones(1000, cupy.float32), 1000
    arguments = (x, cupy.uint64(n), *map(cupy.uint64, key), cupy.float32(0.25))
    module.get_function("dropout")((4,), (256,), arguments)
    kept = fi.uniform(1000, rng=3) >= 0.25
    assert (x.get() == kept / cupy.float32(0.75).get()).all()
