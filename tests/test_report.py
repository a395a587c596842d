"""Costs on paper: nothing is cut, nothing is missing, the page says what the text says."""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

from costmodel import Cost, estimate
from costmodel.cost import find_description
from costmodel.counts import traffic
from costmodel.report import as_dict, breakdown, jsonable, render, to_html, units
from costmodel.report.text import Bar, Fitting, plain

GEMM = {"M": 4096, "N": 4096, "K": 4096, "BM": 128, "BN": 128, "BK": 16, "TM": 8, "TN": 8}
CASES = {
    "gemm on H100": ("gemm", "H100", GEMM),
    "gemm on MI50": ("gemm", "MI50", GEMM),
    "clblast on K40": (
        "gemm_clblast",
        "Tesla-K40",
        {"M": 1024, "N": 1024, "K": 1024, "MWG": 64, "NWG": 64, "KWG": 32, "MDIMC": 16, "NDIMC": 16, "MDIMA": 16,
         "NDIMB": 16, "KWI": 2, "VWM": 2, "VWN": 2, "SA": 1, "SB": 0},
    ),
    "vector add": ("vector_add", "V100", {"N": 1 << 26, "B": 256}),
    "tiny copy": ("copy", "A100", {"N": 64, "B": 32}),
    "transpose": ("transpose_shared", "V100", {"N": 8192, "T": 32, "R": 8}),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def cost(request) -> Cost:
    name, device, sizes = CASES[request.param]
    return estimate(find_description(name), device, **sizes)


def squeezed(text: str) -> str:
    return "".join(text.split())


# -- text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_breakdown_fits_and_nothing_is_cut(cost, width):
    text = render(cost, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert lines == [line.rstrip() for line in lines]
    assert "…" not in text
    assert lines[0].startswith(f"{cost.kernel} on {cost.device.title}")
    assert all(f"{name}={value}" in text for name, value in cost.sizes.items())
    assert re.search(rf"^time +{re.escape(units.seconds(cost.seconds))}$", text, re.M)
    assert re.search(rf"^bound by +{cost.bound}$", text, re.M)
    for term in cost.terms:
        found = re.findall(rf"^{re.escape(term.name)} .*", text, re.M)
        assert any(units.percent(term.share_s / cost.seconds) in line and units.seconds(term.seconds) in line for line in found)
    assert re.search(rf"^occupancy +{re.escape(units.percent(cost.occupancy.fraction))}: ", text, re.M)
    assert f"{cost.registers_per_thread} per thread (estimated)" in text
    for level in cost.levels:
        assert re.search(rf"^{level.name} .*{units.si_bytes(level.transferred_bytes)}", text, re.M)
    for access in cost.accesses:
        assert squeezed(access.access) in squeezed(text)


@pytest.mark.parametrize("width", [80, 120])
def test_at_usual_widths_no_column_is_left_out(cost, width):
    text = render(cost, width)
    for head in ("share", "alone", "amount", "peak rate", "eff.", "req./transf.", "lines", "wavefronts"):
        assert head in text
    assert "█" in text


def test_shares_add_up(cost):
    assert math.fsum(term.share_s for term in cost.terms) == pytest.approx(cost.seconds, rel=1e-9)
    assert [t.share_s for t in cost.terms] == sorted((t.share_s for t in cost.terms), reverse=True)


def test_the_width_of_the_terminal_is_used_within_reason(cost, monkeypatch):
    for columns, width in (("40", 80), ("100", 100), ("500", 120)):
        monkeypatch.setenv("COLUMNS", columns)
        assert render(cost) == render(cost, width)
    assert str(cost) == render(cost)


def test_short_accesses_stay_in_the_table():
    cost = estimate(find_description("vector_add"), "V100", N=1 << 20, B=256)
    assert re.search(r"^add +a\[B\*block_x \+ thread_x\] +load ", render(cost, 100), re.M)
    assert re.search(r"^add +a +load .*\n(.*\n)+add  a\[B\*block_x \+ thread_x\]$", render(cost, 70), re.M)


def test_a_launch_smaller_than_the_device_says_so():
    cost = estimate(find_description("copy"), "A100", N=64, B=32)
    assert re.search(r"1 of 64 warps per SM \(room for \d+ blocks\), limited\s+by\s+the\s+grid", render(cost, 80))


def test_given_registers_spills_and_single_blocks_are_worded():
    cost = estimate(find_description("copy"), "A100", N=32, B=32, registers=20)
    assert "20 per thread (given), no spills" in render(cost, 80)
    assert "1 block of 32 threads" in render(cost, 80)
    assert "3 spilled" in render(replace(cost, spilled_registers=3), 80)


def test_on_a_terminal_it_has_colours(cost):
    console = Console(force_terminal=True, color_system="truecolor", width=100, _environ={})
    with console.capture() as got:
        console.print(breakdown(cost))
    assert "\x1b[" in got.get()
    assert "\x1b[" not in render(cost, 100)


@pytest.mark.parametrize(("share", "cells"), [(0.0, 0), (0.5, 6), (1.0, 12), (7.0, 12), (-1.0, 0)])
def test_a_bar_is_as_long_as_its_share(share, cells):
    drawn = plain(Bar(share), 40)
    assert drawn == "█" * cells
    ascii_console = Console(width=40, legacy_windows=False)
    options = ascii_console.options.update()
    options.encoding = "ascii"
    (segment,) = Bar(share).__rich_console__(ascii_console, options)
    assert isinstance(segment, Segment)
    assert segment.text == ("#" * cells).ljust(12)


def test_the_first_form_that_fits_is_drawn():
    forms = Fitting(Text("a long line of words"), Text("a short one"), Text("tiny"))
    assert [plain(forms, width) for width in (20, 19, 11, 10, 4)] == ["a long line of words", *["a short one"] * 2, *["tiny"] * 2]


# -- units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"), (1, "1.00 B"), (999.4, "999 B"), (999.6, "1.00 kB"), (1e3, "1.00 kB"), (1024, "1.02 kB"),
        (999_499, "999 kB"), (999_500, "1.00 MB"), (3.352e12, "3.35 TB"), (1e18, "1.00 EB"), (1e21, "1e+03 EB"),
        (0.5, "0.50 B"), (0.004, "0.00400 B"), (math.nan, "–"), (math.inf, "∞"), (-math.inf, "−∞"),
    ],
)  # fmt: skip
def test_si(value, text):
    assert units.si(value, "B") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"), (1, "1 B"), (1023, "1023 B"), (1024, "1 KiB"), (49_152, "48 KiB"), (1 << 20, "1 MiB"),
        (85_899_345_920, "80 GiB"), (1 << 60, "1024 PiB"), (math.nan, "–"), (math.inf, "∞"),
    ],
)  # fmt: skip
def test_binary(value, text):
    assert units.binary_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"), (1e-12, "0.00100 ns"), (4.9e-10, "0.490 ns"), (1e-9, "1.00 ns"), (9.996e-7, "1.00 µs"), (9.99e-7, "999 ns"),
        (1e-6, "1.00 µs"), (0.0032684, "3.27 ms"), (0.9996, "1.00 s"), (1, "1.00 s"), (81, "81.0 s"), (86_400, "86400 s"),
        (math.nan, "–"), (math.inf, "∞"),
    ],
)  # fmt: skip
def test_seconds(value, text):
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (units.percent, 0, "0 %"), (units.percent, 0.0004, "<0.1 %"), (units.percent, 0.0005, "0.1 %"),
        (units.percent, 0.0994, "9.9 %"), (units.percent, 0.0996, "10 %"), (units.percent, 1, "100 %"), (units.percent, 2, "200 %"),
        (units.percent, math.nan, "–"),
        (units.ratio, 0, "0"), (units.ratio, 1e-6, "1e-06"), (units.ratio, 0.0312, "0.031"), (units.ratio, 1.0, "1.00"),
        (units.ratio, 999.4, "999"), (units.ratio, 999.6, "1,000"), (units.ratio, 1e6, "1.00 M"), (units.ratio, math.inf, "∞"),
        (units.count, 0, "0"), (units.count, 99_999, "99,999"), (units.count, 100_000, "100 k"), (units.count, 2.5, "2.50"),
        (units.count, math.nan, "–"),
    ],
)  # fmt: skip
def test_shares_quotients_and_counts(form, value, text):
    assert form(value) == text


