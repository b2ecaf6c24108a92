"""Label noise that differs from label to label, or goes along from one to another."""

import pickle

import numpy as np
import pytest
import torch
from cases import CASES, ENGINES, KINDS, X, Y, assert_same_trajectory, quick
from refusals import refusals

import labelnoise_utils as ln
from labelnoise_utils.sgd import noise
from labelnoise_utils.sgd.words import words

EACH = np.linspace(0.0, 1.1, 12)
ACROSS = np.array([[1.0, 0.5, 0.2], [0.5, 2.0, -0.6], [0.2, -0.6, 0.5]])
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])


def whole_run(n, steps, **arguments):
    """All chunks of a run, joined."""
    indices, z = zip(*ln.sgd_draws(n, steps, **arguments), strict=True)
    return np.concatenate(indices), np.concatenate(z)


def in_full(n, k, seed=0):
    """A covariance (n, k, n, k)."""
    root = np.random.default_rng(seed).normal(size=(n * k, n * k)) / (n * k) ** 0.5
    return (root @ root.T).reshape(n, k, n, k)


def covariance_of(z, kind="gaussian"):
    """The second moments of rows, and a bound on what they may be off: six standard errors of a Gaussian's."""
    second = z.T @ z / len(z)
    variances = np.diag(second)
    return second, 6 * np.sqrt((np.outer(variances, variances) + second**2) / len(z)) + 1e-12


# A law, the shape of its labels, and what it is made of.
LAWS = {
    "a number each": (lambda kind: ln.LabelNoise(EACH[:3] + 0.1, kind), (3,)),
    "each of two outputs": (lambda kind: ln.LabelNoise(np.arange(6.0).reshape(3, 2), kind), (3, 2)),
    "each example of two outputs": (lambda kind: ln.LabelNoise(EACH[:3], kind), (3, 2)),
    "across examples": (lambda kind: ln.LabelNoise(None, kind, covariance=ACROSS), (3,)),
    "across examples, a column": (lambda kind: ln.LabelNoise(None, kind, covariance=ACROSS), (3, 1)),
    "across outputs": (lambda kind: ln.LabelNoise(None, kind, covariance=ACROSS), (4, 3)),
    "in full": (lambda kind: ln.LabelNoise(None, kind, covariance=in_full(3, 2)), (3, 2)),
}


def expected_covariance(law, shape):
    """Over all labels, one after the other."""
    n, k = shape[0], int(np.prod(shape[1:]))
    if law.covariance is None:
        std = law.std if law.std.shape == shape else np.repeat(law.std, k)
        return np.diag(std.reshape(-1) ** 2)
    if law.covariance.ndim == 4 or n == 3:
        return law.covariance.reshape(n * k, n * k)
    return np.kron(np.eye(n), law.covariance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LAWS)
