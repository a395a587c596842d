"""The package as a user gets it: a quick import, lazy names, and a wheel with everything inside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import costmodel

ROOT = Path(__file__).resolve().parent.parent
PROFILES = sorted(path.relative_to(ROOT / "hardware_profiles") for path in (ROOT / "hardware_profiles").rglob("*.yaml"))
DESCRIPTIONS = sorted(path.name for path in (ROOT / "validation" / "kernels").glob("*.py"))


def _python(code: str, cwd: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_costmodel_imports_nothing_heavy():
    heavy = "sympy networkx numpy pandas pyarrow scipy pydantic yaml typer rich torch triton matplotlib"
    code = f"import sys, costmodel; print(*[name for name in {heavy.split()} if name in sys.modules])"
    assert _python(code) == ""


def test_importing_costmodel_takes_less_than_half_a_second():
    code = "import time; t = time.perf_counter(); import costmodel; print(time.perf_counter() - t)"
    assert min(float(_python(code)) for _ in range(3)) < 0.5


@pytest.mark.parametrize("name", costmodel.__all__)
def test_every_public_name_is_there(name):
    assert getattr(costmodel, name) is not None
    assert name in dir(costmodel)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(AttributeError, match=r"no attribute 'estimte'; it offers .*estimate"):
        _ = costmodel.estimte


def test_every_error_is_a_costmodel_error():
    errors = [getattr(costmodel, name) for name in costmodel.__all__ if name.endswith("Error")]
    assert len(errors) == 6
    assert all(issubclass(error, costmodel.CostModelError) for error in errors)


def test_what_the_package_itself_needs_leaves_torch_out():
    """`make demo` installs that much; `make test` adds torch and Triton, which check our own kernels on the CPU."""
    project = (ROOT / "pyproject.toml").read_text()
    core = re.search(r"^dependencies = \[(.*?)^\]", project, re.S | re.M)
    assert core
    assert not re.search(r"torch|triton|matplotlib", core[1])


def test_the_wheel_holds_the_package_its_profiles_and_its_descriptions(tmp_path):
    # --no-build-isolation: the environment's own hatchling, no network.
    options = ["--no-deps", "--no-build-isolation", "-qq", "-w", str(tmp_path)]
    build = [sys.executable, "-m", "pip", "wheel", str(ROOT), *options]
    done = subprocess.run(build, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("costmodel-*.whl")
    assert wheel.name == f"costmodel-{costmodel.__version__}-py3-none-any.whl"
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        names = set(archive.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "costmodel").rglob("*.py")}
    expected = (
        {"costmodel/py.typed", *modules}
        | {f"costmodel/_hardware_profiles/{path.as_posix()}" for path in PROFILES}
        | {f"costmodel/_descriptions/{name}" for name in DESCRIPTIONS}
    )
    assert PROFILES
    assert DESCRIPTIONS
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {
        "costmodel",
        f"costmodel-{costmodel.__version__}.dist-info",
    }
    # Used from the wheel alone, the profiles are found too.
    code = "import costmodel; print(costmodel.__file__); print(costmodel.find_device('H100').name)"
    where, device = _python(code, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert Path(where).is_relative_to(site)
    assert "H100" in device.upper()
