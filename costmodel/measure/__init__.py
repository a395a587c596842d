"""What can be measured of a kernel: here, without a GPU, what a compiler makes of it."""

from costmodel.measure.compile import Compiled, compiled_registers, resources
from costmodel.measure.cuda_source import Source, cuda_source

__all__ = ["Compiled", "Source", "compiled_registers", "cuda_source", "resources"]
