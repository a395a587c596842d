"""The figures against their definitions, written out."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import DataError
from costmodel.validate import Metrics, metrics

# Few distinct values, so that ties are common, and ordinary ones.
TIMES = st.one_of(st.sampled_from([0.5, 1.0, 2.0, 3.0, 7.0]), st.floats(1e-6, 1e6))
COLUMNS = st.lists(st.tuples(TIMES, TIMES, st.integers(0, 5)), min_size=1, max_size=25)


def _ranks(values):
    return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]


def _pearson(a, b):
    da, db = [x - sum(a) / len(a) for x in a], [x - sum(b) / len(b) for x in b]
    return sum(x * y for x, y in zip(da, db, strict=True)) / math.sqrt(sum(x * x for x in da) * sum(y * y for y in db))


def _kendall_b(a, b):
    def sign(x):
        return (x > 0) - (x < 0)

    pairs = list(itertools.combinations(range(len(a)), 2))
    signs = [(sign(a[i] - a[j]), sign(b[i] - b[j])) for i, j in pairs]
    untied = math.prod(sum(pair[side] != 0 for pair in signs) for side in (0, 1))
    return sum(x * y for x, y in signs) / math.sqrt(untied)


def _top(model, truth, k):
    first = sorted(range(len(model)), key=lambda i: (model[i], i))[:k]
    return min(truth) / min(truth[i] for i in first)


def _median(values):
    values = sorted(values)
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


@given(COLUMNS)
def test_every_figure_follows_its_definition(columns):
    model, truth, _ = (list(column) for column in zip(*columns, strict=True))
    n = len(model)
    got = metrics(model, truth)
    logs = [math.log(p / m) for p, m in zip(model, truth, strict=True)]
    assert got.n == n
    if len(set(model)) == 1 or len(set(truth)) == 1:
        assert math.isnan(got.rho)
        assert math.isnan(got.tau)
    else:
        assert got.rho == pytest.approx(_pearson(_ranks(model), _ranks(truth)), abs=1e-9)
        assert got.tau == pytest.approx(_kendall_b(model, truth), abs=1e-9)
    assert (got.top1, got.top5, got.top10) == tuple(_top(model, truth, k) for k in (1, 5, 10))
    assert got.mape == pytest.approx(sum(abs(p - m) / m for p, m in zip(model, truth, strict=True)) / n)
    assert got.median_abs_log2 == pytest.approx(_median([abs(x) / math.log(2) for x in logs]), abs=1e-9)
    assert got.sigma == pytest.approx(math.sqrt(sum((x - sum(logs) / n) ** 2 for x in logs) / n), rel=1e-6, abs=1e-9)
    assert got.tie_rate == sum(model.count(p) > 1 for p in model) / n
    assert math.isnan(got.same_kernel_rate)


@given(COLUMNS)
def test_with_groups_ties_are_counted_over_distinct_kernels(columns):
    _, truth, ids = (list(column) for column in zip(*columns, strict=True))
    by_kernel = {kernel: predicted for predicted, _, kernel in columns}  # one kernel, one prediction
    model = [by_kernel[kernel] for kernel in ids]
    got = metrics(model, truth, group=[f"kernel {kernel}" for kernel in ids])
    distinct = list(by_kernel.values())
    assert got.tie_rate == sum(distinct.count(p) > 1 for p in distinct) / len(distinct)
    assert got.same_kernel_rate == sum(ids.count(kernel) > 1 for kernel in ids) / len(ids)
    plain = metrics(model, truth)
    assert (got.rho, got.top1) == pytest.approx((plain.rho, plain.top1), nan_ok=True)


@given(COLUMNS, st.integers(-20, 20))
def test_a_common_factor_moves_seconds_but_neither_order_nor_sigma(columns, power):
    model, truth, _ = (np.array(column) for column in zip(*columns, strict=True))
    one, other = metrics(model, truth), metrics(model * 2.0**power, truth)
    assert other.sigma == pytest.approx(one.sigma, abs=1e-9)
    assert other.tau == pytest.approx(one.tau, nan_ok=True)
    assert (other.top1, other.top5, other.tie_rate) == (one.top1, one.top5, one.tie_rate)


def test_a_perfect_model():
    got = metrics([3.0, 1.0, 2.0], [3.0, 1.0, 2.0], group=["c", "a", "b"])
    assert (got.rho, got.tau) == pytest.approx((1.0, 1.0))
    assert replace(got, rho=1.0, tau=1.0) == Metrics(3, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_by_hand():
    got = metrics([1.0, 4.0, 2.0, 8.0], [2.0, 2.0, 1.0, 4.0])
    assert got.top1 == 0.5  # row 0 is predicted fastest and takes 2; the best takes 1
    assert got.top5 == 1.0
    assert got.mape == 1.0 * (0.5 + 1 + 1 + 1) / 4
    assert got.median_abs_log2 == 1.0  # each is a factor of two off
    assert got.sigma == pytest.approx(math.log(2) * math.sqrt(3 / 4))  # ln 2 × (-1, 1, 1, 1)


def test_ties_cost_because_they_are_taken_in_row_order():
    truth = [9.0] * 10 + [1.0]
    assert metrics([1.0] * 11, truth).top10 == pytest.approx(1 / 9)
    assert metrics([1.0] * 11, truth[::-1]).top1 == 1.0


def test_inert_tunables_are_no_ties():
    model, truth = [1.0, 1.0, 2.0, 2.0, 3.0], [1.0, 1.1, 2.0, 2.2, 3.0]
    assert metrics(model, truth).tie_rate == 0.8
    got = metrics(model, truth, group=np.array([0, 0, 1, 1, 2]))
    assert (got.tie_rate, got.same_kernel_rate) == (0.0, 0.8)
    got = metrics(model, truth, group=[(0,), (0,), (1,), (2,), (3,)])
    assert got.tie_rate == 0.5  # (1,) and (2,), of four


@pytest.mark.parametrize(("model", "truth"), [([2.0], [3.0]), ([1.0] * 4, [1.0, 2.0, 3.0, 4.0]), ([1.0, 2.0], [5.0] * 2)])
def test_a_constant_side_has_no_rank_correlation_and_no_warning(model, truth):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = metrics(model, truth)
    assert math.isnan(got.rho)
    assert math.isnan(got.tau)
    assert got.as_dict()["rho"] is None
    assert got.as_dict()["n"] == len(truth)


def test_extreme_times_escape_no_warning():
    got = metrics([1e300, 1e-300, 1.0], [1e-300, 1e300, 1.0])
    assert got.mape == math.inf
    assert got.median_abs_log2 == pytest.approx(600 * math.log2(10))


@pytest.mark.parametrize(
    ("model", "truth", "group", "message"),
    [
        ([1.0, 2.0], [1.0], None, "2 predicted times for 1 measured"),
        ([], [], None, "no rows"),
        (
            [1.0, math.nan],
            [1.0, 2.0],
            None,
            r"predicted\[1\]: expected a finite, positive time, got nan \(1 of 2 rows\)",
        ),
        ([1.0, math.inf], [1.0, 2.0], None, r"predicted\[1\].*inf"),
        ([1.0, 2.0], [0.0, 2.0], None, r"measured\[0\].*got 0.0"),
        ([1.0, 2.0], [1.0, -2.0], None, r"measured\[1\].*got -2.0"),
        (["fast", "slow"], [1.0, 2.0], None, "predicted: expected numbers"),
        ([10**400], [1.0], None, "predicted: expected numbers"),
        ([[1.0, 2.0]], [1.0, 2.0], None, r"one dimension, got shape \(1, 2\)"),
        (1.0, 1.0, None, r"one dimension, got shape \(\)"),
        ([1.0, 2.0], [1.0, 2.0], [1], "1 identities for 2 rows"),
        ([1.0, 2.0], [1.0, 2.0], [1, None], r"group\[1\]: the identity is missing"),
    ],
)
def test_what_cannot_be_compared_is_refused(model, truth, group, message):
    with pytest.raises(DataError, match=message):
        metrics(model, truth, group=group)


@pytest.mark.bench
def test_forty_thousand_rows_take_less_than_half_a_second():
    rng = np.random.default_rng(0)
    truth = rng.lognormal(size=40_000)
    model = np.round(truth * rng.lognormal(sigma=0.2, size=40_000), 3) + 1e-3
    start = time.perf_counter()
    metrics(model, truth, group=np.arange(40_000) // 2)
    seconds = time.perf_counter() - start
    print(f"metrics, 40,000 rows: {seconds * 1e3:.0f} ms")
    assert seconds < 0.5
