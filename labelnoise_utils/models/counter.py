"""Random numbers by a counter: number i of a stream is a function of a key and of i, so nothing has to be kept or skipped.

A step that needs p fresh numbers, such as one for each parameter, draws them where it is compiled, and the torch engine finds
the same ones. The bits at index i are output i of SplitMix64, ``mix(key + (i + 1) gamma)`` with an odd gamma: each number of 64
bits comes once before any comes again. Step t takes those from ``t m`` on, m being p, or p + 1 where p is odd.

Source: Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators"; Box and Muller (1958) for the Gaussian.
"""

import numpy as np

from .compiled import exact

KINDS = ("rademacher", "uniform", "gaussian")
RADEMACHER, UNIFORM, GAUSSIAN = range(3)

GAMMA = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
# With these bits over the last 52 of a number it is read as a float in [1, 2).
EXPONENT = np.uint64(0x3FF0000000000000)
MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
# The bits of sqrt(1/2): those of x less these begin with the k for which x / 2^k lies in [sqrt(1/2), sqrt(2)).
ROOT_HALF = np.uint64(0x3FE6A09E667F3BCD)
# With these bits in front an integer below 2^52 is read as a float that is 2^52 larger.
AS_INTEGER = np.uint64(0x4330000000000000)
LN2_HIGH, LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
QUARTER_PI = np.pi / 4


def key_of(seed: int) -> int:
    """The key of a run's numbers: of the third of the streams that its seed has, after those of the examples and of the labels.

    Args:
        seed: >= 0.

    Returns:
        64 bits.
    """
    return int(np.random.SeedSequence(seed).spawn(3)[2].generate_state(1, np.uint64)[0])


def numbers(key: int, step: int, kind: str, count: int) -> np.ndarray:
    """The numbers of one step, as the compiled steps have them.

    Args:
        key: of the run.
        step: how many steps were made before.
        kind: "rademacher", "uniform" or "gaussian".
        count: of numbers, p.

    Returns:
        (p,) float64, independent, with mean 0 and variance 1.
    """
    room = np.empty(count + count % 2)
    fill(room, np.uint64(key), step, KINDS.index(kind))
    return room[:count]


@exact
def bits(key, i):
    """Output i of SplitMix64, 64 bits."""
    z = key + (i + np.uint64(1)) * GAMMA
    z = (z ^ (z >> np.uint64(30))) * FIRST
    z = (z ^ (z >> np.uint64(27))) * SECOND
    return z ^ (z >> np.uint64(31))


@exact
def as_float(octets):
    """The float that has these 64 bits."""
    return np.uint64(octets).view(np.float64)


@exact
def minus_log(x):
    """Minus the natural logarithm of a normal x > 0, within a few units in the last place.

    x = 2^k m with m between sqrt(1/2) and sqrt(2), and log m = 2 artanh(s) with s = (m - 1) / (m + 1), by 11 terms of its
    series. No branch and no table, so a loop over it vectorises.

    Returns:
        -log(x).
    """
    octets = np.float64(x).view(np.uint64)
    # k + 1023, since a negative integer has no float by this way.
    halved = octets - ROOT_HALF + (np.uint64(1023) << np.uint64(52))
    k = as_float(halved >> np.uint64(52) | AS_INTEGER) - 4503599627370496.0 - 1023.0
    m = as_float((halved & MANTISSA) + ROOT_HALF)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    series = q * (1 / 17 + q * (1 / 19 + q * (1 / 21)))
    series = q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15 + series))))
    series = q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + series)))
    return -(k * LN2_HIGH + (2.0 * s + (2.0 * s * series + k * LN2_LOW)))


@exact
def fill(out, key, step, kind):
    """Fill ``out``, whose size is even, with the numbers of a step: independent, of mean 0 and variance 1."""
    size = out.size
    start = np.uint64(step) * np.uint64(size)
    if kind == GAUSSIAN:
        # From two of 52 bits: the radius is sqrt(-2 log u), which is at most 8.5, the angle uniform.
        half = size // 2
        for j in range(half):
            i = start + np.uint64(j)
            u = 2.0 - as_float(bits(key, i) >> np.uint64(12) | EXPONENT)
            other = bits(key, i + np.uint64(half))
            radius = np.sqrt(2.0 * minus_log(u))
            # An angle in a quarter of the circle, |a| <= pi / 4; two further bits turn the quarter.
            a = (as_float(other >> np.uint64(12) | EXPONENT) - 1.5) * (2 * QUARTER_PI)
            q = a * a
            sine = q * (1 / 6227020800 - q * (1 / 1307674368000))
            sine = a * (1.0 - q * (1 / 6 - q * (1 / 120 - q * (1 / 5040 - q * (1 / 362880 - q * (1 / 39916800 - sine))))))
            cosine = q * (1 / 479001600 - q * (1 / 87178291200 - q * (1 / 20922789888000)))
            cosine = 1.0 - q * (1 / 2 - q * (1 / 24 - q * (1 / 720 - q * (1 / 40320 - q * (1 / 3628800 - cosine)))))
            cosine = cosine if other & np.uint64(1) else -cosine
            turned = (other & np.uint64(2)) != 0
            out[j] = radius * (sine if turned else cosine)
            out[half + j] = radius * (cosine if turned else sine)
    elif kind == UNIFORM:
        width = 2 * np.sqrt(3.0)
        for j in range(size):
            out[j] = (as_float(bits(key, start + np.uint64(j)) >> np.uint64(12) | EXPONENT) - 1.5) * width
    else:
        for j in range(size):
            out[j] = 1.0 if bits(key, start + np.uint64(j)) >> np.uint64(63) else -1.0
