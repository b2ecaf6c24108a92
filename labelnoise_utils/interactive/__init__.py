"""What moves: figures that a reader changes with a control."""

from .exploration import Exploration, explore
from .valley import Playground, playground

__all__ = ["Exploration", "Playground", "explore", "playground"]
