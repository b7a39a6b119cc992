"""The optional part of the build: the accelerated engine, compiled where Cython and a C compiler are at hand."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup

# The table as C and as type declarations is written in a process of its own: an engine built before is not loaded here.
subprocess.run(
    [sys.executable, "-m", "micrograd_bp._engine.stubs"],
    cwd=os.path.dirname(os.path.abspath(__file__)),
    env={**os.environ, "MICROGRAD_BP_PURE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    check=True,
)

engine = Extension(
    "micrograd_bp._engine.accelerated",
    ["micrograd_bp/_engine/accelerated.pyx"],
    include_dirs=["micrograd_bp/_engine"],
    define_macros=[("CYTHON_USE_TYPE_SPECS", "1")],  # so that Value can be given attributes, as any class of Python's
    extra_compile_args=[] if os.name == "nt" else ["-O3", "-g0", "-ffp-contract=off"],  # no fused operations
    depends=[
        *map(str, Path("micrograd_bp/_engine").glob("*.pxi")),
        *map(str, Path("micrograd_bp/_engine").glob("*.h")),
    ],
    optional=True,
)
engine.cython_c_in_temp = True
setup(ext_modules=[] if os.environ.get("MICROGRAD_BP_PURE") else [engine])
