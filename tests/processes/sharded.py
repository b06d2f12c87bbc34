"""What `test_torch_sharded` runs in each of several processes, that hold parts of one tensor."""

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import fastinit as fi
import fastinit.torch as init

SHAPES = [(7, 5), (8, 8), (3, 11, 2), (1, 4), (9,), (0, 3)]
FILLS = {
    "normal": lambda w: init.normal_(w, std=0.02, generator=3),
    "uniform": lambda w: init.uniform_(w, generator=torch.Generator().manual_seed(3)),
    "trunc_normal": lambda w: init.trunc_normal_(w, generator=3),
    "manual_seed": init.normal_,
    "kaiming_uniform": lambda w: init.kaiming_uniform_(w, generator=3),
    "xavier_normal": lambda w: init.xavier_normal_(w, generator=3),
    "orthogonal": lambda w: init.orthogonal_(w, generator=3),
    "eye": init.eye_,
    "sparse": lambda w: init.sparse_(w, 0.5, generator=3),
    "sparse, moving on": lambda w: _twice(w, lambda g: init.sparse_(w, 0.3, 2.0, generator=g)),
    "orthogonal, moving on": lambda w: _twice(w, lambda g: init.orthogonal_(w, generator=g)),
}
FILLS |= {
    "blocks": lambda w: _blocks(w, 3),
    "blocks, manual_seed": lambda w: _blocks(w, None),
    "blocks, moving on": lambda w: _twice(w, lambda g: _blocks(w, g)),
}
OF_THREE_AXES = {
    "dirac": init.dirac_,
    "dirac of groups": lambda w: init.dirac_(w, 3),
    "orthogonal": lambda w: init.orthogonal_(w, generator=3),
}


def _blocks(w: torch.Tensor, generator: fi.Generator | int | None) -> torch.Tensor:
    """A weight in two blocks, of outputs."""
    first = w.shape[0] // 2
    return init.blocks_(w, init.normal_, [first, w.shape[0] - first], generator=generator)


def _twice(w: torch.Tensor, fill: Callable[[fi.Generator], object]) -> torch.Tensor:
    """The second of two fills from one generator, which every process moves on alike."""
    rng = fi.default_rng(4)
    fill(rng)
    fill(rng)
    return w


