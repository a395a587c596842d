"""The bench over tensors that the host cannot look at, as on a GPU: where each thing lies, and what a failure leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.cost import find_description
from costmodel.measure.arrays import allocated
from costmodel.measure.code import coded_names, find_code
from tests.stub_gpu import MODULE, bench_on, measured, task

torch = pytest.importorskip("torch")
far = pytest.importorskip("tests.far_tensors")
suite = pytest.importorskip("tests.test_suite_on_cpu")


@pytest.fixture
def module(tmp_path: Path) -> Path:
    (tmp_path / "all.cu").write_text("// all of them")
    (tmp_path / "mine.py").write_text(MODULE)
    return tmp_path / "mine.py"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch):
    with far.far_device(monkeypatch):
        yield bench_on(far.FAR)


def test_far_tensors_are_as_strict_as_those_of_a_gpu(monkeypatch):
    with far.far_device(monkeypatch):
        x, near = torch.ones(4, device=far.FAR), torch.ones(4)
        assert float((2 * x - x.sum()).sum()) == -8.0
        assert x.cpu().tolist() == near.tolist()
        assert near.to(far.FAR).device == x.clone().device == far.FAR
        with pytest.raises(RuntimeError, match="on the same device"):
            x + near
        with pytest.raises(RuntimeError, match="numpy"):
            x.numpy()


@pytest.mark.parametrize("name", coded_names())
def test_references_of_the_suite_take_all_that_they_read_from_the_gpu(monkeypatch, name):
    description = find_description(name)
    own, sizes = find_code(description), suite.small_sizes(name)
    places: list[Any] = []

    def reference(tensors: Any, of: Any) -> Any:
        places.extend(t.device for t in tensors.values())
        return own.reference(tensors, of)

    with far.far_device(monkeypatch):
        kernel = description.trace(**{n: sizes[n] for n in description.static})
        arrays = allocated(kernel, replace(own, reference=reference), sizes, far.FAR)
        arrays.fill(0)
        arrays.poison()
        wrong = arrays.check()[1]
        for b, expected in (arrays.expected or {}).items():
            assert wrong.count(f"{b}: error"), "nothing was written so far"
            arrays.tensors[b].copy_(expected)
        assert arrays.check()[1] == ""
    assert places
    assert set(places) == {far.FAR}


@pytest.mark.parametrize(
    ("name", "sizes"), [("scaled", {}), ("added", {}), ("total", {}), ("gathered", {"STEP": 1})], ids=lambda v: str(v)
)
def test_kernels_are_checked_on_the_gpu(bench, module, name, sizes):
    row, _ = measured(bench, task(module, name, N=1024, B=64, **sizes))
    assert row["status"] == "ok", row
    bench.gpu.broken = True
    row, _ = measured(bench, task(module, name, N=1024, B=64, **sizes))
    assert row["status"] == "wrong_result"


@pytest.mark.parametrize("part", ["inputs", "reference"])
def test_code_that_raises_fails_its_configuration_and_no_process(bench, module, part):
    broken = {
        "inputs": ('{"p": random.permutation', '{"p": random.permuted_and_more'),
        "reference": ('{"y": t["x"][t["p"].long()]}', '{"y": t["x"] + __import__("torch").ones(sizes["N"])}'),
    }
    module.write_text(
        MODULE.replace(*broken[part]).replace('lambda t, s: {"y": t["x"] + __', 'lambda t, sizes: {"y": t["x"] + __')
    )
    row, _ = measured(bench, task(module, "gathered", N=256, B=64, STEP=1))
    assert (row["status"], row.get("restart", False)) == ("runtime_failed", False)
    assert row["reason"].startswith(f"its {part} in CODE failed: ")
    assert {"inputs": "AttributeError", "reference": "same device"}[part] in row["reason"]
