"""The implicit regularizer of any ``nn.Module``: exact by three methods, and an estimate."""

from .estimate import estimate_regularizer, estimate_regularizer_by_parameter
from .estimate_per_example import estimate_per_example_sq_norms
from .exact import (
    Method,
    implicit_regularizer,
    per_example_sq_norms,
    regularizer_by_module,
    regularizer_by_parameter,
)
from .ghost import NotCoveredError
from .modes import evaluating
from .rules import register_rule
from .signs import Estimate

__all__ = [
    "Estimate",
    "Method",
    "NotCoveredError",
    "estimate_per_example_sq_norms",
    "estimate_regularizer",
    "estimate_regularizer_by_parameter",
    "evaluating",
    "implicit_regularizer",
    "per_example_sq_norms",
    "register_rule",
    "regularizer_by_module",
    "regularizer_by_parameter",
]
