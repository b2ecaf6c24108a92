"""What only the book needs: checks, the house style, and figures that a reader moves."""

from . import plots
from .checks import check
from .exploration import Exploration, explore
from .network import LiveNetwork, live_network
from .valley import Playground, playground

__all__ = ["Exploration", "LiveNetwork", "Playground", "check", "explore", "live_network", "playground", "plots"]
