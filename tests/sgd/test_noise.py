"""The random draws: their laws, and that a run reads each of them exactly once."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from cases import KINDS

import labelnoise_utils as ln
from labelnoise_utils.sgd import noise

# E Z^4 and E Z^8 for a standard deviation of 1.
FOURTH = {"rademacher": 1.0, "uniform": 9 / 5, "gaussian": 3.0}
EIGHTH = {"rademacher": 1.0, "uniform": 9.0, "gaussian": 105.0}


def whole_run(n, steps, **arguments):
    """All chunks of a run, joined."""
    indices, z = zip(*ln.sgd_draws(n, steps, **arguments), strict=True)
    return np.concatenate(indices), np.concatenate(z)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("std", [0.3, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_moments(kind, std, seed):
    n = 200_003
    z = ln.LabelNoise(std, kind).draw(np.random.default_rng(seed), (n,)) / std
    # Five standard errors of each mean; for Rademacher noise the last two have none.
    assert abs(z.mean()) < 5 / n**0.5
    assert abs((z**2).mean() - 1) <= 5 * ((FOURTH[kind] - 1) / n) ** 0.5 + 1e-12
    assert abs((z**4).mean() - FOURTH[kind]) <= (5 * ((EIGHTH[kind] - FOURTH[kind] ** 2) / n) ** 0.5 + 1e-12)


@pytest.mark.parametrize("std", [0.1, 1 / 3, 2.0])
def test_rademacher_is_plus_or_minus_std_to_the_last_bit(std):
    z = ln.LabelNoise(std).draw(np.random.default_rng(0), (1000,))
    assert set(z) == {std, -std}


def test_uniform_fills_its_interval():
    z = ln.LabelNoise(2.0, "uniform").draw(np.random.default_rng(0), (10_000,))
    bound = 3**0.5 * 2
    assert np.abs(z).max() <= bound
    assert z.max() > 0.99 * bound and z.min() < -0.99 * bound


@pytest.mark.parametrize("kind", KINDS)
def test_std_zero_is_silence(kind):
    assert not ln.LabelNoise(0.0, kind).draw(np.random.default_rng(0), (100,)).any()


@pytest.mark.parametrize("size", [(), (1,), (7,), (3, 5), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_shape_that_was_asked_for(kind, size):
    z = ln.LabelNoise(1.0, kind).draw(np.random.default_rng(0), size)
    assert (np.shape(z), np.asarray(z).dtype) == (size, np.float64)


@pytest.mark.parametrize("batch_size, outputs", [(1, ()), (3, ()), (5, (2,)), (None, (3,))])
@pytest.mark.parametrize("kind", KINDS)
def test_chunks_lose_and_repeat_nothing(monkeypatch, kind, batch_size, outputs):
    """The joined draws do not depend on where the chunks begin."""
    arguments = dict(noise=ln.LabelNoise(0.5, kind), batch_size=batch_size, outputs=outputs)
    arguments["seed"] = 7
    whole = whole_run(6, 1000, **arguments)
    monkeypatch.setattr(noise, "DRAWS_PER_CHUNK", 1)
    assert len(list(ln.sgd_draws(6, 1000, **arguments))) == 32  # chunks of 32 steps
    for one, other in zip(whole, whole_run(6, 1000, **arguments), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("batch_size, outputs", [(1, ()), (3, ()), (2, (5,))])
def test_rademacher_uses_every_bit_of_its_stream_once(monkeypatch, batch_size, outputs):
    monkeypatch.setattr(noise, "DRAWS_PER_CHUNK", 64)
    arguments = dict(noise=ln.LabelNoise(1.0), batch_size=batch_size, outputs=outputs, seed=3)
    _, z = whole_run(4, 960, **arguments)
    stream = np.random.default_rng(np.random.SeedSequence(3).spawn(2)[1])
    bits = np.unpackbits(np.frombuffer(stream.bytes(z.size // 8), np.uint8))
    np.testing.assert_array_equal(z.ravel() > 0, bits.astype(bool))


@pytest.mark.parametrize("seed", range(3))
def test_neighbouring_draws_are_uncorrelated(seed):
    """At every lag up to 64 bits and at the length of a chunk."""
    steps = 3 * noise.DRAWS_PER_CHUNK
    _, z = whole_run(1, steps, noise=ln.LabelNoise(1.0), seed=seed)
    z = z.ravel()
    for lag in [*range(1, 65), noise.DRAWS_PER_CHUNK]:
        products = z[lag:] * z[:-lag]
        assert abs(products.mean()) < 5 / products.size**0.5


@pytest.mark.parametrize("steps", [1, 31, 32, 65_536, 65_537])
def test_there_are_as_many_draws_as_steps(steps):
    indices, z = whole_run(5, steps, noise=ln.LabelNoise(1.0), batch_size=1)
    assert indices.shape == z.shape == (steps, 1)
    assert (indices.dtype, z.dtype) == (np.int32, np.float64)


@pytest.mark.parametrize("batch_size", [1, 4, None])
@pytest.mark.parametrize("kind", KINDS)
def test_short_run_is_the_beginning_of_a_long_one(kind, batch_size):
    arguments = dict(noise=ln.LabelNoise(1.0, kind), batch_size=batch_size, seed=5)
    long = whole_run(7, 70_000, **arguments)
    for steps in (1, 1000, 65_536, 66_000):
        for one, other in zip(whole_run(7, steps, **arguments), long, strict=True):
            np.testing.assert_array_equal(one, other[:steps])


def test_examples_do_not_depend_on_the_noise():
    laws = [None, *(ln.LabelNoise(std, kind) for kind in KINDS for std in (0.5, 1.0))]
    first, *others = [whole_run(9, 3000, noise=law, batch_size=2, seed=1)[0] for law in laws]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_noise_scales_with_std_and_nothing_else():
    for kind in KINDS:
        one, two = (whole_run(3, 500, noise=ln.LabelNoise(std, kind), seed=2)[1] for std in (1.0, 2.0))
        np.testing.assert_allclose(two, 2 * one, rtol=1e-15)


def test_seeds_differ():
    runs = [whole_run(1000, 100, noise=ln.LabelNoise(1.0, "gaussian"), seed=s) for s in range(4)]
    for one, other in itertools.combinations(runs, 2):
        assert not np.array_equal(one[0], other[0])
        assert not np.array_equal(one[1], other[1])


@pytest.mark.parametrize("seed", range(3))
def test_examples_are_uniform_and_with_replacement(seed):
    n, steps, batch_size = 12, 50_000, 3
    indices, _ = whole_run(n, steps, batch_size=batch_size, seed=seed)
    draws = steps * batch_size
    counts = np.bincount(indices.ravel(), minlength=n)
    assert np.abs(counts - draws / n).max() < 5 * (draws / n) ** 0.5
    # The same example twice in a batch: 1 - (11/12)(10/12) of all batches.
    twice = np.mean([len(set(batch)) < batch_size for batch in indices])
    expected = 1 - (11 / 12) * (10 / 12)
    assert abs(twice - expected) < 5 * (expected / steps) ** 0.5


def test_examples_and_noise_are_independent():
    indices, z = whole_run(2, 200_000, noise=ln.LabelNoise(1.0), seed=0)
    assert abs(((2 * indices - 1) * z).mean()) < 5 / 200_000**0.5


def test_full_batch_reads_all_examples_in_order_each_with_its_own_noise():
    noise_law = ln.LabelNoise(1.0, "gaussian")
    indices, z = whole_run(5, 40, noise=noise_law, batch_size=None, outputs=(2,))
    np.testing.assert_array_equal(indices, np.tile(np.arange(5), (40, 1)))
    assert z.shape == (40, 5, 2)
    assert np.unique(z).size == z.size


def test_without_noise_the_noise_is_zero():
    assert not whole_run(5, 100, batch_size=2)[1].any()


def test_a_chunk_stays_small():
    """The memory of a run of any length is that of one chunk."""
    chunk, _ = next(ln.sgd_draws(12, 10**10, noise=ln.LabelNoise(1.0)))
    assert chunk.size == noise.DRAWS_PER_CHUNK
    chunk, _ = next(ln.sgd_draws(10_000, 10**10, batch_size=None))
    assert len(chunk) == 32


@pytest.mark.parametrize(
    "std, error, message",
    [
        (-0.5, ValueError, "std must be at least 0, got -0.5"),
        (float("nan"), ValueError, "std must be finite, got nan"),
        (float("inf"), ValueError, "std must be finite, got inf"),
        ("a", TypeError, "std must be a number, got 'a'"),
        (None, TypeError, "std must be a number, got None"),
        (True, TypeError, "std must be a number, got True"),
    ],
)
def test_std_out_of_range(std, error, message):
    with pytest.raises(error, match=message):
        ln.LabelNoise(std)


@pytest.mark.parametrize("kind", ["laplace", "", None, "Gaussian"])
def test_unknown_kind(kind):
    message = f"kind must be one of rademacher, uniform, gaussian, got {kind!r}"
    with pytest.raises(ValueError, match=message):
        ln.LabelNoise(1.0, kind)


def test_law_cannot_be_changed_behind_a_run():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ln.LabelNoise(1.0).std = 2.0


@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(n=0), ValueError, "n must be at least 1, got 0"),
        (dict(steps=-5), ValueError, "steps must be at least 0, got -5"),
        (dict(batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
        (dict(seed=None), TypeError, "seed must be an integer, got None"),
        (dict(noise=0.5), TypeError, "noise must be a LabelNoise, .*, got 0.5; a standard deviation s is written LabelNoise"),
        (dict(noise=ln.LabelFlip(0.5, 2)), TypeError, "LabelFlip is for a loop of one's own"),
        (dict(outputs=2), TypeError, r"outputs must be a shape, as \(2,\), got 2"),
    ],
)
def test_draws_that_cannot_be(changes, error, message):
    with pytest.raises(error, match=message):
        ln.sgd_draws(**(dict(n=3, steps=4) | changes))


@pytest.mark.parametrize("std", [np.uint8(200), np.int8(100), np.float16(0.25), Fraction(1, 3), np.float64(1e308)])
@pytest.mark.parametrize("kind", KINDS)
def test_std_of_any_type_of_number_is_that_number(std, kind):
    y, seed = torch.zeros(50, dtype=torch.float64), torch.Generator
    noise, expected = ln.LabelNoise(std, kind), ln.LabelNoise(float(std), kind)
    assert noise == expected and repr(noise) == repr(expected)
    drawn = noise(y, seed().manual_seed(1))
    assert torch.equal(drawn, expected(y, seed().manual_seed(1)))
    assert kind != "rademacher" or torch.equal(drawn.abs(), torch.full_like(y, float(std)))


@pytest.mark.parametrize("p", [Fraction(1, 4), np.float16(0.25), np.float32(1e-30)])
def test_p_of_any_type_of_number_is_that_number(p):
    y, seed = torch.arange(100) % 4, torch.Generator
    drawn = ln.LabelFlip(p, 4)(y, seed().manual_seed(1))
    assert torch.equal(drawn, ln.LabelFlip(float(p), 4)(y, seed().manual_seed(1)))


def test_labels_that_flips_are_not_for():
    flip = ln.LabelFlip(0.5, 3)
    with pytest.raises(TypeError, match="got torch.float32; real labels get LabelNoise, and .* by y.long()"):
        flip(torch.zeros(2))
    with pytest.raises(ValueError, match="classes 0 to 2, got -100 to 1; leave out labels that do not count"):
        flip(torch.tensor([1, -100]))
