"""One probe from start to profile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

from costmodel.device import Device, device_names, find_device
from costmodel.errors import MeasureError, ProfileError
from costmodel.measure.gpu import StickyError, find_gpu
from costmodel.measure.probe.bandwidths import bandwidths
from costmodel.measure.probe.compare import Difference, differences
from costmodel.measure.probe.curves import Curve, curves
from costmodel.measure.probe.fake_lab import FakeLab
from costmodel.measure.probe.journal import Journal, Replay
from costmodel.measure.probe.lab import Figure, Lab
from costmodel.measure.probe.latencies import latencies
from costmodel.measure.probe.launches import launches
from costmodel.measure.probe.limits import limits
from costmodel.measure.probe.live_lab import LiveLab
from costmodel.measure.probe.profile import default_path, profile_text, refuse_existing, write_profile
from costmodel.measure.probe.throughputs import arithmetic, clocks, lanes, matrix

__all__ = ["LIMIT_S", "Probed", "lab_of", "probe"]

LIMIT_S = 270.0
"""Seconds after which no further group is begun, so that the whole stays under five minutes."""

_FAKE, _JOURNAL = "fake:", "journal:"
_MAY_BE_ZERO = "shared.reserved_bytes_per_block"

Group = Callable[[Lab, Device], Iterator[Figure]]
GROUPS: dict[str, Group] = {
    "limits": limits,
    "clocks": clocks,
    "latencies": latencies,
    "bandwidths": bandwidths,
    "arithmetic": arithmetic,
    "load/store path": lanes,
    "launches": launches,
    "matrix products": matrix,
}


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe found."""

    path: Path
    """The profile."""
    device: Device
    """The profile, read back."""
    base: Device
    """The stored profile it was compared with, and that filled what was not measured."""
    figures: tuple[Figure, ...]
    """What was measured."""
    curves: tuple[Curve, ...]
    """Against working set and occupancy."""
    unmeasured: tuple[str, ...]
    """Groups that failed or were out of time, with the reason."""
    resumed: int
    """Benchmarks taken from the journal."""
    seconds: float
    """It took."""

    @property
    def differences(self) -> list[Difference]:
        """Each figure against the stored one."""
        return differences(self.base, self.figures)


def lab_of(gpu: str) -> Lab:
    """Return the machine that a word names.

    Args:
        gpu: number of a live GPU, `fake:` with the name of a profile, or `journal:` with a file of an earlier probe.

    Raises:
        MeasureError: neither, or there is no such GPU.
    """
    if gpu.startswith(_FAKE):
        return FakeLab(find_device(gpu.removeprefix(_FAKE)))
    if gpu.startswith(_JOURNAL):
        return Replay(Path(gpu.removeprefix(_JOURNAL)))
    if not gpu.isdigit():
        raise MeasureError(
            f"GPU {gpu!r}: expected its number (0, 1, …), fake:NAME for a rehearsal with a stored profile, or journal:FILE"
        )
    return LiveLab(find_gpu(int(gpu)))


def probe(
    lab: Lab,
    out: Path | None = None,
    against: str | None = None,
    *,
    limit_s: float = LIMIT_S,
    told: Callable[[str, int, int], None] = lambda _name, _done, _all: None,
) -> Probed:
    """Measure a machine and write its profile.

    Args:
        lab: the machine.
        out: the file to write, which must not exist; named after the GPU if None.
        against: stored profile to compare with; that of the GPU's name, else one of its architecture, if None.
        limit_s: seconds after which no further group is begun.
        told: is told each group's name as it begins, how many are done, and of how many.

    Raises:
        MeasureError: the file exists, no stored profile fits, or the GPU's context is lost (run it again: it resumes).
    """
    facts = lab.facts()
    path = default_path(str(facts["name"])) if out is None else out
    refuse_existing(path)
    base = _base(str(facts["name"]), str(facts["compute_capability"]), against)
    journal = Journal(lab, path.with_suffix(".jsonl"))
    start, figures, unmeasured = lab.clock_s(), list[Figure](), list[str]()
    for done, (name, group) in enumerate(GROUPS.items()):
        told(name, done, len(GROUPS) + 1)
        if lab.clock_s() - start > limit_s:
            unmeasured.append(f"{name}: out of time after {limit_s:.0f} s; run it again, it resumes")
            continue
        try:
            for figure in group(journal, base):
                if _possible(figure):
                    figures.append(figure)
                else:
                    unmeasured.append(f"{figure.field}: {figure.value} cannot be ({figure.how})")
        except StickyError:
            raise
        except MeasureError as error:
            unmeasured.append(f"{name}: {error}")
    told("curves", len(GROUPS), len(GROUPS) + 1)
    drawn = _curves(journal, base, lab.clock_s() - start > limit_s, unmeasured)
    device = write_profile(path, profile_text(path.stem, facts, base, figures))
    took = lab.clock_s() - start
    return Probed(path, device, base, tuple(figures), tuple(drawn), tuple(unmeasured), journal.resumed, took)


def _possible(figure: Figure) -> bool:
    """Whether a profile can hold a figure."""
    return isinstance(figure.value, bool) or 0 < figure.value < inf or (figure.value == 0 and figure.field == _MAY_BE_ZERO)


def _curves(lab: Lab, base: Device, late: bool, unmeasured: list[str]) -> list[Curve]:
    drawn: list[Curve] = []
    if late:
        unmeasured.append("curves: out of time; run it again, it resumes")
        return drawn
    try:
        drawn.extend(curves(lab, base))
    except StickyError:
        raise
    except MeasureError as error:
        unmeasured.append(f"curves: {error}")
    return drawn


def _base(name: str, compute_capability: str, against: str | None) -> Device:
    """Return the stored profile of a GPU, or the nearest one."""
    if against is not None:
        return find_device(against)
    try:
        return find_device(name.removeprefix("fake "))
    except ProfileError:
        kin = [d for d in map(find_device, device_names()) if d.compute_capability == compute_capability]
        if not kin:
            raise MeasureError(
                f"{name}: no stored profile has compute capability {compute_capability}; name the nearest one with --against"
            ) from None
        return kin[0]
