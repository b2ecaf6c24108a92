"""Numbers by a counter: the published sequence, their laws, and that nothing in them depends on where they are drawn."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from labelnoise_utils.models.counter import KINDS, bits, key_of, minus_log, numbers

FOURTH = {"rademacher": 1.0, "uniform": 9 / 5, "gaussian": 3.0}
EIGHTH = {"rademacher": 1.0, "uniform": 9.0, "gaussian": 105.0}


def many(kind, seed=0, steps=400, count=1000):
    """Numbers of a run, (steps, count)."""
    return np.stack([numbers(key_of(seed), step, kind, count) for step in range(steps)])


def test_bits_are_those_of_splitmix64():
    """Its first outputs from the state 1234567, as they are published; and all of it by integers of Python."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert [int(bits(np.uint64(1234567), np.uint64(i))) for i in range(5)] == published

    def by_hand(key, i, mask=2**64 - 1):
        z = (key + (i + 1) * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    rng = np.random.default_rng(0)
    for key, i in rng.integers(2**64, size=(100, 2), dtype=np.uint64):
        assert int(bits(key, i)) == by_hand(int(key), int(i))


def test_logarithm():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(2**-52, 1, 5000), 2.0 ** -rng.uniform(0, 52, 5000), 1 - 2.0 ** -np.arange(1, 53), [1.0]])
    found, expected = np.array([minus_log(each) for each in x]), -np.log(x)
    assert (np.abs(found - expected) <= 2 * np.spacing(np.abs(expected))).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_moments(kind, seed):
    z = many(kind, seed).ravel()
    # Five standard errors of each mean; for Rademacher numbers the last two have none.
    assert abs(z.mean()) < 5 / z.size**0.5
    assert abs((z**2).mean() - 1) <= 5 * ((FOURTH[kind] - 1) / z.size) ** 0.5 + 1e-12
    assert abs((z**4).mean() - FOURTH[kind]) <= 5 * ((EIGHTH[kind] - FOURTH[kind] ** 2) / z.size) ** 0.5 + 1e-12
    assert abs((z**3).mean()) < 5 * (15 / z.size) ** 0.5


@pytest.mark.parametrize("seed", range(3))
def test_distribution(seed):
    assert stats.kstest(many("gaussian", seed).ravel(), "norm").pvalue > 1e-3
    width = 2 * math.sqrt(3)
    assert stats.kstest(many("uniform", seed).ravel(), "uniform", (-width / 2, width)).pvalue > 1e-3
    assert set(np.unique(many("rademacher", seed))) == {-1.0, 1.0}


def test_tails_of_the_gaussian():
    """As many beyond 3, 4 and 5 as there should be, on each side."""
    z = np.concatenate([many("gaussian", seed, steps=1000, count=2000).ravel() for seed in range(5)])
    for bound in (3, 4, 5):
        expected = stats.norm.sf(bound) * z.size
        for count in ((z > bound).sum(), (z < -bound).sum()):
            assert abs(count - expected) < 5 * expected**0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [7, 64])
def test_numbers_are_independent_of_their_neighbours(kind, count):
    """Of one step and of the next one, themselves and their squares: the two of a Gaussian pair are among them."""
    z = many(kind, 1, steps=20_000, count=count)
    assert np.unique(z).size == (2 if kind == "rademacher" else z.size)
    powers = [z] if kind == "rademacher" else [z, (z**2 - 1) / (FOURTH[kind] - 1) ** 0.5]
    bound = 6 / len(z) ** 0.5  # of thousands of correlations
    for one, other in itertools.product(powers, powers):
        together = one.T @ other / len(z)
        np.fill_diagonal(together, 0)
        assert np.abs(together).max() < bound
        assert np.abs(one[1:].T @ other[:-1] / len(z)).max() < bound


def test_directions_of_gaussian_pairs_are_uniform():
    z = many("gaussian", 2, steps=200, count=1000)
    angles = np.arctan2(z[:, :500], z[:, 500:]).ravel()
    assert stats.kstest(angles, "uniform", (-math.pi, 2 * math.pi)).pvalue > 1e-3


def test_seeds_have_streams_of_their_own():
    assert len({key_of(seed) for seed in range(1000)}) == 1000
    one, other = (many("gaussian", seed).ravel() for seed in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 5 / one.size**0.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [0, 1, 10**10])
def test_a_step_has_its_numbers_whatever_was_drawn_before(kind, step):
    np.testing.assert_array_equal(numbers(key_of(3), step, kind, 11), numbers(key_of(3), step, kind, 11))
    assert numbers(key_of(3), step, kind, 11).shape == (11,)
