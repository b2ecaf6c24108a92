"""The hypotheses h(x, theta) of the book: each an ``nn.Module``, and beside it one SGD step on it, compiled."""

from .mlp import MLP
from .product import Product
from .two_layer_relu import TwoLayerReLU

__all__ = ["MLP", "Product", "TwoLayerReLU"]
