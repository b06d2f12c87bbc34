"""What `test_torch_deferred` runs in each of two processes under DeepSpeed's ZeRO-3, on the CPU."""

import multiprocessing
import os
import sys
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed
import pytest
import torch
from torch import nn

import fastinit.torch as init

# Its operators would be compiled at first use, for which no test needs them.
deepspeed.ops.__compatible_ops__ = dict.fromkeys(deepspeed.ops.__compatible_ops__, False)

CONFIG = {"train_batch_size": 2, "zero_optimization": {"stage": 3}}


def make() -> nn.Module:
    """Return a model whose rules stand in its layers: others find no values under ZeRO-3."""
    return nn.Sequential(nn.Linear(30, 40), nn.LayerNorm(40), nn.Linear(40, 5))


def values(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the values of parameters that processes share."""
    parameters = list(model.parameters())
    with deepspeed.zero.GatheredParameters(parameters):
        return {name: p.detach().clone() for name, p in model.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Return whether two models have the same values."""
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def initialized() -> None:
    """Refused where the parameters are shared, and right where they are gathered."""
    with init.deferred():
        whole = make()
    init.initialize(whole, 1)
    with deepspeed.zero.Init(config_dict_or_path=CONFIG):
        shared = make()
    assert shared[0].weight.shape == (0,)
    before = values(shared)
    with pytest.raises(ValueError, match=r"0\.weight is held by DeepSpeed's ZeRO-3.*modifier_rank"):
        init.initialize(shared, 1)
    assert same(values(shared), before)
    with deepspeed.zero.GatheredParameters(list(shared.parameters()), modifier_rank=0):
        init.initialize(shared, 1)
    assert shared[0].weight.shape == (0,)
    assert same(values(shared), {name: p.detach() for name, p in whole.named_parameters()})


def built_within() -> None:
    """A parameter is whole while its layer's constructor draws it, and shared after it."""
    with init.accelerate(1):
        expected = {name: p.detach() for name, p in make().named_parameters()}
    with deepspeed.zero.Init(config_dict_or_path=CONFIG), init.accelerate(1):
        shared = make()
    assert same(values(shared), expected)


def noted_within() -> None:
    """Both contexts at once: the parameters have no memory, which is said."""
    with init.deferred(), deepspeed.zero.Init(config_dict_or_path=CONFIG):
        model = make()
    with pytest.raises(ValueError, match="held by DeepSpeed's ZeRO-3"):
        init.initialize(model, 1)


def run(rank: int, world: int, directory: Path) -> None:
    """Be one of the processes."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world))
    store = torch.distributed.FileStore(str(directory / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    try:
        deepspeed.init_distributed("gloo")
        initialized()
        built_within()
        noted_within()
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()


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
