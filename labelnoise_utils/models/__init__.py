"""The hypotheses h(x, theta) of the book: each an ``nn.Module``, and beside it one SGD step on it, compiled."""

from .diagonal_linear import DiagonalLinear
from .matrix_sensing import MatrixSensing
from .mlp import MLP
from .product import Product
from .two_layer_relu import TwoLayerReLU
from .two_layer_sigmoidal import TwoLayerSigmoidal

__all__ = ["MLP", "DiagonalLinear", "MatrixSensing", "Product", "TwoLayerReLU", "TwoLayerSigmoidal"]
