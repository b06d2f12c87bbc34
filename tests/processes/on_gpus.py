"""What `test_on_a_gpu` runs in several processes: parts of a tensor, and no communication."""

import multiprocessing
import sys
from pathlib import Path

import sharded
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor


def run(rank: int, world: int, directory: Path) -> None:
    torch.cuda.set_device(rank % torch.cuda.device_count())
    store = dist.FileStore(str(directory / f"store{world}"), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        cpus, gpus = (init_device_mesh(device, (world,)) for device in ("cpu", "cuda"))
        for placements in sharded.placements(1, 2):
            for name in ("normal", "kaiming_uniform"):
                like = distribute_tensor(torch.zeros(1001, 333), cpus, placements)
                geometry = {"run_check": False, "shape": like.shape, "stride": like.stride()}
                w = DTensor.from_local(like.to_local().cuda(), gpus, placements, **geometry)
                sharded.FILLS[name](w)
                local = w.to_local().cpu()
                whole = DTensor.from_local(local, cpus, placements, **geometry).full_tensor()
                expected = sharded.FILLS[name](torch.zeros(1001, 333))
                assert torch.equal(whole, expected), (name, placements)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def main(world: int, directory: Path) -> int:
    """Run in so many processes; not forked, as CUDA does not live through that."""
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=run, args=(rank, world, directory)) for rank in range(world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return max(abs(rank.exitcode or 0) for rank in ranks)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
