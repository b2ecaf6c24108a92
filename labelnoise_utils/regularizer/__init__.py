"""The implicit regularizer of any ``nn.Module``: exact by three methods, and an estimate."""

from .estimate import Estimate, estimate_regularizer
from .exact import Method, implicit_regularizer, per_example_sq_norms, regularizer_by_parameter
from .ghost import NotCoveredError

__all__ = [
    "Estimate",
    "Method",
    "NotCoveredError",
    "estimate_regularizer",
    "implicit_regularizer",
    "per_example_sq_norms",
    "regularizer_by_parameter",
]
