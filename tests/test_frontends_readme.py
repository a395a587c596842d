"""The examples of `costmodel/frontends/README.md`, each run as a file of its own, with the real library."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from costmodel import frontends
from tests.hosts import host

PAGE = Path(frontends.__file__).with_name("README.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## (\w+)\n.*?^```python\n(.*?)^```", PAGE, re.M | re.S))
PRINTED = {
    "einsum": r"seconds .*\n0 +4096",
    "Triton": r"^\d+ scaled \(.*compiled for sm_90\) on .*h100_sxm",
    "Helion": r"^scaled on (.|\n)*\[[\d.e-]+ [\d.e-]+ [\d.e-]+\]",
    "luminal": r"^[\d.e-]+$",
    "tinygrad": r"h100_sxm",
}


def test_every_front_end_has_a_row_and_an_example():
    assert list(EXAMPLES) == list(PRINTED) == re.findall(r"^\| (\w+) \| `", PAGE, re.M)


@pytest.mark.parametrize("name", list(PRINTED))
def test_the_example_runs(name, tmp_path):
    if name not in ("einsum", "luminal"):
        host(name.lower(), f"see {name} in costmodel/adapters/README.md")
    path = tmp_path / "example.py"
    path.write_text(EXAMPLES[name], encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XDG_CACHE_HOME": str(tmp_path),
        "DEV": "NULL:OPENCL",
        "CACHELEVEL": "0",
    }
    ran = subprocess.run([sys.executable, str(path)], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert re.search(PRINTED[name], ran.stdout, re.M), ran.stdout
