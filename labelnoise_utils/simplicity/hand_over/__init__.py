"""Deeper networks on a line: data on which they keep bends that nobody needs, and the proof that they do."""

from .certificate import Certificate, Inequality, certify
from .chart import DEEP, ONE, TWO, HandOver
from .explicit import WithLinearUnit, fit_with_least_reg
from .table import recorded_runs

__all__ = [
    "DEEP",
    "ONE",
    "TWO",
    "Certificate",
    "HandOver",
    "Inequality",
    "WithLinearUnit",
    "certify",
    "fit_with_least_reg",
    "recorded_runs",
]
