"""Price a whole table of configurations in one vectorised call."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.charges.occupancy import LIMITERS, block_registers
from costmodel.cost.ablation import checked_charges
from costmodel.cost.argument_columns import argument_columns, argument_names, as_frame, groups_of_statics
from costmodel.cost.baselines import requested_bytes, roofline_seconds, weighted_bytes_seconds
from costmodel.cost.counters import counters
from costmodel.cost.evaluate import Charged, evaluate
from costmodel.cost.feasibility import reasons
from costmodel.cost.given_registers import GivenRegisters, checked_registers, is_many, registers_of_rows
from costmodel.cost.plan import Plan, make_plan
from costmodel.cost.shares import term_shares_s
from costmodel.cost.warmth import BACK_TO_BACK, Warm, checked_warm
from costmodel.counts import TooManyCasesError
from costmodel.device import Device, find_device
from costmodel.errors import CostModelError, SizeError
from costmodel.ir import Description, Kernel, described

__all__ = ["Scorer", "Scores", "plan_for", "rank"]

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Scores:
    """Prices of a table's rows, in its order."""

    table: pd.DataFrame
    """The configurations, as given."""
    seconds: Floats
    """Infinite where a configuration cannot run."""
    reason: npt.NDArray[Any]
    """Why not; an empty text where it can."""
    bound: npt.NDArray[Any]
    """Name of the term that takes most of the time."""
    same: npt.NDArray[np.int64]
    """Rows with the same number describe exactly the same kernel (a tunable that a flag makes inert)."""
    outside: npt.NDArray[np.bool_]
    """Rows that the description itself rules out, on any device: it requires otherwise, or an array is overrun."""
    bytes: Floats
    """Baseline: global and shared bytes requested, each over its bandwidth, in seconds."""
    unweighted_bytes: Floats
    """Baseline: the same bytes, simply added."""
    roofline_s: Floats
    """Baseline: arithmetic, L2 and DRAM at their peaks, the slowest of them."""
    counters: dict[str, Floats] = field(default_factory=dict)
    """Predicted hardware counters; NaN where a configuration cannot run."""
    terms: dict[str, Floats] = field(default_factory=dict)
    """Seconds that each term accounts for; they add up to `seconds`, and are 0 where a configuration cannot run."""

    @property
    def feasible(self) -> npt.NDArray[np.bool_]:
        """Rows that can run."""
        result: npt.NDArray[np.bool_] = self.reason == ""
        return result

    def frame(self) -> pd.DataFrame:
        """The table with `seconds`, `bound`, `occupancy` and `reason` appended."""
        return self.table.assign(seconds=self.seconds, bound=self.bound, occupancy=self.counters["occupancy"], reason=self.reason)


_ROWS_AT_ONCE = 16_384
"""Rows priced together: all lanes of all their warps are in memory at once."""
_PLANS: OrderedDict[int, tuple[Kernel, Plan]] = OrderedDict()
_MOST_PLANS = 1024


def plan_for(kernel: Kernel) -> Plan:
    """The plan of a traced kernel; made once."""
    known = _PLANS.get(id(kernel))
    if known is None or known[0] is not kernel:
        known = _PLANS[id(kernel)] = (kernel, make_plan(kernel))
        if len(_PLANS) > _MOST_PLANS:
            _PLANS.popitem(last=False)
    return known[1]


