"""Label-noise SGD, the implicit regularizer that it descends, and the checks of the theory behind it.

Helper package of the book on Blanc, Gupta, Valiant and Valiant, "Implicit regularization for deep neural networks driven by an
Ornstein-Uhlenbeck like process" (COLT 2020).
"""

from . import plots
from .checks import check
from .data import twelve_points
from .estimate import Estimate, estimate_regularizer
from .expansion import expanded_sgd, update_terms
from .flow import effective_flow
from .interactive import explore, playground
from .measures import collinear_deviation, convexity_changes, curve_length
from .models import MLP, Product, TwoLayerReLU
from .noise import LabelNoise, sgd_draws
from .regularizer import implicit_regularizer, per_example_sq_norms, regularizer_by_parameter
from .sweep import train_many, train_stages
from .theory import (
    Linearization,
    drift,
    is_non_repellent,
    linearize,
    ornstein_uhlenbeck,
    project_to_zero_error,
    stationary_variance,
    tangential_gradient,
)
from .training import DivergenceError, Run, train

__all__ = [
    "MLP",
    "DivergenceError",
    "Estimate",
    "LabelNoise",
    "Linearization",
    "Product",
    "Run",
    "TwoLayerReLU",
    "check",
    "collinear_deviation",
    "convexity_changes",
    "curve_length",
    "drift",
    "effective_flow",
    "estimate_regularizer",
    "expanded_sgd",
    "explore",
    "implicit_regularizer",
    "is_non_repellent",
    "linearize",
    "ornstein_uhlenbeck",
    "per_example_sq_norms",
    "playground",
    "plots",
    "project_to_zero_error",
    "regularizer_by_parameter",
    "sgd_draws",
    "stationary_variance",
    "tangential_gradient",
    "train",
    "train_many",
    "train_stages",
    "twelve_points",
    "update_terms",
]
