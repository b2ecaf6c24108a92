"""Deeper networks on a line: data on which they keep bends that nobody needs, and the proof that they do."""

from .certificate import Certificate, Inequality, certify
from .chart import ONE, TWO, HandOver
from .explicit import WithLinearUnit, fit_with_least_reg

__all__ = [
    "ONE",
    "TWO",
    "Certificate",
    "HandOver",
    "Inequality",
    "WithLinearUnit",
    "certify",
    "fit_with_least_reg",
]
