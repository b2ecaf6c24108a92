"""What only the book needs: checks, the house style, and figures that a reader moves."""

from . import plots
from .checks import check
from .exploration import Exploration, explore
from .hand_over import live_hand_over
from .longer import how_much_longer
from .methods import recorded_methods
from .motor import live_motor
from .network import live_network
from .plane import live_plane
from .push import push
from .sensing import live_sensing
from .solutions import live_solutions
from .space import cloud_in_space
from .stage import LiveFigure
from .units import live_units
from .valley import Playground, playground

__all__ = [
    "Exploration",
    "LiveFigure",
    "Playground",
    "check",
    "cloud_in_space",
    "explore",
    "how_much_longer",
    "live_hand_over",
    "live_motor",
    "live_network",
    "live_plane",
    "live_sensing",
    "live_solutions",
    "live_units",
    "playground",
    "plots",
    "push",
    "recorded_methods",
]
