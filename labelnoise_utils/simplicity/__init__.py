"""How simple a function is: measures of it, Theorem 2's two kinks, one data point, and the interpolant with the least reg."""

from . import hand_over, one_data_point, several_data_points
from .classes import UnitClasses, unit_classes
from .dots import dots_are_optimal
from .interpolation import Interpolant, minimal_interpolant, minimum_convexity_changes
from .lines import collinear_deviation, convexity_changes, curve_length
from .matrices import effective_rank, nuclear_norm
from .surfaces import NetworkInterpolant, Unit
from .two_kinks import TwoKinks, random_two_kinks, regularizer_by_unit

__all__ = [
    "Interpolant",
    "NetworkInterpolant",
    "TwoKinks",
    "Unit",
    "UnitClasses",
    "collinear_deviation",
    "convexity_changes",
    "curve_length",
    "dots_are_optimal",
    "effective_rank",
    "hand_over",
    "minimal_interpolant",
    "minimum_convexity_changes",
    "nuclear_norm",
    "one_data_point",
    "random_two_kinks",
    "regularizer_by_unit",
    "several_data_points",
    "unit_classes",
]
