"""Where a run's figures go: one small interface, one file per tracker, rank 0 only."""

from .interface import Outcome, Tracker, Trackers

__all__ = ["Outcome", "Tracker", "Trackers"]
