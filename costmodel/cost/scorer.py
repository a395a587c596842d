"""Price a whole table of configurations in one vectorised call."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from costmodel.charges.occupancy import LIMITERS, block_registers
from costmodel.cost.ablation import checked_charges
from costmodel.cost.baselines import requested_bytes, roofline_seconds, weighted_bytes_seconds
from costmodel.cost.counters import counters
from costmodel.cost.evaluate import Charged, evaluate
from costmodel.cost.feasibility import LARGEST_SIZE, ZERO_HINT, reasons
from costmodel.cost.given_registers import GivenRegisters, checked_registers, is_many, registers_of_rows
from costmodel.cost.plan import Plan, make_plan
from costmodel.cost.shares import term_shares_s
from costmodel.cost.warmth import BACK_TO_BACK, Warm, checked_warm
from costmodel.counts import TooManyCasesError
from costmodel.device import Device, find_device
from costmodel.errors import SizeError
from costmodel.ir import Description, Kernel, described

__all__ = ["Scorer", "Scores", "as_frame", "plan_for", "rank"]

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
        return _arguments(self.kernel)

    def score(self, table: pd.DataFrame | Mapping[str, Any]) -> Scores:
        """Price every row of a table.

        Args:
            table: a column (or one value for all rows) for each argument of the description; other columns of
                a DataFrame are kept and ignored.

        Raises:
            SizeError: an argument has no column, or a value is not a whole number in range.
            DescriptionError: tracing fails.
        """
        frame = as_frame(table)
        rows = len(frame)
        columns = {n: _column(frame, n, self.kernel) for n in _arguments(self.kernel)}
        result = _empty(frame)
        if not rows:
            return result
        given = registers_of_rows(self.registers, self.spilled, frame, self.kernel.name, self.device)
        for statics, which in _groups(self.kernel, columns, rows):
            kernel = self.kernel.trace(**statics) if isinstance(self.kernel, Description) else self.kernel
            needed = {n: columns[n] for n in kernel.params}
            plan = plan_for(kernel)
            result.same[which] = _identities(plan, {n: c[which] for n, c in needed.items()}) + result.same.max() + 1
            for start in range(0, which.size, _ROWS_AT_ONCE):
                self._fill(result, plan, needed, which[start : start + _ROWS_AT_ONCE], given)
        return result

    def _fill(
        self,
        result: Scores,
        plan: Plan,
        columns: Mapping[str, Any],
        which: npt.NDArray[np.int64],
        given: GivenRegisters | None,
    ) -> None:
        taken = {n: _narrow(c[which]) for n, c in columns.items()}
        why = reasons(plan, self.device, taken, which.size)
        good = np.flatnonzero(why == "")
        result.reason[which] = why
        if not good.size:
            return
        kept = {n: c[good] if np.ndim(c) else c for n, c in taken.items()}
        try:
            told = None if given is None else given.of(which[good])
            charged = evaluate(plan, self.device, kept, good.size, told, self.without, self.warm)
        except TooManyCasesError:
            if which.size == 1:
                raise
            for half in np.array_split(which, 2):
                self._fill(result, plan, columns, half, given)
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


def as_frame(table: pd.DataFrame | Mapping[str, Any]) -> pd.DataFrame:
    """The table, single values repeated."""
    if isinstance(table, pd.DataFrame):
        return table
    if not isinstance(table, Mapping):
        raise SizeError(f"expected a DataFrame or a mapping of columns, got {type(table).__name__}")
    for name, column in table.items():
        if np.ndim(column) > 1:
            raise SizeError(f"column {name!r} has {np.ndim(column)} dimensions; expected one value for each row")
    plain = {n: list(v) if np.ndim(v) else v for n, v in table.items()}
    lengths = {len(v) for v in plain.values() if np.ndim(v)}
    if len(lengths) > 1:
        raise SizeError(f"the table's columns have {', '.join(map(str, sorted(lengths)))} rows; expected equal lengths")
    return pd.DataFrame(plain, index=range(lengths.pop() if lengths else 1))


def _arguments(kernel: Description | Kernel) -> tuple[str, ...]:
    return kernel.arguments if isinstance(kernel, Description) else kernel.params


def _column(frame: pd.DataFrame, name: str, kernel: Description | Kernel) -> npt.NDArray[Any]:
    """The values of one argument, checked."""
    if name not in frame.columns:
        if isinstance(kernel, Description) and name in kernel.defaults:
            given = np.full(len(frame), kernel.defaults[name])
            return given if name in kernel.static else whole_numbers(given, f"{kernel.name}: default of {name!r}")
        others = [str(c) for c in frame.columns if c not in _arguments(kernel)]
        near = difflib.get_close_matches(name, others, 1)
        hint = f" (did you mean column {near[0]!r}?)" if near else ""
        raise SizeError(
            f"{kernel.name}: no column for argument {name!r}{hint}; columns: {', '.join(map(str, frame.columns)) or 'none'}"
        )
    values = frame[name].to_numpy()
    if isinstance(kernel, Description) and name in kernel.static:
        fixed: npt.NDArray[Any] = values
        return fixed
    return whole_numbers(values, f"{kernel.name}: column {name!r}")


def whole_numbers(values: npt.NDArray[Any], where: str) -> npt.NDArray[np.int64]:
    """The values as int64.

    Raises:
        SizeError: one of them is not a whole number between 1 and `LARGEST_SIZE`.
    """
    if values.dtype == bool or values.dtype.kind not in "iufO":
        raise SizeError(f"{where}: expected whole numbers, got {values.dtype}")
    for row, value in enumerate(values) if values.dtype == object else ():
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise SizeError(f"{where}, row {row}: expected a whole number, got {value!r}")
    if np.issubdtype(values.dtype, np.floating) and not (np.isfinite(values) & (values == np.floor(values))).all():
        row = int(np.flatnonzero(~(np.isfinite(values) & (values == np.floor(values))))[0])
        raise SizeError(f"{where}, row {row}: expected a whole number, got {values[row]}")
    bad = (values < 1) | (values > LARGEST_SIZE)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise SizeError(
            f"{where}, row {row}: expected a number from 1 to 2**40, got {values[row]}{ZERO_HINT if values[row] == 0 else ''}"
        )
    return values.astype(np.int64)


def _groups(
    kernel: Description | Kernel, columns: Mapping[str, Any], rows: int
) -> list[tuple[dict[str, Any], npt.NDArray[np.int64]]]:
    """Static values and the rows that have them."""
    names = kernel.static if isinstance(kernel, Description) else ()
    if not names:
        return [({}, np.arange(rows))]
    keys = pd.DataFrame({n: columns[n] for n in names})
    groups = keys.groupby(list(names), sort=False, dropna=False)
    return (
        [
            (dict(zip(names, (_python(x) for x in key), strict=True)), np.asarray(index, np.int64))
            for key, index in groups.indices.items()
        ]
        if len(names) > 1
        else [({names[0]: _python(key)}, np.asarray(index, np.int64)) for key, index in groups.indices.items()]
    )


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _narrow(column: npt.NDArray[np.int64]) -> Any:
    """One int where all rows agree: less to enumerate."""
    return int(column[0]) if column.size and (column == column[0]).all() else column


def _identities(plan: Plan, columns: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Numbers from 0 that are equal where all sizes are equal on which the kernel depends."""
    code: npt.NDArray[np.int64] = np.zeros(len(next(iter(columns.values()), ())), np.int64)
    for name in sorted(plan.names):
        if (columns[name] != columns[name][:1]).any():
            values, part = np.unique(columns[name], return_inverse=True)
            code = np.unique(code * values.size + part, return_inverse=True)[1]
    return code


def _empty(frame: pd.DataFrame) -> Scores:
    rows = len(frame)
    text: npt.NDArray[Any] = np.full(rows, "", dtype=object)
    nan = [np.full(rows, np.nan) for _ in range(4)]
    return Scores(
        frame, np.full(rows, np.inf), text, text.copy(), np.full(rows, -1), nan[0], nan[1], nan[2], {"occupancy": nan[3]}
    )
