"""What the compiled SGD steps share: compiler settings, and activations that vectorise."""

import numba
import numpy as np

SETTINGS = {"cache": True, "nogil": True, "error_model": "numpy"}
# Sums may be reordered and multiply-adds fused, so loops vectorise; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz", "arcp"}

jit = numba.njit(fastmath=FAST, **SETTINGS)
# For a step inside its loop: no call, and what does not change from step to step is worked out once.
inlined = numba.njit(fastmath=FAST, forceinline=True, **SETTINGS)
exact = numba.njit(fastmath={"contract"}, **SETTINGS)

LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10


@exact
def exp_parts(x: float) -> tuple[float, float]:
    """The two parts of exp(x) = scale (1 + p), for -40 <= x <= 0.

    x = k ln 2 + r with |r| <= ln(2) / 2, scale = 2^k, and p = exp(r) - 1 by its Taylor series to order 13, whose
    remainder is below 2e-17 relative to p. No branch, no table: a loop over it vectorises.

    Returns:
        scale and p.
    """
    k = np.floor(x * LOG2_E + 0.5)
    r = x - k * LN2_HIGH - k * LN2_LOW
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 0.5
    p = p * r * r + r
    scale = np.int64((np.int64(np.int32(k)) + 1023) << 52).view(np.float64)
    return scale, p


@exact
def tanh(x: float) -> float:
    """Hyperbolic tangent, -m / (2 + m) with m = exp(-2|x|) - 1, within a few units in the last place; NaN stays NaN."""
    t = abs(x)
    t = 20.0 if t > 20.0 else t
    scale, p = exp_parts(-2.0 * t)
    m = (scale - 1.0) + scale * p
    return np.copysign(-m / (2.0 + m), x)


@exact
def logistic(x: float) -> float:
    """Logistic function, within a few units in the last place for |x| <= 40, 4e-18 off beyond; NaN stays NaN."""
    t = abs(x)
    t = 40.0 if t > 40.0 else t
    scale, p = exp_parts(-t)
    small = scale + scale * p
    return (small if x < 0 else 1.0) / (1.0 + small)
