"""Packages that only some of the tests need."""

import importlib
import os

import pytest


def adapter(name):
    """Return a module, or skip; CI asks for a failure instead."""
    if os.environ.get("FASTINIT_REQUIRE_ADAPTERS"):
        return importlib.import_module(name)
    return pytest.importorskip(name)
