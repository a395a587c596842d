"""The report of a validation: complete, inert, readable without a network, and drawn by a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from costmodel.cli import main
from costmodel.errors import DataError
from costmodel.provenance import Provenance
from costmodel.validate.page import markdown, page, write_report
from costmodel.validate.run import Report, compare, prepare
from costmodel.validate.suite import Choice, Skipped, load_files, reports
from tests.test_suite import timed

pytest.importorskip("jinja2", reason="needs jinja2: pip install costmodel[report]")
pytest.importorskip("plotly", reason="needs plotly: pip install costmodel[report]")

MADE = Provenance("2026-01-02 03:04 UTC", "a machine", "1.2.3", "abcdef0-dirty")
SKIPPED = [
    Skipped("/data/chase.parquet", "", "", 0, "not timings", "column 'time_ms' is missing; found kernel, gpu"),
    Skipped("/data/b.csv", "somebody's <kernel>", "V100", 12, "no description", "no description 'x'; known: copy"),
    Skipped("/data/b.csv", "somebody's <kernel>", "A100", 30, "no description", "no description 'x'; known: copy"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> list[Report]:
    """Two GPUs, thoroughly: one with failures and counters, one with a name that is no good HTML."""
    folder = tmp_path_factory.mktemp("data")
    frame = timed("Tesla-K40").rename(columns={"N": "input_size", "B": "block_x"}).assign(kernel="vectorAdd")
    frame["gld_request"] = 2 * frame["input_size"] / 32
    failed = frame.head(3).assign(block_x=4096, status="launch_failed", time_ms=np.nan)
    pd.concat([frame, failed], ignore_index=True).to_parquet(folder / "a.parquet")
    timed("V100").assign(gpu="V100</script><b>|").to_parquet(folder / "b.parquet")
    one, _ = load_files([folder / "a.parquet"], Choice())
    two, _ = load_files([folder / "b.parquet"], Choice())
    from costmodel import find_device

    cases = [prepare(one[0]), prepare(two[0], device=find_device("V100"))]
    return [compare(case, thorough=True) for case in cases]


class Outline(HTMLParser):
    """Ids, rows of tables, and whatever a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.words: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.inside = tag
        self.ids += [found["id"]] if "id" in found else []
        for name in ("src", "href", "data", "srcset", "poster"):
            if found.get(name) and not found[name].startswith(("#", "data:,")):
                self.fetched.append(found[name])

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.words.append(data)


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    return found


def test_the_page_says_everything_and_asks_for_nothing(made):
    text = page(made, SKIPPED, MADE)
    found = outline(text)
    assert found.fetched == []
    assert {"summary", "fitted", "left-out", "cases", "data", "vectoradd-tesla-k40"} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    said = " ".join(" ".join(found.words).split())
    for words in (
        "2026-01-02 03:04 UTC", "abcdef0-dirty", "1.2.3", "a machine", "2 data sets left out", "chase.parquet", "somebody's <kernel>",
        "V100, A100", "V100</script><b>|", "gld_request", "precision 100 %, recall 100 %", "… threads per block, at most …", "The five worst",
        "UNIT_EXPONENT", "no other GPU in the data has this kernel", "fewer than 1,000 rows", "All 40 configurations.",
    ):  # fmt: skip
        assert words in said, words
    assert len(text) < 6_500_000  # the script for the plots is 4.8 MB of it


def test_the_figures_of_the_page_are_those_of_the_reports(made):
    text = page(made, [], MADE)
    rows = re.findall(r"<tr>(?:(?!</tr>).)*?</tr>", text.partition("<tbody>")[2].partition("</tbody>")[0], re.S)
    assert len(rows) == len(made)
    for row, report in zip(rows, made, strict=True):
        cells = [re.sub(r"<[^>]*>", "", c).strip() for c in re.findall(r"<td[^>]*>.*?</td>", row, re.S)]
        m = report.metrics
        assert cells[2:6] == [f"{m.n}", f"{m.rho:.3f}", f"{m.tau:.3f}", f"{m.top1:.3f}"]
        assert float(re.findall(r'data-v="([^"]*)"', row)[1]) == pytest.approx(m.rho, rel=1e-5)


def test_what_the_script_draws_is_what_was_compared(made):
    text = page(made, [], MADE)
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    assert [case["name"] for case in data["cases"]] == [f"{r.kernel} · {r.gpu}" for r in made]
    for case, report in zip(data["cases"], made, strict=True):
        assert report.points is not None
        assert case["measured"] == pytest.approx(list(report.points.measured_ms), rel=1e-3)
        assert [data["bounds"][i] for i in case["bound"]] == list(report.points.bound)
        assert all(len(column) == len(case["measured"]) for column in case["columns"].values())
        assert sum(case["counts"]) == report.metrics.n


