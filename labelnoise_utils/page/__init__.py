"""What only the book needs: checks, the house style, and figures that a reader moves."""

from . import plots
from .checks import check
from .exploration import Exploration, explore
from .valley import Playground, playground

__all__ = ["Exploration", "Playground", "check", "explore", "playground", "plots"]
