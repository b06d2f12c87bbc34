"""torchvision beside a PyTorch for which its operators were not built: names of them will do."""

import contextlib
import importlib
import importlib.util
import re
from pathlib import Path

import torch

_kept: list[object] = []


def define_torchvision() -> None:
    """Let torchvision be imported: its operators exist, even if nobody can call them."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _kept:
        return
    with contextlib.suppress(RuntimeError):  # without its operators
        importlib.import_module("torchvision")
        return
    text = Path(spec.origin).with_name("_meta_registrations.py").read_text("utf-8")
    names = {*re.findall(r"""register_(?:meta|fake)\(["'](?:torchvision::)?(\w+)["']""", text)}
    _kept.append(library := torch.library.Library("torchvision", "FRAGMENT"))
    for name in sorted(names):
        library.define(f"{name}(Tensor x) -> Tensor")