class TestLaw:
    def test_covariance_over_the_full_batch(self, name, kind):
        build, shape = LAWS[name]
        law = build(kind)
        _, z = whole_run(shape[0], 60_000, noise=law, batch_size=None, outputs=shape[1:], seed=1)
        second, bound = covariance_of(z.reshape(len(z), -1))
        assert (np.abs(second - expected_covariance(law, shape)) < bound).all()
        assert (np.abs(z.mean(axis=0).reshape(-1)) <= 6 * (np.diag(second) / len(z)) ** 0.5).all()

    def test_each_label_has_its_variance_when_it_is_drawn(self, name, kind):
        build, shape = LAWS[name]
        law = build(kind)
        indices, z = whole_run(shape[0], 40_000, noise=law, batch_size=2, outputs=shape[1:], seed=2)
        variances = np.diag(expected_covariance(law, shape)).reshape(shape)
        for i in range(shape[0]):
            read = z[indices == i]
            # Six standard errors; E Z^4 is at most 3 (Var Z)^2 in all of these laws.
            assert (np.abs((read**2).mean(axis=0) - variances[i]) <= 6 * variances[i] * (2 / len(read)) ** 0.5 + 1e-12).all()

    def test_called_on_the_labels(self, name, kind):
        build, shape = LAWS[name]
        law, y, generator = build(kind), torch.zeros(shape, dtype=torch.float64), torch.Generator().manual_seed(0)
        z = torch.stack([law(y, generator) for _ in range(20_000)]).reshape(20_000, -1).numpy()
        second, bound = covariance_of(z)
        assert (np.abs(second - expected_covariance(law, shape)) < bound).all()
        assert law(y.float()).dtype == torch.float32

    def test_draw(self, name, kind):
        build, shape = LAWS[name]
        law, rng = build(kind), np.random.default_rng(0)
        ends = law.std.shape if law.covariance is None else law.covariance.shape[: law.covariance.ndim // 2]
        z = law.draw(rng, (50_000, *ends))
        assert z.shape == (50_000, *ends)
        second, bound = covariance_of(z.reshape(len(z), -1))
        expected = np.diag(law.std.ravel() ** 2) if law.covariance is None else law.covariance.reshape(second.shape)
        assert (np.abs(second - expected) < bound).all()
        with pytest.raises(ValueError, match=r"size must end in \("):
            law.draw(rng, (5, 77))

    def test_chunks_lose_and_repeat_nothing(self, monkeypatch, name, kind):
        build, shape = LAWS[name]
        arguments = dict(noise=build(kind), batch_size=2, outputs=shape[1:], seed=7)
        whole, short = (whole_run(shape[0], steps, **arguments) for steps in (1000, 100))
        monkeypatch.setattr(noise, "DRAWS_PER_CHUNK", 1)
        for one, two, other in zip(whole, short, whole_run(shape[0], 1000, **arguments), strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one[:100], two)


def test_equal_numbers_are_the_noise_that_has_one_number():
    """To the last bit for Rademacher noise."""
    one, each = (whole_run(12, 3000, noise=ln.LabelNoise(std), batch_size=3) for std in (0.3, np.full(12, 0.3)))
    np.testing.assert_array_equal(one[1], each[1])
    for kind in KINDS:
        one, each = (whole_run(12, 3000, noise=ln.LabelNoise(std, kind), batch_size=3) for std in (0.3, np.full(12, 0.3)))
        np.testing.assert_allclose(one[1], each[1], rtol=1e-15, atol=1e-15)


def test_a_label_that_is_read_twice_in_a_step_has_one_z_where_all_are_drawn_together():
    indices, z = whole_run(3, 200, noise=ln.LabelNoise(None, "gaussian", covariance=ACROSS), batch_size=4)
    for i, row in zip(indices, z, strict=True):
        assert len(set(row.tolist())) == len(set(i.tolist()))
    _, z = whole_run(3, 200, noise=ln.LabelNoise(torch.ones(3), "gaussian"), batch_size=4)
    assert np.unique(z).size == z.size


def test_a_singular_covariance_keeps_its_direction():
    _, z = whole_run(2, 500, noise=ln.LabelNoise(None, covariance=SINGULAR), batch_size=None)
    np.testing.assert_allclose(z[:, 1], 2 * z[:, 0], atol=1e-12)
    assert z[:, 0].std() > 0.5


@pytest.mark.parametrize("batch_size", [1, 4, None])
@pytest.mark.parametrize(
    "law",
    [
        ln.LabelNoise(np.linspace(0.1, 0.9, 7), "gaussian"),
        ln.LabelNoise(torch.linspace(0.1, 0.9, 14).reshape(7, 2)),
        ln.LabelNoise(None, covariance=ACROSS[:2, :2]),
        ln.LabelNoise(None, "uniform", covariance=in_full(7, 2)),
    ],
    ids=["examples", "outputs", "across outputs", "in full"],
)
def test_engines_agree(law, batch_size):
    build, x, y, lr = CASES["outputs"]
    one, other = (quick(build(), x, y, lr=lr, steps=1000, noise=law, batch_size=batch_size, engine=e) for e in ENGINES)
    np.testing.assert_allclose(one.theta, other.theta, rtol=0, atol=1e-10)
    assert np.abs(one.theta[-1] - one.theta[0]).max() > 1e-2


def test_a_label_without_noise_reads_itself():
    """A run under noise on one label alone is the run by hand."""
    law = ln.LabelNoise(np.where(np.arange(12) == 4, 0.7, 0.0))
    indices, z = whole_run(12, 200, noise=law, seed=3)
    assert (z[indices != 4] == 0).all() and (np.abs(z[indices == 4]) == 0.7).all()


class TestIdentity:
    SAME = [
        (ln.LabelNoise(EACH), ln.LabelNoise(torch.from_numpy(EACH))),
        (ln.LabelNoise(1), ln.LabelNoise(1.0)),
        (ln.LabelNoise(np.array(2.0)), ln.LabelNoise(2.0)),
        (ln.LabelNoise(None, covariance=ACROSS), ln.LabelNoise(None, covariance=torch.from_numpy(ACROSS))),
    ]
    OTHERS = [
        ln.LabelNoise(1.0),
        ln.LabelNoise(EACH),
        ln.LabelNoise(EACH + 1e-15),
        ln.LabelNoise(EACH, "gaussian"),
        ln.LabelNoise(EACH[:, None]),
        ln.LabelNoise(None, covariance=ACROSS),
        ln.LabelNoise(None, covariance=2 * ACROSS),
        ln.TwoCopies(1.0),
        ln.FrozenNoise(1.0),
        ln.FrozenNoise(EACH),
    ]

    @pytest.mark.parametrize("one, other", SAME)
    def test_of_the_same(self, one, other):
        assert one == other and hash(one) == hash(other) and words(one) == words(other)

    def test_of_others(self):
        assert len(set(self.OTHERS)) == len(self.OTHERS) == len({words(law) for law in self.OTHERS})
        assert ln.LabelNoise(1.0) != 1.0

    @pytest.mark.parametrize("law", OTHERS, ids=repr)
    def test_travels(self, law):
        there = pickle.loads(pickle.dumps(law))
        assert there == law and words(there) == words(law)
        for value in vars(there).values():
            assert not isinstance(value, np.ndarray) or not value.flags.writeable
        if isinstance(law, ln.LabelNoise) and law.covariance is not None:
            np.testing.assert_array_equal(
                there.draw(np.random.default_rng(0), (5, 3)), law.draw(np.random.default_rng(0), (5, 3))
            )

    def test_prints_shortly(self):
        assert repr(ln.LabelNoise(0.5)) == "LabelNoise(std=0.5, kind='rademacher')"
        assert repr(ln.LabelNoise(EACH)) == "LabelNoise(std=<12 numbers from 0 to 1.1>, kind='rademacher')"
        expected = "LabelNoise(std=None, kind='rademacher', covariance=<3 x 3 numbers from -0.6 to 2>)"
        assert repr(ln.LabelNoise(None, covariance=ACROSS)) == expected

    def test_does_not_change_with_what_it_was_made_from(self):
        std = EACH.copy()
        law = ln.LabelNoise(std)
        std[:] = 0
        np.testing.assert_array_equal(law.std, EACH)
        with pytest.raises(ValueError, match="read-only"):
            law.std[0] = 1


def test_a_checkpoint_knows_its_noise(tmp_path):
    path = tmp_path / "run"
    run = quick(ln.TwoLayerReLU(5), noise=ln.LabelNoise(EACH), checkpoint=path)
    assert_same_trajectory(quick(ln.TwoLayerReLU(5), noise=ln.LabelNoise(EACH), checkpoint=path), run)
    with pytest.raises(ValueError, match="noise was LabelNoise.*12 numbers.*, and is LabelNoise"):
        quick(ln.TwoLayerReLU(5), noise=ln.LabelNoise(EACH + 1e-9), checkpoint=path)


def made(**arguments):
    return lambda: ln.LabelNoise(**dict(std=None) | arguments)


def trained(law, x=X, y=Y, model=None, **arguments):
    return lambda: quick(model or ln.TwoLayerReLU(5), x, y, noise=law, **arguments)


BUILD, IN, OUT, _ = CASES["outputs"]
NAN = np.where(np.arange(3) == 1, np.nan, 1.0)
test_bad_input_is_named = refusals(
    {
        "negative": (made(std=np.array([1.0, -2.0])), ValueError, r"std must be at least 0, got -2 at index \(1,\)"),
        "NaN": (made(std=NAN), ValueError, r"std must be finite, got nan at index \(1,\)"),
        "empty": (made(std=np.empty(0)), ValueError, r"std must hold a number for each label, got shape \(0,\)"),
        "list": (made(std=[1.0, 2.0]), TypeError, r"std must be a number, got \[1.0, 2.0\]"),
        "complex": (made(std=np.ones(2, complex)), TypeError, "std must hold real numbers"),
        "one negative number": (made(std=np.array(-1.0)), ValueError, "std must be at least 0, got -1"),
        "both": (made(std=1.0, covariance=ACROSS), ValueError, "std must be None where a covariance is given, got 1.0"),
        "neither": (made(), TypeError, "std must be a number, got None"),
        "covariance a number": (
            made(covariance=2.0),
            TypeError,
            "covariance must be a torch.Tensor or a NumPy array, got float",
        ),
        "not square": (made(covariance=np.ones((2, 3))), ValueError, r"covariance must have shape .* got \(2, 3\)"),
        "three axes": (made(covariance=np.ones((2, 2, 2))), ValueError, r"covariance must have shape .* got \(2, 2, 2\)"),
        "not square in full": (made(covariance=np.ones((2, 3, 3, 2))), ValueError, r"got \(2, 3, 3, 2\)"),
        "no label": (made(covariance=np.ones((0, 0))), ValueError, r"covariance must have shape .* got \(0, 0\)"),
        "covariance NaN": (made(covariance=np.diag(NAN)), ValueError, r"covariance must be finite, got nan at index \(1, 1\)"),
        "not symmetric": (
            made(covariance=np.array([[1.0, 0.5], [0.4, 1]])),
            ValueError,
            "symmetric, got entries that differ by 0.1",
        ),
        "not definite": (made(covariance=np.array([[1.0, 2], [2, 1]])), ValueError, "semi-definite, got an eigenvalue -1"),
        "kind": (made(covariance=ACROSS, kind="Gaussian"), ValueError, "kind must be one of"),
        "fewer labels": (
            trained(ln.LabelNoise(EACH[:11])),
            ValueError,
            r"std of shape \(11,\), .* \(12,\) it must have \(12,\)",
        ),
        "a column": (trained(ln.LabelNoise(EACH[:, None])), ValueError, r"std of shape \(12, 1\), .* \(12,\)"),
        "outputs": (trained(ln.LabelNoise(np.ones((7, 3))), IN, OUT, BUILD()), ValueError, r"it must have \(7,\) or \(7, 2\)"),
        "covariance of others": (
            trained(ln.LabelNoise(None, covariance=ACROSS)),
            ValueError,
            r"\(3, 3\), .* must have \(12, 12\)",
        ),
        "covariance of other outputs": (
            trained(ln.LabelNoise(None, covariance=ACROSS), IN, OUT, BUILD()),
            ValueError,
            r"covariance of shape \(3, 3\), for labels of shape \(7, 2\) it must have \(2, 2\) or \(7, 2, 7, 2\)",
        ),
        "called on others": (lambda: ln.LabelNoise(EACH)(torch.zeros(5)), ValueError, r"std of shape \(12,\), .* \(5,\)"),
        "called on one": (lambda: ln.LabelNoise(EACH)(torch.tensor(0.0)), ValueError, r"many labels, got one label"),
        "drawn for others": (
            lambda: next(ln.sgd_draws(5, 10, noise=ln.LabelNoise(EACH))),
            ValueError,
            r"labels of shape \(5,\)",
        ),
    }
)
