"""Other libraries, which our tests compare with where they are installed."""

import importlib
import os
from typing import Any

import pytest


def adapter(name: str) -> Any:
    """Return a module, or skip; CI asks for a failure instead."""
    if os.environ.get("FASTINIT_REQUIRE_ADAPTERS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)
