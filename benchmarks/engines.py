"""Both engines of the library side by side in one process."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from types import ModuleType


@functools.cache  # an extension module exists once in a process: a second copy of the package would be pure
def load(engine: str) -> ModuleType:
    """A copy of micrograd_bp on the engine "pure" or "accelerated"; ImportError where that one is not built."""
    mine = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "micrograd_bp"}
    for name in mine:
        del sys.modules[name]
    before = os.environ.get("MICROGRAD_BP_PURE")
    os.environ["MICROGRAD_BP_PURE"] = "1" if engine == "pure" else ""
    try:
        package = importlib.import_module("micrograd_bp")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "micrograd_bp"]:
            del sys.modules[name]
        sys.modules.update(mine)
        if before is None:
            del os.environ["MICROGRAD_BP_PURE"]
        else:
            os.environ["MICROGRAD_BP_PURE"] = before
    if package.engine_name() != engine:
        raise ImportError(f"the {engine} engine is not built: install with a C compiler at hand")
    return package
