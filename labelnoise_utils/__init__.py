"""Label-noise SGD, the implicit regularizer that it descends, and the checks of the theory behind it.

Helper package of the book on Blanc, Gupta, Valiant and Valiant, "Implicit regularization for deep neural networks driven by an
Ornstein-Uhlenbeck like process" (COLT 2020).
"""

from . import plots
from .checks import check
from .data import twelve_points
from .measures import collinear_deviation, convexity_changes, curve_length
from .models import MLP, Product, TwoLayerReLU
from .noise import LabelNoise, sgd_draws
from .regularizer import implicit_regularizer, per_example_sq_norms
from .sweep import train_many, train_stages
from .training import DivergenceError, Run, train

__all__ = [
    "MLP",
    "DivergenceError",
    "LabelNoise",
    "Product",
    "Run",
    "TwoLayerReLU",
    "check",
    "collinear_deviation",
    "convexity_changes",
    "curve_length",
    "implicit_regularizer",
    "per_example_sq_norms",
    "plots",
    "sgd_draws",
    "train",
    "train_many",
    "train_stages",
    "twelve_points",
]
