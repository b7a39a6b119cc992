"""The optional part of the build: the accelerated Value, where Cython and a C compiler are at hand."""

import os

from setuptools import Extension, setup

extensions = []
if not os.environ.get("MICROGRAD_BP_PURE"):
    try:
        from Cython.Build import cythonize
    except ImportError:
        pass
    else:
        # No fused multiply-add: Python's own bits. A heap type can be given attributes, as any class of Python's.
        flags = [] if os.name == "nt" else ["-O3", "-ffp-contract=off"]
        macros = [("CYTHON_USE_TYPE_SPECS", "1")]
        source = ["micrograd_bp/_accelerated.pyx"]
        extension = Extension(
            "micrograd_bp._accelerated", source, define_macros=macros, extra_compile_args=flags, optional=True
        )
        extensions = cythonize([extension])

setup(ext_modules=extensions)
