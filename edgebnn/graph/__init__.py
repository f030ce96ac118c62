"""The inference graph: a stem, a list of identical binary units, a head. NumPy only."""

from edgebnn.graph.graph import Head, InferenceGraph, Linear, Stem, Unit
from edgebnn.graph.info import ModelInfo

__all__ = ["Head", "InferenceGraph", "Linear", "ModelInfo", "Stem", "Unit"]
