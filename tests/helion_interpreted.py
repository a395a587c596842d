"""Runs the Triton code that Helion generates for `helion_cases` in Triton's interpreter; prints the bytes it asks for, as JSON.

A script of its own: the interpreter is chosen when Triton is imported, by `TRITON_INTERPRET=1`.
"""

import importlib
import json
import re
import sys
import tempfile
from pathlib import Path

from tests import helion_cases
from tests.triton_interpreted import counted, patch


def launched(kernel, grid, *arguments, num_warps, num_stages, **options):
    kernel[grid](*arguments)


def run(case, config, folder):
    for kind in counted:
        counted[kind] = 0
    bound = case.bind()
    path = Path(folder) / f"{case.name}_{len(list(Path(folder).iterdir()))}.py"
    code = bound.to_triton_code(helion_cases.whole(bound, config))
    code = code.replace("libdevice.tanh", "tl.math.erf")  # the interpreter has no external functions, and only bytes are counted
    path.write_text(re.sub(r"\blibdevice\.", "tl.math.", code))
    sys.path.insert(0, folder)
    module = importlib.import_module(path.stem)
    getattr(module, case.kernel)(*case.arguments(), _launcher=launched)
    return counted["load"] + counted["store"]


if __name__ == "__main__":
    patch()
    wanted = sys.argv[1:] or list(helion_cases.CASES)
    with tempfile.TemporaryDirectory() as folder:
        cases = [helion_cases.CASES[name] for name in wanted]
        print(json.dumps({case.name: [run(case, config, folder) for config in case.configs] for case in cases}))
