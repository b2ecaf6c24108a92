"""Label-noise SGD: its randomness, one run, many runs, and the file of a run."""

from .contrasts import FrozenNoise, InputNoise, LangevinNoise, ParameterNoise, TwoCopies
from .flip import LabelFlip
from .noise import LabelNoise, sgd_draws
from .run import Run
from .sweep import train_many, train_stages
from .training import DivergenceError, train

__all__ = [
    "DivergenceError",
    "FrozenNoise",
    "InputNoise",
    "LabelFlip",
    "LabelNoise",
    "LangevinNoise",
    "ParameterNoise",
    "Run",
    "TwoCopies",
    "sgd_draws",
    "train",
    "train_many",
    "train_stages",
]
