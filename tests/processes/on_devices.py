"""What `test_torch_devices` runs in several processes: a model sharded over a stand-in device."""

import multiprocessing
import sys
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import sharded
import standin
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor

import fastinit.torch as init


def gathered(tensor: torch.Tensor, mesh: DeviceMesh) -> torch.Tensor:
    """Return the whole of a tensor of the device; by a mesh of CPUs, whose processes can talk."""
    if not isinstance(tensor, DTensor):
        return tensor.detach().cpu()
    local = tensor.to_local().detach()
    assert local.device.type == "standin"
    names = tensor.device_mesh.mesh_dim_names
    return placed(local.cpu(), mesh[names] if names else mesh, tensor).full_tensor()


def placed(local: torch.Tensor, mesh: DeviceMesh, like: DTensor) -> DTensor:
    return DTensor.from_local(
        local, mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def tensors(world: int) -> None:
    """Fills, on each mesh, in each placement of the device."""
    for mesh_shape in sharded.meshes(world):
        meshes = [init_device_mesh(device, mesh_shape) for device in ("cpu", "standin")]
        for shape in sharded.SHAPES:
            fills = ("normal", "kaiming_uniform", "orthogonal") if shape == (7, 5) else ("normal",)
            for placements, name in product(sharded.placements(len(mesh_shape), len(shape)), fills):
                like = distribute_tensor(torch.zeros(shape), meshes[0], placements)
                w = placed(like.to_local().to("standin"), meshes[1], like)
                assert sharded.FILLS[name](w) is w
                whole = sharded.FILLS[name](torch.zeros(shape))
                assert torch.equal(gathered(w, meshes[0]), whole), (
                    name,
                    mesh_shape,
                    shape,
                    placements,
                )


def models(world: int) -> None:
    """FSDP2 and tensor parallel, from the meta device: equal to the whole on CPU and device."""
    here = sharded.Model()
    init.initialize(here, 42)
    expected = dict(here.named_parameters())
    with init.deferred():
        there = sharded.Model()
    init.initialize(there, 42, device="standin")
    for name, tensor in there.named_parameters():
        assert tensor.device.type == "standin"
        assert torch.equal(tensor.detach().cpu(), expected[name]), name
    for mesh_shape in sharded.meshes(world):
        with torch.device("meta"):
            model = sharded.parallel(sharded.Model(), mesh_shape, "standin")
        names = ("dp", "tp")[: len(mesh_shape)]
        cpus = init_device_mesh("cpu", mesh_shape, mesh_dim_names=names)
        assert init.initialize(model, 42) == []
        parameters = dict(model.named_parameters())
        assert any(isinstance(tensor, DTensor) for tensor in parameters.values())
        for name, tensor in parameters.items():
            assert torch.equal(gathered(tensor, cpus), expected[name]), (mesh_shape, name)


def run(library: Path, rank: int, world: int, directory: Path) -> None:
    torch.set_num_threads(1)
    standin.load(library)
    store = dist.FileStore(str(directory / f"store{world}"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        tensors(world)
        models(world)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def main(library: Path, world: int, directory: Path) -> int:
    """Run in so many processes: forked, as importing torch takes longer than all the rest."""
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=run, args=(library, r, world, directory)) for r in range(world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return max(abs(rank.exitcode or 0) for rank in ranks)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
