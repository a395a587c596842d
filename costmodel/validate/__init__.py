"""Predictions against measurements: the figures of a report, and the reading of measured data."""

from __future__ import annotations

from costmodel.validate.baselines import BASELINES, Baseline
from costmodel.validate.data import Measured, load, read
from costmodel.validate.metrics import Metrics, metrics
from costmodel.validate.run import Report, validate

__all__ = ["BASELINES", "Baseline", "Measured", "Metrics", "Report", "load", "metrics", "read", "validate"]
