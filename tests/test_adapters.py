"""What all adapters share: prices of a host's configurations, groups at a cut, what is not modelled, when to stop."""

import ast
import importlib
import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel import Scorer, SizeError, UnsupportedError, estimate, kernel
from costmodel.adapters import ranking
from costmodel.adapters.ranking import NotModelledWarning, Pricer, Prices
from costmodel.adapters.stopping import Progress, StopRule
from costmodel.cost import find_description
from costmodel.cost.feasibility import ZERO_HINT
from costmodel.dtypes import f32
from tests.hosts import one_warning

GEMM = find_description("gemm")
SIZES = {"M": 2048, "N": 2048, "K": 2048, "BM": "block", "BN": "block", "BK": 32, "TM": "tile", "TN": "tile"}


@kernel(static=("PAD",))
def transpose(k, *, N, T, PAD):
    k.require(N % T == 0)
    source, target = k.buffer("source", (N, N), f32, read_only=True), k.buffer("target", (N, N), f32)
    tile = k.shared("tile", (T, T + PAD), f32)
    with k.blocks(N // T, N // T) as (bx, by), k.threads(T, T) as (tx, ty):
        k.copy(source[by * T + ty, bx * T + tx], tile[ty, tx])
        k.barrier()
        k.copy(tile[tx, ty], target[bx * T + ty, by * T + tx])


padded_by_default = kernel(static=("PAD",), name="transpose")(lambda k, *, N, T, PAD=0: transpose.function(k, N=N, T=T, PAD=PAD))


def test_every_configuration_costs_what_a_single_estimate_says():
    configs = [{"block": b, "tile": t, "ignored": [b]} for b in (32, 64, 128) for t in (4, 8)]
    prices = Pricer(GEMM, "A100", SIZES).price(configs)
    for config, seconds in zip(configs, prices.seconds, strict=True):
        b, t = config["block"], config["tile"]
        alone = estimate(GEMM, "A100", M=2048, N=2048, K=2048, BM=b, BN=b, BK=32, TM=t, TN=t)
        assert seconds == pytest.approx(alone.seconds, rel=1e-12)
    assert [configs[row] for row in prices.order] == sorted(configs, key=lambda c: prices.seconds[configs.index(c)])


def test_parameters_reach_arguments_by_name_number_function_and_default():
    configs = [{"T": 16, "pad": p} for p in (0, 1)]
    named = Pricer(transpose, "H100", {"N": 4096, "PAD": "pad"}).price(configs)
    functions = Pricer(transpose, "H100", {"N": lambda c: c["T"] * 256, "PAD": lambda c: c["pad"]}).price(configs)
    whole = Pricer(transpose, "H100", lambda c: {"N": 4096, "T": c["T"], "PAD": c["pad"]}).price(configs)
    traced = [Pricer(transpose.trace(PAD=p), "H100", {"N": 4096}).price(configs[:1]).seconds[0] for p in (0, 1)]
    for other in (functions.seconds, whole.seconds, np.array(traced)):
        assert other.tolist() == named.seconds.tolist()
    assert named.seconds[1] < named.seconds[0]  # one element of padding, and no column lies in one bank


def test_a_kernel_may_be_made_for_each_configuration():
    made = []

    def compiled(config):
        if config["T"] == 8:
            raise UnsupportedError("a spiral loop cannot be counted")
        made.append(config)
        return transpose.trace(PAD=config["pad"])

    configs = [{"T": t, "pad": p} for t in (8, 16, 32) for p in (0, 1)]
    with pytest.warns(NotModelledWarning, match="2 of 6 .* a spiral loop cannot be counted"):
        prices = Pricer(compiled, "H100", {"N": 4096}).price(configs)
    told = Pricer(transpose, "H100", {"N": 4096, "PAD": "pad"}).price(configs[2:])
    assert len(made) == 4
    assert prices.seconds[2:].tolist() == told.seconds.tolist()
    assert prices.unknown.tolist() == [0, 1]


def test_a_kernel_of_one_size_only_is_priced_in_a_table_too():
    """What a front end compiles for one problem has no sizes left; rows of its table are as many as are asked for."""

    @kernel
    def fixed(k):
        x = k.buffer("x", (4096,), f32)
        with k.blocks(16) as b, k.threads(256) as t:
            k.do("double", loads=x[b * 256 + t], stores=x[b * 256 + t], work=k.add(f32))

    alone = estimate(fixed, "H100").seconds
    assert Scorer(fixed, "H100").score({}).seconds.tolist() == [alone]
    assert Pricer(lambda c: fixed.trace(), "H100").price([{}, {"any": 1}]).seconds.tolist() == [alone, alone]


def test_a_kernel_may_come_with_what_a_compiler_told():
    """Registers bound the warps of an SM, and more than a block can have cannot launch."""
    copy = find_description("copy").trace()
    configs = [{"registers": r} for r in (16, 64, 255, 16)]
    sizes = {"N": 1 << 26, "B": 512, "V": 1}
    prices = Pricer(lambda c: (copy, {"registers": c["registers"]}), "H100", sizes).price(configs)
    for config, seconds in zip(configs, prices.seconds, strict=True):
        known = Scorer(copy, "H100", registers=config["registers"]).score(sizes)
        assert seconds == known.seconds[0]
    assert prices.reason[2] == "131072 registers per block, at most 65536"
    assert prices.seconds[0] < prices.seconds[1]


def test_what_cannot_launch_is_told_from_what_is_not_described():
    """64 threads a side are too many on any device; 48 does not divide N, which only the description needs."""
    with pytest.warns(NotModelledWarning, match=r"1 of 3 configurations of transpose on h100_sxm .* requires N % T == 0"):
        prices = Pricer(transpose, "H100", {"N": 4096, "PAD": 0}).price([{"T": 64}, {"T": 48}, {"T": 16}])
    assert prices.launches.tolist() == [False, True, True]
    assert prices.modelled.tolist() == [False, False, True]
    assert prices.reason.tolist() == ["4096 threads per block, at most 1024", "requires N % T == 0", ""]


def test_one_warning_for_all_calls_and_the_rest_is_priced():
    """Texts, missing parameters and numbers out of range are found among good rows; the good ones keep their prices."""
    good: list[dict] = [{"T": t} for t in (8, 16, 32)]
    bad: list[dict] = [{"T": "wide"}, {}, {"T": 0}, {"T": 2.5}]
    pricer = Pricer(transpose, "V100", {"N": 4096, "PAD": 0})
    alone = pricer.price(good).seconds
    mixed = [good[0], bad[0], good[1], bad[1], bad[2], bad[3], good[2]]
    with one_warning("4 of 7"):
        first = pricer.price(mixed)
        second = pricer.price(mixed)
    for prices in (first, second):
        assert prices.seconds[[0, 2, 6]].tolist() == alone.tolist()
        assert prices.unknown.tolist() == [1, 3, 4, 5]
        assert "no parameter 'T'" in prices.reason[3]


@pytest.mark.filterwarnings("ignore::costmodel.adapters.ranking.NotModelledWarning")
def test_many_bad_values_cost_the_good_ones_nothing():
    """Each kind of bad value, in 200 of 600 rows: the others are priced as without them."""
    configs: list[dict] = [{"T": t, "PAD": p} for t in (8, 16, 32) for p in (0, 1)] * 100
    bad: list[dict] = [
        {"T": 0},
        {"T": -1},
        {"T": 2.5},
        {"T": 1 << 60},
        {"T": "wide"},
        {"T": None},
        {"T": True},
        {},
        {"T": 8, "PAD": [1]},
    ]
    spoilt: list[dict] = [bad[n // 3 % len(bad)] if n % 3 == 0 else config for n, config in enumerate(configs)]
    pricer = Pricer(padded_by_default, "V100", {"N": 4096})
    prices, alone = pricer.price(spoilt), pricer.price(configs)
    own = np.arange(600) % 3 > 0
    assert prices.seconds[own].tolist() == alone.seconds[own].tolist()
    assert prices.unknown.tolist() == list(range(0, 600, 3))
    assert {reason.partition(": ")[2] or reason for reason in prices.reason[~own]} == {
        f"column 'T': expected a number from 1 to 2**40, got 0{ZERO_HINT}",
        "column 'T': expected a number from 1 to 2**40, got -1",
        "column 'T': expected a whole number, got 2.5",
        "column 'T': expected a number from 1 to 2**40, got 1152921504606846976",
        "column 'T': expected a whole number, got 'wide'",
        "column 'T': expected a whole number, got None",
        "column 'T': expected a whole number, got True",
        "the configuration has no parameter 'T'",
        "column 'PAD': expected a constant, got [1]",
    }


@pytest.mark.parametrize("sizes", [{"N": 8192}, lambda c: {"N": 8192, **c}])
def test_a_parameter_that_only_some_configurations_have_takes_its_default_in_the_others(sizes):
    pricer = Pricer(padded_by_default, "A100", sizes)
    without, given = {"T": 32}, {"T": 32, "PAD": 1}
    there, back = pricer.price([without, given]).seconds, pricer.price([given, without]).seconds
    alone = [pricer.price([c]).seconds[0] for c in (without, given)]
    assert there.tolist() == back[::-1].tolist() == alone
    assert alone[0] > alone[1]


def test_a_model_that_refuses_everything_is_doubted():
    with pytest.warns(NotModelledWarning, match="could not launch, and no other could: 4096 threads per block"):
        prices = Pricer(transpose, "H100", {"N": 4096, "PAD": 0}).price([{"T": 64}, {"T": 128}])
    assert prices.launches.all()
    assert not prices.order.size


def test_a_fault_of_the_model_does_not_end_a_search(monkeypatch):
    def broken(self, table, errors):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(Scorer, "score", broken)
    with pytest.warns(NotModelledWarning, match="ZeroDivisionError: division by zero"):
        prices = Pricer(transpose, "H100", {"N": 4096, "PAD": 0}).price([{"T": 8}] * 1000)
    assert prices.unknown.size == 1000


def test_no_configurations_are_no_prices():
    assert not Pricer(transpose, "H100", {"N": 4096}).price([]).order.size


@pytest.mark.parametrize("sizes", [{"N": 4096, "WIDTH": "T"}, {"n": 4096}])
def test_a_size_that_is_no_argument_is_an_error_at_once(sizes):
    with pytest.raises(SizeError, match="which is no argument; arguments: PAD, N, T"):
        Pricer(transpose, "H100", sizes)


@pytest.mark.parametrize("top", [0, -1, 0.0, 1.5, True, "all", float("nan")])
def test_a_share_or_a_count_is_checked(top):
    with pytest.raises(SizeError, match="top: expected a count"):
        ranking.checked_top(top)
    numbers: list[Any] = [np.int64(5), np.float32(0.5), 1.0]
    assert [ranking.checked_top(t) for t in numbers] == [5, 0.5, 1.0]


@given(
    st.lists(st.one_of(st.sampled_from([1.0, 2.0, 3.0, np.inf, np.nan]), st.floats(1e-6, 1e3)), min_size=1, max_size=30),
    st.one_of(st.integers(1, 40), st.floats(0.01, 1.0)),
)
def test_a_cut_takes_whole_groups_and_a_share_of_those_with_a_time(seconds, top):
    """Against the definition, written out: the shortest prefix of groups that holds what is wanted."""
    times = np.array(seconds)
    prices = Prices(times, np.full(times.size, "", dtype=object), ranking._groups(times))
    timed = sorted({s for s in seconds if np.isfinite(s)})
    groups: list[list[float]] = []
    for s in timed:
        if groups and s <= groups[-1][-1] * (1 + 1e-9):
            groups[-1].append(s)
        else:
            groups.append([s])
    members = [[i for i, s in enumerate(seconds) if s in group] for group in groups]
    count = sum(map(len, members))
    wanted = top if isinstance(top, int) else -(-count * top // 1)
    expected: list[int] = []
    for group in members:
        if len(expected) < wanted:
            expected += group
    best = prices.best(top).tolist()
    assert sorted(best) == sorted(expected)
    assert [prices.group[i] for i in best] == sorted(prices.group[i] for i in best)
    assert prices.unknown.tolist() == [i for i, s in enumerate(seconds) if np.isnan(s)]


def test_a_search_stops_only_when_what_is_left_would_have_to_be_mispredicted_more():
    rule, progress = StopRule(at_least=3, margin=1.0), Progress()
    for predicted, measured in ((1.0, 10.0), (2.0, 16.0)):
        progress.add(predicted, measured)
    assert not rule.done(progress, 100.0)  # two measurements are too few
    progress.add(2.1, 21.0)
    assert not rule.done(progress, 1.24)  # over-predicted as the second was (8 for 10), it takes 9.92
    assert rule.done(progress, 1.26)
    assert not rule.done(progress, float("nan"))


def test_thousands_of_configurations_are_one_table(monkeypatch):
    calls = []
    score = Scorer.score

    def counted(self, table, errors):
        calls.append(len(table))
        return score(self, table, errors=errors)

    monkeypatch.setattr(Scorer, "score", counted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prices = Pricer(GEMM, "H100", SIZES).price([{"block": b, "tile": t} for b in (32, 64, 128) for t in (4, 8)] * 500)
    assert calls == [3000]
    assert np.unique(prices.group).size == 6


def test_every_line_in_the_table_of_hooks_calls_what_there_is():
    """Each block parses, imports what exists, and calls it as its signature allows."""
    page = Path(ranking.__file__).with_name("README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) == 10
    called = set()
    for block in blocks:
        tree = ast.parse(block if not block.rsplit("\n", 2)[-2].startswith("@") else block + "def f(): ...")
        names = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names.update({a.name: getattr(importlib.import_module(str(node.module)), a.name) for a in node.names})
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                inspect.signature(names[node.func.id]).bind(*node.args, **{str(k.arg): k.value for k in node.keywords})
                called.add(node.func.id)
    assert called == {
        "PredictedOrder", "predicted", "prune_configs_by", "rank_triton_configurations", "choices_class", "triton_gemm", "autotuning",
        "ranked", "KernelCost", "predicted_beam",
    }  # fmt: skip
