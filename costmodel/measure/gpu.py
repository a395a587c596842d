"""The live GPU of this machine: an NVIDIA one by NVRTC and the driver, an AMD one through torch."""

from __future__ import annotations

import importlib

from costmodel.measure.cuda_gpu import CudaGpu
from costmodel.measure.live import Clocks, CompileError, Gpu, GpuError, Launch, OutOfMemoryError, Program, StickyError
from costmodel.measure.rocm_gpu import RocmGpu

__all__ = [
    "Clocks",
    "CompileError",
    "Gpu",
    "GpuError",
    "Launch",
    "OutOfMemoryError",
    "Program",
    "StickyError",
    "find_gpu",
]

_INSTALL = "pip install 'costmodel[measure]' (a torch built for your CUDA or ROCm, cuda-bindings, nvidia-ml-py)"


def find_gpu(index: int = 0) -> Gpu:
    """Return a GPU of this machine.

    Args:
        index: as CUDA numbers them (see CUDA_VISIBLE_DEVICES).

    Raises:
        GpuError: there is none, or a library is missing.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise GpuError(f"measuring needs torch ({error}); {_INSTALL}") from None
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = f"torch {torch.__version__} sees no GPU" if built else f"torch {torch.__version__} is built for the CPU alone"
        raise GpuError(f"{why}; check nvidia-smi or rocm-smi, and {_INSTALL}")
    count = torch.cuda.device_count()
    if not 0 <= index < count:
        raise GpuError(f"GPU {index}: this machine has {count}, numbered from 0")
    if torch.version.hip:
        return RocmGpu(index, torch)
    try:
        driver = importlib.import_module("cuda.bindings.driver")
    except ImportError as error:
        raise GpuError(f"measuring an NVIDIA GPU needs cuda-bindings ({error}); {_INSTALL}") from None
    return CudaGpu(index, torch, driver)
