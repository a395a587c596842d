"""From counts and charges to seconds: one kernel, a whole table, the best of a space."""

from costmodel.cost.ablation import CHARGES
from costmodel.cost.counters import COUNTERS, NSIGHT
from costmodel.cost.descriptions import (
    DatasetMapping,
    dataset_mapping,
    description_names,
    descriptions_in,
    find_description,
    search_space,
)
from costmodel.cost.estimate import checked_sizes, estimate
from costmodel.cost.result import AccessCharge, Cost, Level, Occupancy, Term
from costmodel.cost.schedules import best_schedule, score_measured
from costmodel.cost.scorer import Scorer, Scores, rank

__all__ = [
    "CHARGES",
    "COUNTERS",
    "NSIGHT",
    "AccessCharge",
    "Cost",
    "DatasetMapping",
    "Level",
    "Occupancy",
    "Scorer",
    "Scores",
    "Term",
    "best_schedule",
    "checked_sizes",
    "dataset_mapping",
    "description_names",
    "descriptions_in",
    "estimate",
    "find_description",
    "rank",
    "score_measured",
    "search_space",
]
