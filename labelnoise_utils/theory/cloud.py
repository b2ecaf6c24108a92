"""The Ornstein-Uhlenbeck law of label-noise SGD at a zero-error point: how wide the cloud is, and how fast it gets there."""

import math

from ..arguments import as_integer, as_nonnegative, as_number, as_positive


def stationary_variance(lr: float, noise_std: float, batch_size: int = 1) -> float:
    """Variance of one parameter under label-noise SGD at a zero-error point.

    Along a direction with gamma > 0 the update is, to first order, ``theta <- (1 - 2 lr gamma) theta + 2 lr sqrt(gamma) xi``
    with ``Var xi = noise_std^2 / batch_size``. The variance that such a step leaves unchanged solves
    ``v = (1 - 4 lr gamma) v + 4 lr^2 gamma noise_std^2 / batch_size``, up to ``4 lr^2 gamma^2 v``: gamma cancels, and the
    cloud is round although the noise is not.

    Args:
        lr: learning rate, > 0.
        noise_std: standard deviation of the label noise, in units of the label, >= 0.
        batch_size: examples per step, each with its own noise.

    Returns:
        ``lr * noise_std^2 / batch_size``, in squared units of the parameter.

    Raises:
        TypeError: if an argument is no number.
        ValueError: if ``lr`` is not positive, ``noise_std`` negative or ``batch_size`` below 1.

    Source: equation (11) and Lemma 7.

    >>> stationary_variance(lr=0.01, noise_std=0.5)
    0.0025
    """
    lr, noise_std, batch_size = settings(lr, noise_std, batch_size)
    return lr * noise_std**2 / batch_size


def settings(lr: float, noise_std: float, batch_size: int) -> tuple[float, float, int]:
    """The settings of label-noise SGD, checked as numbers."""
    return as_positive("lr", lr), as_nonnegative("noise_std", noise_std), as_integer("batch_size", batch_size, 1)


def as_steps(steps: object) -> float:
    """A number of steps, infinity too, as a float: some 10^308 are for ever."""
    if isinstance(steps, float) and steps == math.inf:
        return steps
    return float(min(as_integer("steps", steps, 0), 10**308))


def ornstein_uhlenbeck(
    gamma: float,
    *,
    lr: float,
    noise_std: float,
    steps: int | float = math.inf,
    batch_size: int = 1,
    mean: float = 0.0,
    variance: float = 0.0,
) -> tuple[float, float]:
    """Mean and variance of the Ornstein-Uhlenbeck recursion after some steps, exactly.

    ``theta <- q theta + 2 lr sqrt(gamma) xi`` with ``q = 1 - 2 lr gamma`` and ``Var xi = noise_std^2 / batch_size`` has

    ``mean_t = q^t mean_0``,  ``var_t = q^2t var_0 + (1 - q^2t) lr noise_std^2 / (batch_size (1 - lr gamma))``.

    Args:
        gamma: curvature in the direction, >= 0. At 0 nothing moves.
        lr: learning rate, > 0, below ``1 / gamma``.
        noise_std: standard deviation of the label noise, >= 0.
        steps: how many, >= 0; infinity for the stationary law.
        batch_size: examples per step, each with its own noise.
        mean: at the start.
        variance: at the start, >= 0.

    Returns:
        Mean and variance.

    Raises:
        TypeError: if an argument is no number.
        ValueError: if one is out of range.

    That the choice of the example is random too adds to the variance, by a part of order ``lr reg`` of it; for one example
    there is no choice, and the law is that of SGD on a linear model. :func:`ornstein_uhlenbeck_cloud` is the law of all
    directions at once, for noise that differs from label to label too.

    Source: section 3.2 and equation (11), with the term of order lr^2 gamma^2 that (11) leaves to its remainder.

    >>> ornstein_uhlenbeck(1.0, lr=0.01, noise_std=1.0, steps=0, mean=3.0)
    (3.0, 0.0)
    """
    lr, noise_std, batch_size = settings(lr, noise_std, batch_size)
    gamma, mean, variance = as_number("gamma", gamma), as_number("mean", mean), as_nonnegative("variance", variance)
    steps = as_steps(steps)
    if gamma < 0 or lr * gamma >= 1:
        raise ValueError(f"gamma must be in [0, 1 / lr), got {gamma:g} for lr {lr:g}")
    if gamma == 0:
        return mean, variance
    q = 1 - 2 * lr * gamma
    # 1 - q^2t, without the cancellation where q^2t is close to 1.
    reached = -math.expm1(2 * steps * math.log1p(-2 * lr * gamma)) if q > 0 else 1 - q ** (2 * steps)
    stationary = lr * noise_std**2 / batch_size / (1 - lr * gamma)
    return q**steps * mean, q ** (2 * steps) * variance + reached * stationary
