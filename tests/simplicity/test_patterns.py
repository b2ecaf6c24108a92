"""Every set of points that a hyperplane cuts off: against linear programmes, on points in and out of general position."""

import itertools

import numpy as np
import pytest
import scipy.optimize

from labelnoise_utils.simplicity.patterns import all_patterns, most_patterns, some_patterns, spanning, telling


def is_cut_off(x, active):
    """Whether w . x_j + b >= 1 on the set and <= 0 elsewhere for some (w, b): a hyperplane that no point of the set lies on."""
    lifted = np.column_stack([x, np.ones(len(x))])
    rows, limits = np.where(active[:, None], -lifted, lifted), np.where(active, -1.0, 0.0)
    found = scipy.optimize.linprog(np.zeros(lifted.shape[1]), rows, limits, bounds=(None, None), method="highs")
    return found.status == 0


def by_brute_force(x):
    sets = [np.array(one) for one in itertools.product([False, True], repeat=len(x)) if any(one)]
    return {one.tobytes() for one in sets if is_cut_off(x, one)}


def random(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


def on_a_grid(n, d, seed):
    cells = np.array(list(itertools.product(range(3), repeat=d)), float)
    return np.random.default_rng(seed).permutation(cells)[:n]


CUBE = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
POINTS = {
    "one point": np.array([[2.0, -1.0]]),
    "one point in ten dimensions": np.ones((1, 10)),
    "two points": np.array([[0.0, 0.0], [1.0, 3.0]]),
    "a line": random(7, 1, 0),
    "a plane": random(8, 2, 1),
    "nine in a plane": random(9, 2, 2),
    "space": random(8, 3, 3),
    "four dimensions": random(7, 4, 4),
    "more dimensions than points": random(5, 7, 5),
    "a grid": on_a_grid(9, 2, 6),
    "seven of a grid": on_a_grid(7, 2, 7),
    "a grid in space": on_a_grid(8, 3, 8),
    "a line in a plane": np.arange(7.0)[:, None] * [1.0, 2.0] + [3.0, 0.1],
    "tenths on a line": 0.1 * np.arange(7.0)[:, None] * [1.0, 1.0],
    "a plane in space": random(7, 2, 9) @ np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]),
    "three lines through a point": np.array([[0, 0], [1, 0], [2, 0], [0, 1], [0, 2], [1, 1], [2, 2]], float),
    "repeated coordinates": np.column_stack([[0.0, 0, 0, 1, 1, 1, 2, 2], random(8, 1, 10)]),
    "a coordinate that is always 0": np.column_stack([random(6, 1, 11), np.zeros(6), random(6, 1, 12)]),
    "corners of a square": CUBE[::2, :2],
    "corners of a cube": CUBE,
    "a cube and its middle": np.vstack([CUBE, np.full((1, 3), 0.5)]),
    "one-hot": np.eye(6),
    "twelve degrees of a circle": np.column_stack([np.cos(k := np.arange(8) * np.pi / 4), np.sin(k)]),
}


@pytest.mark.parametrize("x", POINTS.values(), ids=POINTS)
def test_against_linear_programmes(x):
    found = all_patterns(x)
    assert found.complete and found.number == len(x)
    assert list(found.bits) == sorted(set(found.bits))
    assert {one.tobytes() for one in found.active} == by_brute_force(x)
    assert len(found.bits) <= most_patterns(*x.shape)


@pytest.mark.parametrize("n, count", [(12, 133), (16, 241), (20, 381), (30, 871)])
def test_counts_in_a_plane(n, count):
    assert most_patterns(n, 2) == count
    assert len(all_patterns(random(n, 2, n)).bits) == count


@pytest.mark.parametrize("n, d", [(1, 1), (6, 1), (9, 3), (14, 3), (9, 4), (4, 9)])
def test_general_position_has_the_most(n, d):
    assert len(all_patterns(random(n, d, 10 * n + d)).bits) == most_patterns(n, d)


def turned(x, angle):
    return x @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


@pytest.mark.parametrize("angle", [0.3, 1.1, 2.0])
@pytest.mark.parametrize("offset", [0.0, 100.0, -1e6])
def test_rounding_parts_no_points(angle, offset):
    """Of a grid that is turned and far from 0 most lines are bent by a rounding."""
    x = on_a_grid(9, 2, 6)
    assert all_patterns(turned(x, angle) + offset).bits == all_patterns(x).bits


@pytest.mark.parametrize("off", [1e-11, 1e-6])
def test_what_is_more_than_rounding_does_part_them(off):
    line = np.array([[0.1, 0.3], [0.2, 0.6], [0.4, 1.2]])
    assert len(all_patterns(line).bits) == 6 - 1
    line[1, 0] += off
    assert len(all_patterns(line).bits) == 2**3 - 1


@pytest.mark.parametrize("factor", [2.0**-500, 2.0**-60, 2.0**60, 2.0**330])
def test_scale_does_not_matter(factor):
    for x in (on_a_grid(8, 2, 13), random(7, 4, 14)):
        assert all_patterns(factor * x).bits == all_patterns(x).bits


@pytest.mark.parametrize(
    "x", [POINTS["a plane"], POINTS["a grid"], POINTS["corners of a cube"]], ids=["a plane", "a grid", "a cube"]
)
def test_walls_bound_the_cone(x):
    """The other points' inequalities follow from those of the walls; without a wall one does not."""
    found = all_patterns(x)
    lifted = np.column_stack([x, np.ones(len(x))])
    for active, walls in zip(found.active, found.walls, strict=True):
        rows = np.where(active[:, None], lifted, -lifted)
        for j in range(len(x)):
            others = [i for i in walls if i != j]
            least = scipy.optimize.linprog(
                rows[j], -rows[others] if others else None, np.zeros(len(others)) if others else None, bounds=(-1, 1)
            ).fun
            assert (least < -1e-9) == (j in walls)


class TestSomePatterns:
    def test_the_empty_one_does_not_count_and_none_counts_twice(self):
        active = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 0]], bool)
        found = some_patterns(3, active)
        assert not found.complete and found.bits == (1, 3)
        assert found.active.tolist() == [[True, False, False], [True, True, False]]
        assert [wall.tolist() for wall in found.walls] == [[0, 1, 2]] * 2

    @pytest.mark.parametrize("n", [7, 8, 9, 17])
    def test_bits_and_table_agree(self, n):
        active = np.random.default_rng(n).random((20, n)) < 0.5
        found = some_patterns(n, active)
        assert {one.tobytes() for one in found.active} == {one.tobytes() for one in active if one.any()}


@pytest.mark.parametrize("x", POINTS.values(), ids=POINTS)
def test_some_coordinates_tell_all(x):
    told = telling(x)
    assert len(told) == np.linalg.matrix_rank(x - x[0], tol=1e-9)
    known = np.column_stack([x[:, told], np.ones(len(x))])
    assert np.linalg.matrix_rank(known) == len(told) + 1
    np.testing.assert_allclose(known @ np.linalg.lstsq(known, x, rcond=None)[0], x, atol=1e-12)


def test_points_that_a_rounding_alone_tells_apart():
    x = np.array([[1.0, 2.0], [1.0, np.nextafter(2.0, 3.0)]])
    assert len(telling(x)) == 2


def test_spanning_rows_are_far_from_dependent():
    rows = np.array([[1.0, 0.0, 0.0], [1.0, 1e-12, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert spanning(rows, 2).tolist() in ([0, 3], [1, 3])