def test_amounts_and_rates_go_by_their_units():
    assert [units.amount(2e9, u) for u in ("bytes", "B", "fma")] == ["2.00 GB", "2.00 GB", "2.00 G fma"]
    assert [units.amount(4e-6, u) for u in ("s", "seconds")] == ["4.00 µs"] * 2
    assert [units.rate(2e9, u) for u in ("bytes", "fma", "s")] == ["2.00 GB/s", "2.00 G/s", "–"]


# -- HTML


class Page(HTMLParser):
    """Checks that every element is closed in order, and collects the text of cells and terms."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words: list[str] = []
        self.widths: list[int] = []
        self.feed(page)
        self.close()
        assert self.open == []
        self.words = [word.strip() for word in self.words]

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.words.append("")
        if tag == "tr":
            self.widths.append(0)
        if tag in ("td", "th"):
            self.widths[-1] += int(dict(attrs).get("colspan", 1))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words[-1] += data


def test_the_page_is_well_formed_and_says_what_the_text_says(cost):
    html = to_html(cost)
    page = Page(html)
    assert set(page.widths) == {7, 6, 8}  # terms, levels, accesses
    expected = [
        units.seconds(cost.seconds),
        cost.bound,
        *(term.name for term in cost.terms),
        *(units.seconds(term.seconds) for term in cost.terms),
        *(units.percent(term.share_s / cost.seconds) for term in cost.terms),
        *(term.note for term in cost.terms if term.note),
        *(access.access for access in cost.accesses),
        *(units.si_bytes(level.transferred_bytes) for level in cost.levels),
    ]
    assert [text for text in expected if text not in page.words] == []
    shown = squeezed(render(cost, 120))
    for text in expected:
        assert squeezed(text) in shown
    bars = [float(width) for width in re.findall(r"width:([\d.]+)%", html)]
    assert len(bars) == len(cost.terms)
    assert sum(bars) == pytest.approx(100, abs=0.1 * len(bars))


def test_names_are_escaped():
    cost = estimate(find_description("vector_add"), "V100", N=1 << 20, B=256)
    nasty = "<script>alert('&')</script>"
    shown = replace(
        cost,
        kernel=nasty,
        sizes={**cost.sizes, "TEXT": nasty},
        terms=tuple(replace(term, name=nasty, note=nasty) for term in cost.terms),
        accesses=tuple(replace(access, statement=nasty, access=nasty) for access in cost.accesses),
    )
    html = to_html(shown)
    assert "<script" not in html
    assert Page(html).words.count(nasty) >= 2 * len(cost.terms) + 2 * len(cost.accesses)
    assert "[/bold]" in render(replace(cost, kernel="[/bold]"), 80)  # nor is it markup on a terminal


def test_notebooks_find_their_forms(cost):
    assert cost._repr_html_() == to_html(cost)
    assert str(cost) == render(cost)


def test_traffic_in_a_notebook_is_well_formed():
    counted = traffic(find_description("transpose_shared").trace())
    page = Page(counted._repr_html_())
    assert set(page.widths) == {5}
    assert sum("N^{2}" in word for word in page.words) >= 2
    assert "4*N**2" in str(counted)


# -- plain values


def test_as_dict_is_json_and_complete(cost):
    values = as_dict(cost)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    names = {field.name for field in fields(cost)} | {"bound", "flops_per_s", "arithmetic_intensity"}
    assert set(values) == names
    assert values["device"] == cost.device.name
    assert values["seconds"] == cost.seconds
    assert [t["name"] for t in values["terms"]] == [t.name for t in cost.terms]
    for shown, held in (("terms", cost.terms), ("levels", cost.levels), ("accesses", cost.accesses)):
        assert len(values[shown]) == len(held)
        for value, item in zip(values[shown], held, strict=True):
            assert {field.name for field in fields(item)} <= set(value)
    assert values["terms"][0]["seconds"] == cost.terms[0].seconds
    assert values["occupancy"]["fraction"] == cost.occupancy.fraction
    assert {field.name for field in fields(cost.occupancy)} <= set(values["occupancy"])


def test_what_json_cannot_hold_becomes_null_or_plain():
    given = {"a": (np.int64(3), np.float32(0.5), np.bool_(True)), 1: [math.nan, math.inf, None, "NaN"], "b": np.float64("nan")}
    assert jsonable(given) == {"a": [3, 0.5, True], "1": [None, None, None, "NaN"], "b": None}
    assert type(jsonable(np.int64(3))) is int
