"""Random signs: where they come from, how many are drawn, and what the draws say."""

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch

from ..arguments import as_integer, as_positive

# Fewer draws can agree by chance, and their spread then says nothing.
LEAST_DRAWS = 16


class Estimate(NamedTuple):
    """What the estimates by random signs return.

    Attributes:
        value: the unbiased estimate, differentiable: a scalar tensor, or (n,) for n examples.
        standard_error: the standard deviation of ``value`` over signs, as the draws tell it, of the same shape. One draw does
            not tell it: then it is NaN.
    """

    value: torch.Tensor
    standard_error: torch.Tensor


def estimate_of(draws: torch.Tensor) -> Estimate:
    """The mean of independent draws (draws, ...), and its standard error."""
    if len(draws) == 1:
        return Estimate(draws.squeeze(0), torch.full_like(draws.detach()[0], math.nan))
    return Estimate(draws.mean(dim=0), draws.detach().std(dim=0) / len(draws) ** 0.5)


@dataclasses.dataclass(frozen=True)
class Draws:
    """How many draws are made.

    Attributes:
        draws: at least.
        tolerance: standard error over value at which to stop; None for no more than ``draws``.
        max_draws: at most.

    Raises:
        TypeError: if one is no number of its kind.
        ValueError: if draws is below 1, tolerance not positive, or max_draws, where it counts, below draws or 16.
    """

    draws: int
    tolerance: float | None
    max_draws: int

    def __post_init__(self) -> None:
        as_integer("draws", self.draws, 1)
        if self.tolerance is not None:
            as_positive("tolerance", self.tolerance)
            as_integer("max_draws", self.max_draws, max(self.draws, LEAST_DRAWS))

    def made_by(self, draw: Callable[[int], torch.Tensor]) -> torch.Tensor:
        """All draws.

        Args:
            draw: for a number k of draws (k,), the estimates of reg, or (k, terms) whose sums they are.

        Returns:
            (draws,) or (draws, terms). If the tolerance is not met there is a ``UserWarning``.
        """
        if self.tolerance is None:
            return draw(self.draws)
        made = draw(max(self.draws, LEAST_DRAWS))
        while (missing := self._missing(made)) > 0:
            made = torch.cat([made, draw(missing)])
        value, standard_error = (of.item() for of in estimate_of(made.detach().reshape(len(made), -1).sum(dim=1)))
        if not standard_error <= self.tolerance * value:
            warnings.warn(
                f"after {len(made)} draws the standard error of the estimate {value:.6g} is {standard_error:.2g}, above"
                f" tolerance={self.tolerance:g} times it: raise max_draws, or take smaller chunks",
                stacklevel=4,
            )
        return made

    def _missing(self, made: torch.Tensor) -> int:
        """As many more as the tolerance seems to take, but no more than there are."""
        value, standard_error = (of.item() for of in estimate_of(made.detach().reshape(len(made), -1).sum(dim=1)))
        bound = self.tolerance * value
        if standard_error <= bound or not math.isfinite(standard_error):
            return 0
        wanted = (standard_error / bound) ** 2 * len(made) if bound else math.inf
        return min(math.ceil(min(wanted, 2 * len(made))), self.max_draws) - len(made)


def generator_of(seed: int | torch.Generator | None) -> torch.Generator:
    """The generator of the signs: a given one, one of a seed, or one that starts anywhere.

    Returns:
        On the processor unless it was given. Torch's global generator is never read.

    Raises:
        TypeError: if seed is none of these.
        ValueError: if it is below 0.
    """
    if isinstance(seed, torch.Generator):
        return seed
    generator = torch.Generator("cpu")
    if seed is None:
        generator.seed()
        return generator
    return generator.manual_seed(as_integer("seed", seed, 0))


def signs_like(h: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Independent signs in the shape, type and device of h."""
    return torch.randint(2, h.shape, generator=generator, device=generator.device).mul_(2).sub_(1).to(h)
