"""The implicit regularizer of any ``nn.Module``: exact by three methods, and an estimate."""

from .estimate import Estimate, estimate_regularizer
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

__all__ = [
    "Estimate",
    "Method",
    "NotCoveredError",
    "estimate_regularizer",
    "evaluating",
    "implicit_regularizer",
    "per_example_sq_norms",
    "register_rule",
    "regularizer_by_module",
    "regularizer_by_parameter",
]
