"""What runs under a profiler: `python -m costmodel.measure.counted GPU TASKS LAUNCHED` launches each configuration once.

Configurations that fail are passed over: they ran before. The file LAUNCHED gets a line for each launch, in order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from costmodel.errors import CostModelError
from costmodel.measure.worker import open_bench, task_of

__all__ = ["main"]


def main() -> None:
    """Launch what the arguments say."""
    gpu, asked, launched = sys.argv[1:]
    bench = open_bench(gpu)
    with Path(launched).open("a", encoding="utf-8", buffering=1) as lines:
        for request in json.loads(Path(asked).read_text(encoding="utf-8")):
            task = task_of(request)
            try:
                kernel = bench.profiled(task)
            except CostModelError as error:
                print(f"{task.key}: {error}", file=sys.stderr)
                continue
            lines.write(json.dumps({"key": task.key, "kernel": kernel}) + "\n")


if __name__ == "__main__":
    main()
