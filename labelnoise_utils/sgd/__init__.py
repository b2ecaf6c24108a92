"""Label-noise SGD: its randomness, one run, many runs, and the file of a run."""

from .noise import LabelNoise, sgd_draws
from .run import Run
from .sweep import train_many, train_stages
from .training import DivergenceError, train

__all__ = ["DivergenceError", "LabelNoise", "Run", "sgd_draws", "train", "train_many", "train_stages"]
