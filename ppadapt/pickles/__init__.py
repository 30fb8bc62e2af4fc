"""Pickles without running them: the one reader for weights, data and checkpoints."""

from .machine import read_pickle
from .plain import Mark, PickledArray, StandIn, StandInFunction
from .walk import MAX_DEPTH, Walk, is_array, unwrap

__all__ = ["MAX_DEPTH", "Mark", "PickledArray", "StandIn", "StandInFunction", "Walk", "is_array", "read_pickle",
           "unwrap"]
