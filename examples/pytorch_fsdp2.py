"""FSDP2: each process fills what it holds, and the shards are those of the whole.

torchrun --nproc-per-node 4 examples/pytorch_fsdp2.py
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import fastinit.torch as init


def model() -> nn.Sequential:
    """Return a few layers, of sizes that do not divide evenly."""
    return nn.Sequential(
        nn.Embedding(1001, 96, padding_idx=0), nn.Linear(96, 203), nn.LayerNorm(203)
    )


dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))

with init.deferred():  # names and shapes: no memory yet
    sharded = model()
for layer in sharded:
    fully_shard(layer, mesh=mesh)
fully_shard(sharded, mesh=mesh)
init.initialize(sharded, seed=42)  # the same seed everywhere; nothing is communicated

whole = model()
init.initialize(whole, seed=42)
for name, parameter in whole.named_parameters():
    gathered = sharded.get_parameter(name).full_tensor()
    assert torch.equal(gathered, parameter), name
if dist.get_rank() == 0:
    print(f"{dist.get_world_size()} processes: every parameter equals the whole's")
dist.destroy_process_group()
