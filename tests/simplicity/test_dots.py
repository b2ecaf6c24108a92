"""Whether connecting the dots is optimal for all labels: by the criterion, by its definition, and by the programme."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import torch
from interpolants import price

import labelnoise_utils as ln

SEEN = 1e-9  # by how much, relatively, a kink must be cheaper than the dots to count


def excess(x):
    """The largest chord over price less 1, by its definition: a fine grid in each inner gap, polished."""
    worst = -1.0
    points = np.unique(x)
    for left, right in itertools.pairwise(points[1:-1]):
        ends = price(x, left), price(x, right)

        def under(t, ends=ends, left=left, right=right):
            return 1 - ((1 - t) * ends[0] + t * ends[1]) / price(x, (1 - t) * left + t * right)

        grid = np.linspace(0.001, 0.999, 41)
        best = grid[np.argmin([under(t) for t in grid])]
        bounds = max(best - 0.03, 1e-9), min(best + 0.03, 1 - 1e-9)
        worst = max(worst, -scipy.optimize.minimize_scalar(under, bounds=bounds, options={"xatol": 1e-9}).fun)
    return worst


def gain(x, rng):
    """By how much the programme undercuts the dots, in units of their bends, on random labels that bend one way."""
    points = np.unique(x)
    jumps = rng.uniform(0.3, 1, len(points) - 2)
    y = np.maximum(x[:, None] - points[1:-1], 0) @ jumps
    bends = sum(price(x, k) * jump for k, jump in zip(points[1:-1], jumps, strict=True))
    f = ln.minimal_interpolant(torch.from_numpy(x), torch.from_numpy(y))
    return (np.mean(1 + x**2) + bends - f.reg) / bends


def inputs(rng, number):
    """Random places, even spacing anywhere, a crowd with far points, points more than once."""
    n = rng.integers(4, 7)
    kind = (0, 1, 3, 0, 1, 3, 0, 1, 3, 2)[number % 10]
    if kind == 0:
        return rng.normal(size=n) * 10 ** rng.uniform(-1, 1)
    if kind == 1:
        return np.linspace(*np.sort(rng.uniform(-20, 20, 2)), n)
    if kind == 2:
        crowd = np.sort(rng.uniform(0, 10 ** rng.uniform(-3, 0), n))
        return np.concatenate([[-(10 ** rng.uniform(0, 2)), -1], crowd, [crowd[-1] + 10 ** rng.uniform(-2, 1)]])
    return np.repeat(3 * rng.normal(size=n), rng.integers(1, 40, n))


def almost(rng, number):
    """A data set within some 1e-7 of equality: half-way, again and again, between one that passes and one that does not."""
    while True:
        good = np.linspace(-1, 1, 7)
        bad = np.array([-(10 ** rng.uniform(1, 2)), -1, *np.sort(rng.uniform(0, 0.02, 3)), 0.05 * rng.uniform(1, 4), 0.4])
        if not ln.dots_are_optimal(bad):
            break
    for _ in range(24):
        middle = (good + bad) / 2
        if ln.dots_are_optimal(middle):
            good = middle
        else:
            bad = middle
    return good if number % 2 else bad


def agreement(count, seed):
    """On how many data sets criterion and programme agree, and how many pass; the last twentieth is within 1e-6 of equality."""
    rng, optimal, saved = np.random.default_rng(seed), [], []
    near = count // 20
    for number in range(count):
        x = inputs(rng, number) if number < count - near else almost(rng, number)
        optimal.append(ln.dots_are_optimal(x))
        saved.append(gain(x, rng))
    optimal, saved = np.array(optimal), np.array(saved)
    # Near equality the gain of the programme is itself of that size.
    assert (np.abs(saved[-near:]) < 1e-6).all()
    return (optimal == (saved < 1e-11)).sum(), optimal.sum()


def test_agrees_with_the_programme():
    """Run once with 2000: all agreed. Fewer here, since each takes the programme some twenty milliseconds."""
    agree, optimal = agreement(240, seed=0)
    assert agree == 240
    assert 60 < optimal < 220


def test_agrees_with_its_definition():
    rng = np.random.default_rng(1)
    for number in range(40):
        x = inputs(rng, number)
        assert ln.dots_are_optimal(x) == (excess(x) <= SEEN), (number, x)


def test_equal_spacing_where_one_plus_x_squared_varies_by_at_most_four():
    rng = np.random.default_rng(2)
    for n in range(1, 60):
        assert ln.dots_are_optimal(np.linspace(-(3**0.5), 3**0.5, n))
        low = abs(rng.normal()) * 10
        high = (4 * (1 + low**2) - 1) ** 0.5
        assert ln.dots_are_optimal(np.linspace(low, high, n) * rng.choice([-1, 1]))
    assert not ln.dots_are_optimal(5.14 * np.arange(6) - 9.35)


def test_a_crowd_with_far_points_comes_near_the_factor_root_two():
    for crowd, far, saved in ((60, 0.05, 0.24), (150, 0.1, 0.257)):
        x = np.concatenate([[-20, -1], 1e-6 * np.arange(crowd), [far]])
        parts = np.linspace(0.98, 1, 400, endpoint=False)
        chords = (1 - parts) * price(x, -1) + parts * price(x, 0)
        ratios = np.array([price(x, t - 1) for t in parts]) / chords
        best = parts[ratios.argmin()]
        f = ln.minimal_interpolant(x, np.maximum(x + 1 - best, 0))
        bends = f.reg - np.mean(1 + x**2)
        assert not ln.dots_are_optimal(x)
        assert bends / chords[ratios.argmin()] == pytest.approx(ratios.min(), rel=1e-6)
        assert 0.5**0.5 < ratios.min() < 1 - saved


def test_bends_of_the_dots_are_at_most_root_two_times_the_least():
    rng = np.random.default_rng(3)
    for number in range(30):
        assert gain(inputs(rng, number), rng) <= 1 - 0.5**0.5


def test_order_repetition_and_type():
    x = torch.tensor([2.0, -1.0, 0.0, 1.0])
    assert ln.dots_are_optimal(x) is True
    assert ln.dots_are_optimal(torch.cat([x, x]).numpy()) is True
    assert ln.dots_are_optimal(torch.arange(5)) is True
    bad = 5.14 * torch.arange(6) - 9.35
    assert ln.dots_are_optimal(bad.flip(0)) is ln.dots_are_optimal(bad.double()) is False


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        ([0.0, 1.0], TypeError, "x must be a torch.Tensor"),
        (torch.zeros(2, 2), ValueError, r"shape \(n,\)"),
        (torch.zeros(0), ValueError, "at least one point"),
        (torch.tensor([0.0, float("nan")]), ValueError, "finite"),
    ],
)
def test_refuses(x, error, words):
    with pytest.raises(error, match=words):
        ln.dots_are_optimal(x)
