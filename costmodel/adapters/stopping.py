"""When a search in predicted order can stop: when what is left would have to be mispredicted worse than anything so far.

With r = measured/predicted of what has been measured, a configuration whose prediction is p takes p·min(r) at best, unless it is
over-predicted more than every other. The search stops when that, less a margin, is above the best time measured. Predictions
need no scale: only their ratio to the measured ones is used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Progress", "StopRule"]


@dataclass(slots=True)
class Progress:
    """What a search has measured; both times in any unit."""

    measured: int = 0
    best: float = math.inf
    """The least measured time."""
    least_ratio: float = math.inf
    """The least of measured over predicted: of the configuration that was over-predicted most."""

    def add(self, predicted: float, measured: float) -> None:
        """Take one more measurement."""
        self.measured += 1
        self.best = min(self.best, measured)
        self.least_ratio = min(self.least_ratio, measured / predicted)


@dataclass(frozen=True, slots=True)
class StopRule:
    """Stop when the next would have to beat its prediction by more than any has.

    Example:
        >>> progress = Progress()
        >>> for predicted, measured in ((1.0, 2.0), (1.1, 2.1), (1.2, 2.6)):
        ...     progress.add(predicted, measured)
        >>> rule = StopRule(at_least=3)
        >>> rule.done(progress, 1.13), rule.done(progress, 1.2)
        (False, True)
    """

    at_least: int = 20
    """Measurements before which it does not stop."""
    margin: float = 1.1
    """How much more than any so far the next may be over-predicted."""

    def done(self, progress: Progress, following: float) -> bool:
        """Whether to stop.

        Args:
            progress: what has been measured.
            following: predicted time of the next; NaN if it has none, which is reason to go on.
        """
        return progress.measured >= self.at_least and following * progress.least_ratio > progress.best * self.margin