class Block(nn.Module):
    """A layer with what layers have: norms, biases, an odd size, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 12)
        self.down = nn.Linear(12, 6, bias=False)
        self.norm = nn.LayerNorm(6)
        self.odd = nn.Linear(6, 7)
        self.register_buffer("table", torch.arange(5.0), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.down.weight, std=0.02)
        self.table.copy_(torch.arange(5.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.down(self.up(self.norm(x)).relu())
        return x + self.odd(x)[..., 1:]


class Model(nn.Module):
    """An embedding with padding, one that is computed, layers, and a head that is tied."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6, padding_idx=7)
        self.position = nn.Embedding(5, 6)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(6, 10, bias=False)
        self.head.weight = self.embed.weight
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.position:
            with torch.no_grad():
                module.weight.copy_(torch.arange(30.0).view(5, 6).sin())

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens) + self.position(tokens % 5)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def meshes(world: int) -> list[tuple[int, ...]]:
    """Return the shapes of one and two axes that so many processes can have."""
    return [(world,), *((n, world // n) for n in range(2, world) if world % n == 0)]


def placements(mesh_ndim: int, ndim: int) -> list[list[object]]:
    one = [Replicate(), *(Shard(axis) for axis in range(ndim))]
    return [[p] for p in one] if mesh_ndim == 1 else [[p, q] for p in one for q in one]


def tensors(world: int) -> None:
    """Fills, on each mesh, in each placement: what is gathered is the whole."""
    for mesh_shape in meshes(world):
        mesh = init_device_mesh("cpu", mesh_shape)
        for shape in SHAPES:
            fills = {SHAPES[0]: FILLS, SHAPES[2]: OF_THREE_AXES}.get(shape, {})
            fills = {"normal": FILLS["normal"], **fills}
            for name, fill in fills.items():
                torch.manual_seed(1)
                whole = fill(torch.zeros(shape))
                for placed in placements(len(mesh_shape), len(shape)):
                    w = distribute_tensor(torch.zeros(shape), mesh, placed)
                    torch.manual_seed(1)
                    version = w._version
                    with CommDebugMode() as communication:
                        assert fill(w) is w
                    assert communication.get_total_counts() == 0
                    assert w._version > version
                    assert torch.equal(w.full_tensor(), whole), (name, mesh_shape, shape, placed)


def narrow_types(world: int) -> None:
    """bfloat16, and a shard that is not contiguous in memory."""
    mesh = init_device_mesh("cpu", (world,))
    whole = init.normal_(torch.zeros(12, 10, dtype=torch.bfloat16), generator=3)
    w = distribute_tensor(torch.zeros(12, 10, dtype=torch.bfloat16), mesh, [Shard(1)])
    assert torch.equal(init.normal_(w, generator=3).full_tensor(), whole)
    local = w.to_local()
    strided = DTensor.from_local(torch.zeros(*local.shape[::-1]).T, mesh, [Shard(1)],
                                 shape=w.shape, stride=w.stride())  # fmt: skip
    whole = init.normal_(torch.zeros(12, 10), generator=3)
    assert torch.equal(init.normal_(strided, generator=3).full_tensor(), whole)


def refused(world: int) -> None:
    """What knows NumPy's arrays alone would take a part for the whole."""
    mesh = init_device_mesh("cpu", (world,))
    w = distribute_tensor(torch.ones(6, 4), mesh, [Shard(0)])
    for function in (
        lambda: fi.normal_(w, rng=1),
        lambda: fi.standardize_(w),
        lambda: fi.normalize_(w),
        lambda: fi.lsuv_(w, lambda: torch.ones(3)),
        lambda: fi.hadamard_(torch.nn.Parameter(w)),
    ):
        with pytest.raises(TypeError, match="x is a DTensor"):
            function()
    assert torch.equal(w.full_tensor(), torch.ones(6, 4))


def outside_the_mesh(world: int) -> None:
    """A process that holds nothing of a tensor draws nothing, and stays in step."""
    if world == 1:
        return
    mesh = init_device_mesh("cpu", (world,))
    first = DeviceMesh("cpu", list(range(world - 1)))
    w = distribute_tensor(torch.zeros(6, 4), first, [Shard(0)])
    torch.manual_seed(1)
    init.normal_(w)
    after = init.normal_(distribute_tensor(torch.zeros(6, 4), mesh, [Shard(0)]))
    torch.manual_seed(1)
    expected = init.normal_(torch.zeros(6, 4)), init.normal_(torch.zeros(6, 4))
    if w.device_mesh.get_coordinate() is not None:
        assert torch.equal(w.full_tensor(), expected[0])
    assert torch.equal(after.full_tensor(), expected[1])


def parallel(model: nn.Module, mesh_shape: tuple[int, ...], device: str = "cpu") -> nn.Module:
    """Shard a model by FSDP2 over the mesh's first axis, and by tensor parallel over its second."""
    names = ("dp", "tp")[: len(mesh_shape)]
    mesh = init_device_mesh(device, mesh_shape, mesh_dim_names=names)
    for block in model.blocks:
        if len(mesh_shape) == 2:
            plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
            parallelize_module(block, mesh["tp"], plan)
        fully_shard(block, mesh=mesh["dp"])
    fully_shard(model, mesh=mesh["dp"])
    return model


def full(model: nn.Module) -> dict[str, torch.Tensor]:
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return {n: t.full_tensor() if isinstance(t, DTensor) else t.detach() for n, t in named}


def models(world: int) -> None:
    """FSDP2, tensor parallel, both: from the meta device, and from memory."""
    whole = Model()
    init.initialize(whole, 42)
    expected = full(whole)
    assert not expected["embed.weight"][7].any()
    assert expected["position.weight"][0, 1] == torch.tensor(1.0).sin()
    for mesh_shape in meshes(world):
        if len(mesh_shape) == 2 and 12 % world:
            continue  # FSDP2 over tensor parallel needs what divides evenly
        for device in ("deferred", "meta", "cpu"):
            with init.deferred() if device == "deferred" else torch.device(device):
                model = Model()
            model = parallel(model, mesh_shape)
            with CommDebugMode() as communication:
                assert init.initialize(model, 42) == []
            assert communication.get_total_counts() == 0
            assert model.head.weight is model.embed.weight
            got = full(model)
            assert got.keys() == expected.keys()
            for name, value in expected.items():
                assert torch.equal(got[name], value), (mesh_shape, device, name)


def accelerated(world: int) -> None:
    """The model's own initialisation, of shards, at our speed."""
    whole = nn.Linear(9, 7)
    with init.accelerate(seed=1):
        whole.reset_parameters()
    with torch.device("meta"):
        model = nn.Linear(9, 7)
    fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    model.to_empty(device="cpu")
    with init.accelerate(seed=1):
        model.reset_parameters()
    for name, value in whole.named_parameters():
        assert torch.equal(model.get_parameter(name).full_tensor(), value), name


def trains(world: int) -> None:
    """FSDP2 goes on with what was initialised: the gradients are those of one process."""
    with torch.device("meta"):
        model = parallel(Model(), (world,))
    whole = Model()
    tokens = torch.arange(10).view(2, 5)
    for each in (model, whole):
        init.initialize(each, 42)
        each(tokens).square().mean().backward()
    for name, p in whole.named_parameters():
        grad = model.get_parameter(name).grad.full_tensor()
        assert torch.allclose(grad, p.grad, atol=1e-6), name


def checkpoint(world: int, directory: Path) -> None:
    """Save a model's checkpoint, for the test to compare across numbers of processes."""
    with torch.device("meta"):
        model = parallel(Model(), (world,))
    init.initialize(model, 42)
    dcp.save(model.state_dict(), checkpoint_id=directory / f"{world}")


def run(rank: int, world: int, directory: Path) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(directory / f"store{world}"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        tensors(world)
        narrow_types(world)
        outside_the_mesh(world)
        refused(world)
        models(world)
        accelerated(world)
        trains(world)
        checkpoint(world, directory)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def main(world: int, directory: Path) -> int:
    """Run in so many processes: forked, as importing torch takes longer than all the rest."""
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run, args=(rank, world, directory)) for rank in range(world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return max(abs(rank.exitcode or 0) for rank in ranks)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
