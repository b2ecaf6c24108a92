"""Label-noise SGD: its randomness, one run, many runs, and the file of a run."""

from .noise import LabelFlip, LabelNoise, sgd_draws
from .run import Run
from .sweep import train_many, train_stages
from .training import DivergenceError, train

__all__ = ["DivergenceError", "LabelFlip", "LabelNoise", "Run", "sgd_draws", "train", "train_many", "train_stages"]
