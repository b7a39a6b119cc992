"""Record once, compile, replay over batches: `jit` for functions, `kernel` for graphs that are recorded already."""

from micrograd_bp.compiler.functions import jit
from micrograd_bp.compiler.kernels import kernel

__all__ = ["jit", "kernel"]
