"""Clocks, power, temperature and ECC of an NVIDIA GPU, by nvidia-ml-py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costmodel.measure.live import Clocks

__all__ = ["NO_CLOCKS", "Nvml"]

NO_CLOCKS = Clocks(None, None, None, None)


class Nvml:
    """One GPU as NVML sees it; everything is None where the library, or one reading, is refused (as in some containers)."""

    def __init__(self, pci_bus_id: str) -> None:
        """Open the GPU of a PCI address, since CUDA_VISIBLE_DEVICES changes CUDA's numbering and not NVML's."""
        self._nvml: Any = None
        try:
            import pynvml

            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByPciBusId(pci_bus_id)
            self._nvml = pynvml
        except (ImportError, OSError):
            return
        except Exception as error:
            if not _is_nvml(error):
                raise

    def clocks(self) -> Clocks:
        """Read the state."""
        n = self._nvml
        if n is None:
            return NO_CLOCKS
        return Clocks(
            sm_hz=_scaled(lambda: n.nvmlDeviceGetClockInfo(self._handle, n.NVML_CLOCK_SM), 1e6),
            memory_hz=_scaled(lambda: n.nvmlDeviceGetClockInfo(self._handle, n.NVML_CLOCK_MEM), 1e6),
            power_w=_scaled(lambda: n.nvmlDeviceGetPowerUsage(self._handle), 1e-3),
            temperature_c=_scaled(lambda: n.nvmlDeviceGetTemperature(self._handle, n.NVML_TEMPERATURE_GPU), 1.0),
        )

    def facts(self) -> dict[str, Any]:
        """Return the driver's version, the highest clocks, the power limit and whether ECC is on."""
        n = self._nvml
        if n is None:
            return {}
        return {
            "driver": _read(n.nvmlSystemGetDriverVersion),
            "max_sm_hz": _scaled(lambda: n.nvmlDeviceGetMaxClockInfo(self._handle, n.NVML_CLOCK_SM), 1e6),
            "max_memory_hz": _scaled(lambda: n.nvmlDeviceGetMaxClockInfo(self._handle, n.NVML_CLOCK_MEM), 1e6),
            "power_limit_w": _scaled(lambda: n.nvmlDeviceGetEnforcedPowerLimit(self._handle), 1e-3),
            "ecc": _read(lambda: bool(n.nvmlDeviceGetEccMode(self._handle)[0])),
        }


def _is_nvml(error: Exception) -> bool:
    return type(error).__name__.startswith("NVMLError")


def _read(ask: Callable[[], Any]) -> Any:
    """Ask one thing; None where this GPU or this container does not tell."""
    try:
        return ask()
    except Exception as error:
        if _is_nvml(error):
            return None
        raise


def _scaled(ask: Callable[[], Any], factor: float) -> float | None:
    value = _read(ask)
    return None if value is None else float(value) * factor
