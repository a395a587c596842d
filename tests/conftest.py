"""Settings of generated inputs, and the folder of measured data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# `ci` draws the same examples every time; `soak` (make soak) draws ten thousand new ones.
settings.register_profile("ci", max_examples=300, derandomize=True, deadline=None)
settings.register_profile(
    "soak",
    max_examples=10_000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("soak" if os.environ.get("COSTMODEL_SOAK") else "ci")


collect_ignore_glob = ["helion_*", "host_kernels/*", "triton_interpreted.py", "triton_kernels.py"]
"""Kernels in other systems' languages, imported by the tests that have the system; not looked through for examples."""


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the measured data, named by COSTMODEL_DATA; the test is skipped where it is unset."""
    named = os.environ.get("COSTMODEL_DATA")
    if not named:
        pytest.skip("needs measured data: set COSTMODEL_DATA to the folder that holds the .parquet files")
    folder = Path(named)
    assert folder.is_dir(), f"COSTMODEL_DATA={named}: no such folder; unset it or name the one with the data"
    return folder
