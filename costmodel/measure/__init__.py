"""What can be measured of a kernel: without a GPU what a compiler makes of it, on one its times and counters."""

from costmodel.measure.compile import Compiled, compiled_registers, resources
from costmodel.measure.cuda_source import Source, cuda_source
from costmodel.measure.run import Outcome, Sweep, measure
from costmodel.measure.task import Settings, Slot

__all__ = [
    "Compiled",
    "Outcome",
    "Settings",
    "Slot",
    "Source",
    "Sweep",
    "compiled_registers",
    "cuda_source",
    "measure",
    "resources",
]
