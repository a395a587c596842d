"""Where and when something was made: date, machine, version, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from costmodel import __version__

__all__ = ["Provenance", "provenance"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a reader needs to make it again."""

    date: str
    """UTC."""
    machine: str
    version: str
    commit: str
    """Short hash, `-dirty` where files differ from it; empty outside a checkout."""


def provenance() -> Provenance:
    """Of this moment, on this machine."""
    processor = _processor() or platform.processor() or platform.machine()
    machine = f"{processor}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    return Provenance(datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), machine, __version__, _commit())


def _processor() -> str:
    """The name of the processor on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _commit() -> str:
    """Of the checkout that this file lies in; of a copy without its history, what COSTMODEL_COMMIT says."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("COSTMODEL_COMMIT", "")
    return done.stdout.strip()