class Scorer:
    """Prices configurations of one kernel on one device.

    Example:
        >>> from costmodel import Scorer
        >>> from costmodel.cost import find_description
        >>> scorer = Scorer(find_description("vector_add"), "H100")
        >>> scores = scorer.score({"N": 1 << 26, "B": [64, 256, 1024, 4096]})
        >>> scores.reason[3]
        '4096 threads per block, at most 1024'
    """

    def __init__(
        self,
        kernel: Description | Kernel,
        device: Device | str,
        *,
        registers: Any = None,
        spilled: Any = 0.0,
        without: Iterable[str] = (),
        warm: Warm | int = BACK_TO_BACK,
    ) -> None:
        """Take a kernel and a device.

        Args:
            kernel: a description, or a traced kernel.
            device: a device, or its name.
            registers: of a thread, where a compiler has told: a number, the name of a column of the tables to be priced,
                or one number for each row (NaN where it is not known); estimated if None.
            spilled: likewise, the words that each sweep over the accumulators stores and loads.
            without: charges to switch off, by their names in `costmodel.cost.CHARGES`.
            warm: what earlier launches left in L2, see `cost.warmth`; {} for nothing.

        Raises:
            DescriptionError: the kernel is no description.
            SizeError: a register count out of range, or a name that is no charge.
            ProfileError: no such device.
        """
        self.kernel = kernel = described(kernel)
        self.without = checked_charges(without)
        self.device = find_device(device) if not isinstance(device, Device) else device
        self.warm = checked_warm(warm, kernel)
        self.registers, self.spilled = registers, spilled
        if not is_many(registers) and not is_many(spilled):
            checked_registers(registers, spilled, kernel.name, self.device)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Columns that a table needs, those with a default among them."""
        return argument_names(self.kernel)

    def score(self, table: pd.DataFrame | Mapping[str, Any], *, errors: Literal["raise", "report"] = "raise") -> Scores:
        """Price every row of a table.

        Args:
            table: a column (or one value for all rows) for each argument of the description; other columns of
                a DataFrame are kept and ignored.
            errors: what a value that is no size, or rows that cannot be traced or counted, come to: an error, or the reason
                of their rows, which are then `outside`.

        Raises:
            SizeError: an argument has no column, or a value is not a whole number in range.
            DescriptionError: tracing fails.
        """
        if errors not in ("raise", "report"):
            raise SizeError(f"{self.kernel.name}: errors={errors!r}: expected 'raise' or 'report'")
        frame = as_frame(table)
        result = _empty(frame)
        if not len(frame):
            return result
        wrong = None if errors == "raise" else result.reason
        columns = argument_columns(frame, self.kernel, wrong)
        given = registers_of_rows(self.registers, self.spilled, frame, self.kernel.name, self.device, wrong)
        result.outside[:] = result.reason != ""
        for statics, which in groups_of_statics(self.kernel, columns, np.flatnonzero(~result.outside)):
            try:
                self._fill_group(result, statics, columns, which, given, errors == "report")
            except CostModelError as error:
                if errors == "raise":
                    raise
                result.seconds[which], result.reason[which], result.outside[which] = np.inf, str(error), True
        return result

    def _fill_group(
        self,
        result: Scores,
        statics: Mapping[str, Any],
        columns: Mapping[str, Any],
        which: npt.NDArray[np.int64],
        given: GivenRegisters | None,
        report: bool,
    ) -> None:
        """Price rows with the same static values."""
        kernel = self.kernel.trace(**statics) if isinstance(self.kernel, Description) else self.kernel
        needed = {n: columns[n] for n in kernel.params}
        plan = plan_for(kernel)
        result.same[which] = _identities(plan, {n: c[which] for n, c in needed.items()}, which.size) + result.same.max() + 1
        for start in range(0, which.size, _ROWS_AT_ONCE):
            self._fill(result, plan, needed, which[start : start + _ROWS_AT_ONCE], given, report)

    def _fill(
        self,
        result: Scores,
        plan: Plan,
        columns: Mapping[str, Any],
        which: npt.NDArray[np.int64],
        given: GivenRegisters | None,
        report: bool,
    ) -> None:
        taken = {n: _narrow(c[which]) for n, c in columns.items()}
        why = reasons(plan, self.device, taken, which.size)
        good = np.flatnonzero(why == "")
        result.reason[which] = why
        if good.size < which.size:
            bad = np.flatnonzero(why != "")
            left = {n: c[bad] if np.ndim(c) else c for n, c in taken.items()}
            result.outside[which[bad]] = reasons(plan, None, left, bad.size) != ""
        if not good.size:
            return
        kept = {n: c[good] if np.ndim(c) else c for n, c in taken.items()}
        try:
            told = None if given is None else given.of(which[good])
            charged = evaluate(plan, self.device, kept, good.size, told, self.without, self.warm)
        except TooManyCasesError as error:
            if which.size == 1 and not report:
                raise
            if which.size == 1:
                result.reason[which], result.outside[which] = str(error), True
                return
            for half in np.array_split(which, 2):
                self._fill(result, plan, columns, half, given, report)
            return
        over = launch_reasons(charged, self.device)
        rows = which[good]
        result.reason[rows] = over
        result.seconds[rows] = np.where(over == "", charged.seconds, np.inf)
        shares = term_shares_s(charged, self.device)
        names = np.array(list(shares), dtype=object)
        result.bound[rows] = names[np.stack(list(shares.values())).argmax(axis=0)]
        for name, share in shares.items():
            result.terms.setdefault(name, np.zeros(len(result.table)))[rows] = np.where(over == "", share, 0.0)
        result.bytes[rows] = weighted_bytes_seconds(charged, self.device)
        result.unweighted_bytes[rows] = requested_bytes(charged)
        result.roofline_s[rows] = roofline_seconds(charged, self.device)
        for name, values in counters(charged, self.device).items():
            column = result.counters.setdefault(name, np.full(len(result.table), np.nan))
            column[rows] = np.where(over == "", values, np.nan)


def launch_reasons(charged: Charged, device: Device) -> npt.NDArray[Any]:
    """[rows] why a block cannot launch though its sizes are legal: the register file, or what the device lacks."""
    needed = block_registers(charged.threads, charged.registers, device)
    over = needed > device.registers.per_block
    found: npt.NDArray[Any] = np.full(charged.seconds.shape, "", dtype=object)
    for row in np.flatnonzero(over):
        found[row] = f"{needed[row]} registers per block, at most {device.registers.per_block}"
    for row in np.flatnonzero((charged.residency.blocks_per_sm == 0) & ~over):
        found[row] = f"no block fits an SM: {LIMITERS[charged.residency.limiter[row]]}"
    if charged.lacking:
        found[:] = "; ".join(dict.fromkeys(charged.lacking))
    return found


def rank(
    kernel: Description | Kernel, device: Device | str, table: pd.DataFrame | Mapping[str, Any], top: int | None = 10
) -> pd.DataFrame:
    """The fastest configurations, best first.

    Args:
        kernel: a description or a traced kernel.
        device: a device or its name.
        table: as for `Scorer.score`.
        top: how many to return; None for all feasible ones.

    Returns:
        The table's columns with `seconds`, `bound` and `occupancy`; `.attrs["infeasible"]` counts the rest by
        reason.
    """
    scores = Scorer(kernel, device).score(table)
    order = np.argsort(scores.seconds, kind="stable")[: int(scores.feasible.sum())][:top]
    best = scores.frame().iloc[order].drop(columns="reason").reset_index(drop=True)
    best.attrs["infeasible"] = pd.Series(scores.reason[~scores.feasible]).value_counts().to_dict()
    return best


def _narrow(column: npt.NDArray[np.int64]) -> Any:
    """One int where all rows agree: less to enumerate."""
    return int(column[0]) if column.size and (column == column[0]).all() else column


def _identities(plan: Plan, columns: Mapping[str, npt.NDArray[np.int64]], rows: int) -> npt.NDArray[np.int64]:
    """Numbers from 0 that are equal where all sizes are equal on which the kernel depends."""
    code: npt.NDArray[np.int64] = np.zeros(rows, np.int64)
    for name in sorted(plan.names):
        if (columns[name] != columns[name][:1]).any():
            values, part = np.unique(columns[name], return_inverse=True)
            code = np.unique(code * values.size + part, return_inverse=True)[1]
    return code


def _empty(frame: pd.DataFrame) -> Scores:
    rows = len(frame)
    text: npt.NDArray[Any] = np.full(rows, "", dtype=object)
    nan = [np.full(rows, np.nan) for _ in range(4)]
    same, outside = np.full(rows, -1), np.zeros(rows, bool)
    return Scores(frame, np.full(rows, np.inf), text, text.copy(), same, outside, nan[0], nan[1], nan[2], {"occupancy": nan[3]})
