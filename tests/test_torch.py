"""fastinit.torch against torch.nn.init: the same functions, over the stream."""

import importlib
import os

import pytest


def adapter(name):
    """Return a module, or skip; CI asks for a failure instead."""
    if os.environ.get("FASTINIT_REQUIRE_ADAPTERS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


torch = adapter("torch")
init = importlib.import_module("fastinit.torch")
_tensor = importlib.import_module("fastinit.torch._tensor")
