"""Label-noise SGD, the implicit regularizer that it descends, and the checks of the theory behind it.

Helper package of the book on Blanc, Gupta, Valiant and Valiant, "Implicit regularization for deep neural networks driven by an
Ornstein-Uhlenbeck like process" (COLT 2020).
"""

from .data import Measurements, matrix_sensing, pack_measurements, psd_uniqueness_bound, twelve_points
from .models import MLP, MatrixSensing, Product, TwoLayerReLU, TwoLayerSigmoidal
from .page import check, explore, playground, plots
from .regularizer import (
    Estimate,
    estimate_regularizer,
    implicit_regularizer,
    per_example_sq_norms,
    regularizer_by_parameter,
)
from .sgd import DivergenceError, LabelFlip, LabelNoise, Run, sgd_draws, train, train_many, train_stages
from .simplicity import (
    Interpolant,
    TwoKinks,
    UnitClasses,
    collinear_deviation,
    convexity_changes,
    curve_length,
    effective_rank,
    minimal_interpolant,
    minimum_convexity_changes,
    nuclear_norm,
    one_data_point,
    random_two_kinks,
    regularizer_by_unit,
    unit_classes,
)
from .theory import (
    Linearization,
    drift,
    effective_flow,
    expanded_sgd,
    is_non_repellent,
    linearize,
    ornstein_uhlenbeck,
    project_to_zero_error,
    stationary_variance,
    tangential_curvature,
    tangential_gradient,
    update_terms,
)

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "DivergenceError",
    "Estimate",
    "Interpolant",
    "LabelFlip",
    "LabelNoise",
    "Linearization",
    "MatrixSensing",
    "Measurements",
    "Product",
    "Run",
    "TwoKinks",
    "TwoLayerReLU",
    "TwoLayerSigmoidal",
    "UnitClasses",
    "check",
    "collinear_deviation",
    "convexity_changes",
    "curve_length",
    "drift",
    "effective_flow",
    "effective_rank",
    "estimate_regularizer",
    "expanded_sgd",
    "explore",
    "implicit_regularizer",
    "is_non_repellent",
    "linearize",
    "matrix_sensing",
    "minimal_interpolant",
    "minimum_convexity_changes",
    "nuclear_norm",
    "one_data_point",
    "ornstein_uhlenbeck",
    "pack_measurements",
    "per_example_sq_norms",
    "playground",
    "plots",
    "project_to_zero_error",
    "psd_uniqueness_bound",
    "random_two_kinks",
    "regularizer_by_parameter",
    "regularizer_by_unit",
    "sgd_draws",
    "stationary_variance",
    "tangential_curvature",
    "tangential_gradient",
    "train",
    "train_many",
    "train_stages",
    "twelve_points",
    "unit_classes",
    "update_terms",
]
