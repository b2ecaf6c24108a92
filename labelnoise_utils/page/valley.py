"""Label-noise SGD on h = u v as something to play with: the page itself computes it."""

from dataclasses import dataclass
from hashlib import sha256
from html import escape

from ..arguments import as_count, as_nonnegative, as_number, as_positive
from .controls import as_text
from .offline import embedded, script
from .stage import slider

REACH = 3.0
MAX_BATCH = 1024
MAX_PARTICLES = 2000

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
STDS = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
PLACES = tuple(k / 20 for k in range(61))
SPEEDS = {0: "automatic", 1: "1 step a frame"} | {k: f"{k} steps a frame" for k in (3, 10, 30, 100, 300, 1000)}


@dataclass(frozen=True)
class Playground:
    """What :func:`labelnoise_utils.playground` returns; a notebook or a page shows it, and the reader moves it.

    Attributes:
        lr: learning rate at first.
        noise_std: standard deviation of the label noise at first.
        batch_size: examples per step at first, each with its own noise.
        u: first parameter at the start.
        v: second parameter at the start.
        particles: independent runs that make the cloud.
        seed: fixes the noise of all runs.
    """

    lr: float
    noise_std: float
    batch_size: int
    u: float
    v: float
    particles: int
    seed: int

    def _repr_html_(self) -> str:
        inputs = "\n".join(
            (
                slider("lr", "learning rate lr", RATES, self.lr),
                slider("noise_std", "noise σ", STDS, self.noise_std),
                slider("batch_size", "batch size B", BATCHES, self.batch_size),
                slider("u", "start u", PLACES, self.u),
                slider("v", "start v", PLACES, self.v),
                slider("speed", "speed", tuple(SPEEDS), 0, tuple(SPEEDS.values())),
            )
        )
        inside = f"""<style>{embedded("figure.css")}
{embedded("playground.css")}</style>
<p class="labelnoise-fallback">{escape(self._in_words())} It needs JavaScript: open the book's page, or trust the notebook.</p>
<div class="labelnoise-needs-script" hidden>
<div class="labelnoise-pair">
<canvas role="img" aria-label="Plane of u and v" title="Click or tap to choose the start"></canvas>
<div>
<canvas role="img" aria-label="Squared error against steps"></canvas>
<canvas role="img" aria-label="Mean of |u² − v²| against steps"></canvas>
</div>
</div>
<p class="labelnoise-buttons">
<button type="button">Start</button>
<button type="button">Step forward</button>
<button type="button">Reset</button>
</p>
<p class="labelnoise-readout"></p>
<p class="labelnoise-hint">A click or tap in the plane also chooses the start. All but the speed starts anew when changed.</p>
<div class="labelnoise-controls">
{inputs}
</div>
</div>
<p role="status"></p>
{script("engine/random.js", "engine/product.js", "valley.js", "pen.js", "playground_pictures.js", "playground.js")}"""
        settings = f'data-particles="{self.particles}" data-seed="{self.seed}"'
        name = sha256(f"{settings} {inside}".encode()).hexdigest()[:8]
        return f"""<div class="labelnoise-explore labelnoise-playground" id="playground-{name}" role="group"
aria-label="Label-noise SGD on h = u v, to play with" {settings} data-ready>
{inside}
</div>"""

    def _in_words(self) -> str:
        return (
            f"A cloud of {self.particles} runs of label-noise SGD on h = u v, from u = {as_text(self.u)}, "
            f"v = {as_text(self.v)}, with lr = {as_text(self.lr)}, σ = {as_text(self.noise_std)}, B = {self.batch_size}."
        )


def playground(
    *,
    lr: float = 0.005,
    noise_std: float = 1.0,
    batch_size: int = 1,
    u: float = 2.8,
    v: float = 1.6,
    particles: int = 300,
    seed: int = 0,
) -> Playground:
    """Let a cloud of label-noise SGD run on h = u v in front of the reader, who sets what the arguments start with.

    Each particle is a run of its own on one data point, y = 1. A step is ``g = 2 lr (u v - y - Z)``,
    ``u, v <- u - g v, v - g u``, where Z is the mean of ``batch_size`` independent noises, each plus or minus
    ``noise_std``. First the cloud falls onto the valley ``u v = 1``, then it moves along it to ``u = v = 1``, where
    ``reg = u**2 + v**2`` is least: ``s = u**2 - v**2`` obeys ``s <- s (1 - g**2)`` exactly, so its mean decays at the rate
    ``4 lr**2 (noise_std**2 / batch_size + E (u v - y)**2)`` per step. Beside the plane stand the mean of ``(u v - 1)**2``,
    which falls in the first steps to a floor, and the mean of ``|s|``, which falls ever after, with the line without the
    error; near the valley the error adds the fraction ``lr reg`` to the rate, to first order. The fit is shown slowly.

    All of it is JavaScript inside the returned HTML: it needs no kernel and asks for nothing from outside. A run is
    reproducible; each change of a setting but the speed starts it again, with the same noise.

    Args:
        lr: learning rate, > 0; beyond 1 / (u**2 + v**2) the cloud diverges, and the page says so.
        noise_std: standard deviation of the label noise, >= 0, in units of the label; 0 for no noise.
        batch_size: examples per step, each with its own noise, 1 to 1024.
        u: first parameter at the start, 0 to 3.
        v: second parameter at the start, 0 to 3.
        particles: independent runs in the cloud, 1 to 2000.
        seed: of the noise, 0 to 2**32 - 1.

    Returns:
        An object for the last line of a cell or for ``display``.

    Raises:
        TypeError: if an argument is no number, or no integer where one is needed.
        ValueError: if an argument is out of its range.

    Source: section 3.3 of the paper, whose cloud on a valley this is.

    >>> playground(lr=0.01, u=2, v=0.5)
    Playground(lr=0.01, noise_std=1.0, batch_size=1, u=2.0, v=0.5, particles=300, seed=0)
    """
    return Playground(
        as_positive("lr", lr),
        as_nonnegative("noise_std", noise_std),
        as_count("batch_size", batch_size, 1, MAX_BATCH),
        _as_place("u", u),
        _as_place("v", v),
        as_count("particles", particles, 1, MAX_PARTICLES),
        as_count("seed", seed, 0, 2**32 - 1),
    )


def _as_place(name: str, value: object) -> float:
    number = as_number(name, value)
    if not 0 <= number <= REACH:
        raise ValueError(f"{name} must lie between 0 and {REACH:g}, the plane that is drawn, got {number}")
    return number
