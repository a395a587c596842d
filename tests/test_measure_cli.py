"""`costmodel measure` as a user meets it, and the whole suite on a fake GPU."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from costmodel.cli import measuring
from costmodel.cli.executors import slots_of
from costmodel.cli.measuring import seconds_of
from costmodel.cost import find_description
from costmodel.errors import MeasureError
from costmodel.measure.code import coded_names
from costmodel.measure.live import GpuError
from costmodel.measure.task import Settings, Slot
from tests.test_cli import cli

__all__ = ["cli"]
ADD = ("measure", "vector_add", "--gpus", "fake:h200", "--set", "N=1048576")


def test_a_sweep_is_told_and_written(cli, tmp_path):
    out = tmp_path / "add.parquet"
    done = cli(*ADD, "--out", out)
    assert done.code == 0, done.err
    assert "vector_add on fake NVIDIA H200" in done.out
    assert "6 ok" in done.out
    assert "no code" not in done.out
    assert len(pd.read_parquet(out)) == 6
    again = cli(*ADD, "--out", out, "--json").json
    assert (again["measured"], again["statuses"], again["predicted_with"]) == (0, {"ok": 6}, "h200")
    assert cli("validate", out, "--device", "h200", "--json").json[0]["rho"] > 0.9
    dry = cli("validate", out)
    assert dry.code == 0, dry.err
    assert "vector_add on fake NVIDIA H200 (h200)" in dry.out
    assert "fake NVIDIA H200: a dry run" in dry.out + dry.err


OWN = """
from costmodel import kernel
from costmodel.dtypes import f32

@kernel
def scale(k, *, N, B):
    x, y = k.buffer("x", (N,), f32), k.buffer("y", (N,), f32)
    with k.blocks(N // B) as b, k.threads(B) as t:
        k.copy(x[b * B + t], y[b * B + t], "scale")
"""


def test_a_users_own_description_goes_round_in_both_formats(cli, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    (tmp_path / "space.yaml").write_text("N: [1048576, 4194304]\nB: [64, 256]\n")
    for end in ("parquet", "json"):
        out = tmp_path / f"own.{end}"
        asked = ("measure", f"{file}:scale", "--gpus", "fake:h200", "--space", tmp_path / "space.yaml")
        done = cli(*asked, "--out", out)
        assert "4 ok" in done.out
        assert "no code beside it" in " ".join(done.out.split())  # it cannot be measured, which is said
        unasked = cli("validate", out)  # a data file does not get code run by naming it
        assert unasked.code == 2
        assert f"give --kernel {file}:scale" in unasked.err
        (report,) = cli("validate", out, "--kernel", f"{file}:scale", "--json").json
        assert (report["kernel"], report["device"], report["n"]) == ("scale", "h200", 4)


def test_a_space_file_and_a_budget(cli, tmp_path):
    space, out = tmp_path / "space.yaml", tmp_path / "add.json"
    space.write_text("N: [1024, 2048]\nB: [32, 64]\n")
    cut = cli("measure", "vector_add", "--gpus", "fake:h200", "--space", space, "--out", out, "--budget", "0s", "--json").json
    assert (cut["measured"], cut["remaining"]) == (0, 4)
    done = cli("measure", "vector_add", "--gpus", "fake:h200", "--jobs", 2, "--space", space, "--out", out)
    assert done.code == 0, done.err
    assert json.loads(out.read_text())["schema_version"] == "1.0.0"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("measure", "--out", "x.parquet"), "expected a description, or --suite"),
        (("measure", "gemm", "--suite", "--out", "x"), "expected a description, or --suite"),
        (("measure", "--suite", "--out", "x", "--set", "N=1"), "leave out --space and --set"),
        ((*ADD, "--out", "x.csv"), "ends in .parquet"),
        ((*ADD, "--out", "x.parquet", "--budget", "20"), "such as 90s, 20m or 2h"),
        (("measure", "vector_add", "--out", "x.parquet", "--gpus", "first"), "expected indices such as 0,1"),
        (("measure", "vector_add", "--out", "x.parquet", "--gpus", "0,0"), "named twice"),
        ((*ADD, "--out", "x.parquet", "--dask", "tcp://x:1", "--gpus", "fake:h200,fake:b200"), "expected one GPU and no --jobs"),
        ((*ADD, "--out", "x.parquet", "--dask", "tcp://x:1", "--jobs", 2), "one process on one GPU"),
        (("measure", "nothing", "--out", "x.parquet"), "no description 'nothing'"),
    ],
)
def test_mistakes_are_one_line(cli, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments)
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_times_and_slots():
    assert [seconds_of(t) for t in ("90s", "20m", "1.5h")] == [90.0, 1200.0, 5400.0]
    with pytest.raises(MeasureError):
        seconds_of("fast")
    assert slots_of("0,1", 2) == [Slot("0", 0), Slot("1", 0), Slot("0", 1), Slot("1", 1)]


@pytest.mark.skipif(not coded_names(), reason="no description has code beside it yet")
def test_the_whole_suite_runs_dry(cli, tmp_path, monkeypatch):
    whole = measuring._own_table

    def traced_once(name: str) -> pd.DataFrame:
        """What of a space has the static values of its first row, for tracing takes longest."""
        table, static = whole(name), list(find_description(name).static)
        return table[(table[static] == table[static].iloc[0]).all(axis=1)]

    monkeypatch.setattr(measuring, "_own_table", traced_once)
    done = cli("measure", "--suite", "--gpus", "fake:h200", "--limit", 2, "--out", tmp_path, "--json").json
    assert not done["errors"]
    assert [s["kernel"] for s in done["sweeps"]] == list(coded_names())
    for sweep in done["sweeps"]:
        assert sum(sweep["statuses"].values()) == 2, sweep["kernel"]
        assert set(sweep["statuses"]) <= {"ok", "cannot_launch"}, sweep["reasons"]
        rows = pd.read_parquet(tmp_path / f"{sweep['kernel']}.parquet")
        assert set(rows["gpu"]) == {"fake NVIDIA H200"}


def test_a_gpu_that_is_not_there_is_said_once_and_not_for_each_kernel(cli, tmp_path, monkeypatch):
    def lacking(slot: Slot, _: Settings) -> None:
        raise GpuError(f"GPU {slot.gpu}: there is none")

    monkeypatch.setattr("costmodel.measure.run.facts_of", lacking)
    monkeypatch.setattr(measuring, "coded_names", lambda: ("copy", "vector_add"))
    done = cli("measure", "--suite", "--gpus", "7", "--out", tmp_path)
    assert (done.code, done.err) == (2, "error: GPU 7: there is none\n")
