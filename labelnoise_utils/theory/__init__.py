"""What the theory predicts near zero error: the geometry, the OU law, the drift, one step expanded, the flow."""

from .brackets import weighted_regularizer
from .cloud import ornstein_uhlenbeck, stationary_variance
from .expansion import expanded_sgd, update_terms
from .flow import effective_flow
from .geometry import Linearization, linearize, project_to_zero_error
from .minima import project_to_minimum
from .residual_flow import residual_flow
from .residuals import residual_drift
from .tangent import drift, is_non_repellent, tangential_curvature, tangential_gradient
from .unequal import ornstein_uhlenbeck_cloud, stationary_covariance

__all__ = [
    "Linearization",
    "drift",
    "effective_flow",
    "expanded_sgd",
    "is_non_repellent",
    "linearize",
    "ornstein_uhlenbeck",
    "ornstein_uhlenbeck_cloud",
    "project_to_minimum",
    "project_to_zero_error",
    "residual_drift",
    "residual_flow",
    "stationary_covariance",
    "stationary_variance",
    "tangential_curvature",
    "tangential_gradient",
    "update_terms",
    "weighted_regularizer",
]
