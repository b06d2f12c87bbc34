"""fastinit.torch against torch.nn.init: the same functions, over the stream."""

import copy
import importlib
import inspect
import math
import os
import threading
import warnings

import numpy as np
import pytest
from scipy import stats

import fastinit as fi
from fastinit._fill import as_dtype


def adapter(name):
    """Return a module, or skip; CI asks for a failure instead."""
    if os.environ.get("FASTINIT_REQUIRE_ADAPTERS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)


torch = adapter("torch")
init = importlib.import_module("fastinit.torch")
_tensor = importlib.import_module("fastinit.torch._tensor")
