"""Kernels that the front end was not made for, against Triton's interpreter; and random programs, against numpy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import sympy

from costmodel.errors import SizeError, UnsupportedError
from costmodel.frontends.triton import TritonKernel, from_triton
from costmodel.frontends.triton.analysis import analysed
from costmodel.frontends.triton.compiling import Compiled
from costmodel.symbols import CeilDiv, size
from tests.triton_programs import MeaninglessError, program

pytest.importorskip("triton")
pytest.importorskip("torch")

from tests import triton_cases, triton_kernels, triton_unseen

CASES, REFUSED = triton_unseen.CASES, triton_unseen.REFUSED


@cache
def converted(name) -> TritonKernel:
    return conversion(CASES[name][0])


def conversion(case) -> TritonKernel:
    fn = getattr(triton_unseen, case.kernel)
    return from_triton(fn, case.signature, case.constexprs, case.grid, cache=False, resources="estimated")


@pytest.fixture(scope="module")
def interpreted():
    """Bytes that each launch asks for in Triton's interpreter."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.triton_interpreted", "unseen"],
        env={**os.environ, "TRITON_INTERPRET": "1"}, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("name", CASES)
def test_requested_bytes_equal_the_interpreters(name, interpreted):
    k = converted(name)
    assert [k.requested_bytes(**c.sizes) for c in CASES[name]] == [sum(i.values()) for i in interpreted[name]]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused_by_name_and_line(name):
    case, why = REFUSED[name]
    with pytest.raises(UnsupportedError, match=why) as refused:
        conversion(case)
    assert re.search(r"triton_unseen\.py:\d+ \(tt\.load\)", str(refused.value))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("main_tail", {"M": 64, "N": 64, "K": 20}), ("peeled", {"n": 50}), ("mask_after_loop", {"n": 50}),
        ("causal_two_stage", {"CTX": 96}), ("empty_loop", {"n": 100, "k": 300}), ("tail_rows", {"n": 5}), ("from_low", {"n": 20}),
    ],
)  # fmt: skip
def test_loops_without_steps_are_priced(name, sizes):
    assert converted(name).estimate("H100", **sizes).seconds > 0


GRIDS = [
    ((sympy.Integer(3),), lambda n: 3),
    ((CeilDiv(size("n"), sympy.Integer(32)),), lambda n: -(-n // 32)),
    ((sympy.Integer(1),), lambda n: 1),
]


@pytest.mark.parametrize("part", range(4))
def test_random_programs_ask_for_what_they_do_when_run(part):
    """Each is counted as numpy counts it, or refused; most are counted."""
    outcomes = [_outcome(seed) for seed in range(part * 40, part * 40 + 40)]
    assert outcomes.count("equal") > 15
    assert {*outcomes} <= {"equal", "refused", "meaningless"}


def _outcome(seed):
    text, run = program(seed)
    grid, blocks = GRIDS[seed % len(GRIDS)]
    expected = {}
    for n, m in ((70, 5), (3, 40), (33, 33), (1, 1), (64, 100)):
        try:
            expected[n, m] = run(n, m, blocks(n))
        except MeaninglessError:
            continue
    if not expected:
        return "meaningless"
    try:
        found, replicas, notes = analysed(Compiled(text, text, 0, 16, 0, 0, 32), "program", grid, {}, {})
        k = TritonKernel(found, 90, 16, 0, 0, tuple(replicas.items()), notes, scalars=tuple({"n", "m"} - {*found.params}))
        counted = {(n, m): k.requested_bytes(n=n, m=m) for n, m in expected}
    except UnsupportedError:
        return "refused"
    return "equal" if counted == expected else f"seed {seed}: counted {counted}, run {expected}"


def test_arguments_that_nothing_depends_on_are_no_sizes():
    case = triton_cases.CASES["seeded dropout"]
    k = from_triton(triton_kernels.seeded_dropout, case.signature, case.constexprs, case.grid, cache=False, resources="estimated")
    assert (k.kernel.params, k.scalars) == (("n",), ("p", "seed"))
    assert k.requested_bytes(n=333, seed=0) == k.requested_bytes(n=333) == 2 * 4 * 333
    assert k.estimate("H100", n=333, seed=0) == k.estimate("H100", n=333)


def test_an_argument_that_is_zero_is_a_constant():
    k, (case, *_) = converted("offset_arg"), CASES["offset_arg"]
    for asked in (k.requested_bytes, partial(k.estimate, "H100")):
        with pytest.raises(SizeError, match=r"start=0: sizes are at least 1; .*add 'start': 0 to the constexprs"):
            asked(n=333, start=0)
    constant = replace(case, signature=triton_unseen.FLAT, constexprs={**case.constexprs, "start": 0})
    assert conversion(constant).requested_bytes(n=333) == 2 * 4 * 333
    assert conversion(constant).estimate("H100", n=333).seconds > 0