def test_markdown_has_the_same_figures_in_whole_tables(made):
    text = markdown(made, SKIPPED, MADE)
    for report in made:
        assert f"{report.metrics.rho:.3f}" in text
    assert "\\|" in text  # the name with a bar in it
    assert "| chase.parquet |" in text
    assert "{{" not in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(tables) >= 7
    for table in tables:
        widths = {len(re.sub(r"\\\|", "", line).split("|")) for line in table.splitlines()}
        assert len(widths) == 1, table
    assert not re.search(r"^\|.*\n[^|\n]", text, re.M)
    assert "\n\n\n" not in text


def test_a_report_that_is_not_thorough_has_no_plots(tmp_path):
    timed().to_parquet(tmp_path / "t.parquet")
    measured, _ = load_files([tmp_path], Choice())
    found = [r for r in reports(measured, Choice(), alone=True) if isinstance(r, Report)]
    text = page(found, [], MADE)
    assert 'data-plot="scatter"' not in text
    assert 'data-plot="overview"' in text


@pytest.mark.parametrize("module", ["jinja2", "plotly.offline"])
def test_without_the_extra_it_says_how_to_get_it(made, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=r"needs jinja2 and plotly: pip install 'costmodel\[report\]'"):
        page(made, [], MADE)


def test_a_file_is_no_folder(tmp_path, made):
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="is a file; expected a folder for the report"):
        write_report(tmp_path / "out", made)


def test_the_command_writes_both(tmp_path, monkeypatch, capsys):
    timed().to_parquet(tmp_path / "t.parquet")
    pd.DataFrame({"kernel": ["x"], "gpu": ["V100"]}).to_csv(tmp_path / "no.csv")
    monkeypatch.setattr(sys, "argv", ["costmodel", "validate", str(tmp_path), "--report", str(tmp_path / "out"), "--jobs", "1"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    assert f"left out: {tmp_path / 'no.csv'}: not timings: column 'time_ms' is missing" in said.err
    assert f"wrote {tmp_path / 'out' / 'index.html'}" in said.err
    assert "vector_add on V100 (v100_pcie): 40 rows" in said.out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"index.html", "report.md"}


# -- in a browser

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium to draw the page")
def test_a_browser_draws_every_plot_without_an_error(made, tmp_path):
    index, _ = write_report(tmp_path / "out", made, SKIPPED)
    watched = index.read_text(encoding="utf-8").replace(
        "<head>", "<head><script>window.onerror = m => { document.documentElement.dataset.failed = m; };</script>", 1
    )
    (tmp_path / "out" / "watched.html").write_text(watched, encoding="utf-8")
    dom = _dom(tmp_path / "out" / "watched.html")
    assert "data-failed" not in dom
    boxes = re.findall(r'<div class="plot[^"]*"[^>]*data-plot="(\w+)"[^>]*>', dom)
    assert sorted(boxes) == ["ablation", "ablation", "errors", "errors", "overview", "scatter", "scatter"]
    assert dom.count('data-drawn="yes"') == len(boxes)
    assert dom.count('class="main-svg"') >= len(boxes)
    assert len(re.findall(r'<path class="point"', dom)) >= 2 * 40  # every configuration of both
    assert dom.count('<g class="point">') >= 2  # bars of the histograms
    summary = dom.partition('<table class="sortable summary">')[2].partition("</table>")[0]
    assert summary.count("<tr>") == 2 + len(made)


def _dom(path: Path) -> str:
    assert BROWSER is not None
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=10000",
        "--window-size=1400,8000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [BROWSER, *options, f"--user-data-dir={path.parent / 'profile'}", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium to click")
def test_a_click_sorts_and_an_anchor_opens(made, tmp_path):
    index, _ = write_report(tmp_path / "out", made, [])
    clicks = """<script>
      const heads = [...document.querySelector('table.summary').tHead.rows[1].cells];
      const first = () => document.querySelector('table.summary tbody tr td').textContent;
      heads[0].click(); const up = first(); heads[0].click(); const down = first();
      document.querySelectorAll('details.case').forEach(d => { d.open = false; });
      location.hash = '#vectoradd-tesla-k40';
      setTimeout(() => { document.title = [up, down, document.getElementById('vectoradd-tesla-k40').open].join(' / '); }, 100);
    </script></body>"""
    path = tmp_path / "out" / "clicked.html"
    path.write_text(clicks.join(index.read_text(encoding="utf-8").rsplit("</body>", 1)), encoding="utf-8")
    assert "<title>vector_add / vectorAdd / true</title>" in _dom(path)


def test_a_terminal_shows_ablation_and_outliers(made):
    from costmodel.cli import show
    from costmodel.report.text import plain

    text = plain(show.reports(made), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "Change without each charge" in text
    assert re.search(r"^coalescing +[+-]\d\.\d{3} ", text, re.M)
    assert text.count("The five worst") == 2
    assert f"N={made[1].outliers[0].configuration['N']}" in text.replace("\n", "")
