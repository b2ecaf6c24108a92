"""SGD made of the terms of equation (6): beside SGD itself."""

import math
import pickle

import numpy as np
import pytest
import torch
from plain import flat
from points import POINTS, Kept, X, Y, gaussian, poisoned, tanh
from refusals import refusals
from torch import nn
from unchanged import assert_as_it_was, snapshot

import labelnoise_utils as ln
from labelnoise_utils.theory.expansion import TERMS

NAN = math.nan


def run(model, x, y, **arguments):
    defaults = dict(lr=0.01, noise=ln.LabelNoise(0.5), steps=100, record=10, seed=3)
    return ln.expanded_sgd(model, x, y, **defaults | arguments)


def trained(name, *, seed, record, **arguments):
    """Theta - theta* under equation (5) itself."""
    model, x, y = POINTS[name]()
    start = flat(model).numpy()
    return ln.train(model, x, y, seed=seed, record=record, progress=False, **arguments).theta - start


class TestExpandedSGD:
    @pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
    def test_linear_model_is_followed_exactly(self, kind):
        """The expansion ends after the terms (0, 0) and (1, 0), so this is SGD itself, with its draws."""
        x, theta = gaussian(4, 3), gaussian(3, seed=1)
        y = x @ theta

        class Linear(nn.Module):
            def __init__(self):
                super().__init__()
                self.theta = nn.Parameter(theta.clone())

            def forward(self, x):
                return x @ self.theta

        arguments = dict(lr=0.02, noise=ln.LabelNoise(0.5, kind), steps=500)
        step, path = ln.expanded_sgd(Linear(), x, y, copies=2, seed=5, **arguments)
        for copy in range(2):
            sgd = ln.train(Linear(), x, y, seed=5 + copy, record=step, progress=False, **arguments)
            np.testing.assert_allclose(path[:, copy], sgd.theta - sgd.theta[0], rtol=0, atol=1e-13)
        assert np.abs(path[-1]).max() > 1e-2
        assert np.abs(path[-1, 0] - path[-1, 1]).max() > 1e-2

    @pytest.mark.parametrize("name, kept, order", [
        ("product", TERMS, 3), ("product", TERMS[:2], 2), ("product", TERMS[:1], 1),
        ("tanh", TERMS, 3), ("tanh", TERMS[:3], 2),
        ("convolutional", TERMS, 3), ("convolutional", TERMS[:2], 2),
    ])  # fmt: skip
    def test_differs_from_sgd_by_the_order_of_what_is_left_out(self, name, kept, order):
        """The noise sets the scale: theta - theta* is proportional to it, a term with k factors e or theta to its k-th power.

        (0, 0) and (1, 0) have one factor, (0, 1), (2, 0) and (1, 1) two, (0, 2) and the next order three.
        """
        differences = []
        for std in (4e-3, 2e-3):
            arguments = dict(lr=0.01, noise=ln.LabelNoise(std), steps=100)
            step, path = ln.expanded_sgd(*POINTS[name](), terms=kept, seed=3, **arguments)
            sgd = trained(name, seed=3, record=step, **arguments)
            differences.append(np.abs(path[-1, 0] - sgd[-1]).max())
            assert np.abs(sgd[-1]).max() > 0.02 * std
        assert math.log2(differences[0] / differences[1]) == pytest.approx(order, abs=0.05)

    def test_all_terms_stay_close_to_sgd(self):
        """On h = u v one step errs by the term (2, 1) alone, 2 lr |theta - theta*|^2 / 2 times the length of it."""
        arguments = dict(lr=0.01, noise=ln.LabelNoise(0.5), steps=300)
        step, path = ln.expanded_sgd(*POINTS["product"](), record=300, copies=3, seed=7, **arguments)
        for copy in range(3):
            sgd = trained("product", seed=7 + copy, record=step, **arguments)
            bound = 0.01 * (np.linalg.norm(sgd, axis=1) ** 3).sum()
            assert np.abs(path[:, copy] - sgd).max() < bound < 0.5
            assert np.linalg.norm(sgd, axis=1).max() > 10 * np.abs(path[:, copy] - sgd).max()

    @pytest.mark.parametrize("name", POINTS)
    @pytest.mark.parametrize("kept", [TERMS, TERMS[:2], [(1, 1), (0, 0)], [(0, 0), (0, 2), (2, 0)], [(0, 0), (1, 0), (0, 1)]])
    def test_each_step_is_the_sum_of_the_terms_that_are_on(self, name, kept):
        model, x, y = POINTS[name]()
        noise = ln.LabelNoise(0.5, "uniform")
        _, path = run(model, x, y, noise=noise, terms=kept, steps=12, record=12)
        theta = torch.zeros(len(flat(model)), dtype=torch.float64)
        ((indices, z),) = ln.sgd_draws(len(x), 12, noise=noise, seed=3)
        for t, (i, z_i) in enumerate(zip(indices[:, 0], torch.from_numpy(z[:, 0]), strict=True)):
            terms = ln.update_terms(model, x[i : i + 1], y[i : i + 1] + z_i, theta, lr=0.01)
            theta = theta + sum(terms[term] for term in kept)
            np.testing.assert_allclose(path[t + 1, 0], theta, rtol=0, atol=1e-14)
        assert theta.abs().max() > 1e-3

    def test_two_linear_terms_are_the_ornstein_uhlenbeck_recursion(self):
        """Mean 0 and lr sigma^2 in every normal direction, nothing in the others: 500 copies, each a third of a second law."""
        model, x, y = POINTS["tanh"]()
        point = ln.linearize(model, x)
        copies, steps, lr, std = 500, 400, 0.02, 0.5
        arguments = dict(lr=lr, noise=ln.LabelNoise(std), steps=steps, record=1, seed=11)
        _, path = ln.expanded_sgd(model, x, y, terms=[(0, 0), (1, 0)], copies=copies, **arguments)
        end = torch.from_numpy(path[-1])
        assert point.project_tangent(end).abs().max() < 1e-13
        along = end @ point.normal
        for k, gamma in enumerate(point.gamma.tolist()):
            mean, variance = ln.ornstein_uhlenbeck(gamma, lr=lr, noise_std=std, steps=steps)
            assert abs(along[:, k].mean().item() - mean) < 4 * math.sqrt(variance / copies)
            # The restoring force is that of a random example: a correction of order lr |grad h|^2 to the variance.
            rtol = 4 * math.sqrt(2 / copies) + 2 * lr * ln.per_example_sq_norms(model, x).max().item()
            assert along[:, k].var().item() == pytest.approx(variance, rel=rtol)

    def test_no_terms_no_movement(self):
        assert not run(*POINTS["tanh"](), terms=[])[1].any()

    def test_terms_may_come_in_any_collection_and_order(self):
        expected = run(*POINTS["tanh"](), terms=[(0, 0), (1, 1)])[1]
        for terms in ({(1, 1), (0, 0)}, ((1, 1), (0, 0), (0, 0)), (term for term in [(0, 0), (1, 1)])):
            np.testing.assert_array_equal(run(*POINTS["tanh"](), terms=terms)[1], expected)
        assert np.abs(expected[-1]).max() > 1e-3

    @pytest.mark.parametrize("record, steps, expected", [
        (1, 100, [0, 100]), (4, 100, [0, 25, 50, 75, 100]), (50, 3, [0, 1, 2, 3]), (3, 10, [0, 3, 7, 10]),
    ])  # fmt: skip
    def test_record_is_equally_spaced_and_changes_nothing(self, record, steps, expected):
        step, path = run(*POINTS["tanh"](), record=record, steps=steps, copies=2)
        assert step.tolist() == expected
        assert path.shape == (len(expected), 2, 17) and not path[0].any()
        every = run(*POINTS["tanh"](), record=steps, steps=steps, copies=2)[1]
        np.testing.assert_array_equal(path, every[step])

    def test_chunks_of_draws_join(self, monkeypatch):
        expected = run(*POINTS["tanh"](), record=7)[1]
        monkeypatch.setattr("labelnoise_utils.sgd.noise.DRAWS_PER_CHUNK", 32)
        np.testing.assert_array_equal(run(*POINTS["tanh"](), record=7)[1], expected)

    def test_copies_are_the_runs_with_the_next_seeds(self):
        together = run(*POINTS["tanh"](), copies=3, seed=4)[1]
        for copy in range(3):
            np.testing.assert_array_equal(together[:, [copy]], run(*POINTS["tanh"](), seed=4 + copy)[1])

    def test_model_and_data_are_left_as_they_were(self):
        model, x, y = POINTS["convolutional"]()
        before, data = snapshot(model), pickle.dumps((x, y))
        run(model, x, y)
        assert_as_it_was(model, before)
        assert pickle.dumps((x, y)) == data

    def test_single_precision_model(self):
        model, x, y = POINTS["tanh"]()
        double = run(model, x, y)[1]
        single = run(model.float(), x.float(), y.float())[1]
        assert single.dtype == np.float64
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-5)

    def test_size_limit(self, monkeypatch):
        model, x, y = POINTS["tanh"]()
        monkeypatch.setattr("labelnoise_utils.theory.expansion.LARGEST_EXPANSION", 3 * 17**3)
        run(model, x, y)
        monkeypatch.setattr("labelnoise_utils.theory.expansion.LARGEST_EXPANSION", 3 * 17**3 - 1)
        monkeypatch.setattr("labelnoise_utils.theory.expansion.jacfwd", None)  # no work
        with pytest.raises(ValueError, match=r"would hold 3 x 17\^3 numbers, more than 14,738"):
            run(model, x, y)

    def test_blow_up_is_an_error(self):
        with pytest.raises(ArithmeticError, match=r"copy 0 blew up before step \d+: try a smaller lr than 10"):
            run(*POINTS["tanh"](), lr=10, steps=1000)


OUTPUTS = ln.MLP([2, 4, 2], "tanh"), X, torch.zeros(3, 2, dtype=torch.float64)


BAD_INPUT = {
    "sgd: unseen": (lambda: run(Kept(), X, Y), ValueError, "torch.func does not see every use of a parameter"),
    "sgd: terms text": (lambda: run(tanh(), X, Y, terms="all"), TypeError, "terms must be a collection of pairs .* got 'all'"),
    "sgd: terms a number": (lambda: run(tanh(), X, Y, terms=3), TypeError, "terms must be a collection of pairs .* got 3"),
    "sgd: terms a pair": (lambda: run(tanh(), X, Y, terms=(0, 0)), ValueError, r"terms must be among .* got \[0, 0\]"),
    "sgd: terms third order": (
        lambda: run(tanh(), X, Y, terms=[(3, 0)]),
        ValueError,
        r"terms must be among .* got \[\(3, 0\)\]",
    ),
    "sgd: terms mixed": (
        lambda: run(tanh(), X, Y, terms=[(0, 0), "a"]),
        ValueError,
        r"terms must be among .* got \[\(0, 0\), 'a'\]",
    ),
    "sgd: noise a number": (lambda: run(tanh(), X, Y, noise=0.5), TypeError, "noise must be a LabelNoise, got 0.5"),
    "sgd: noise nothing": (lambda: run(tanh(), X, Y, noise=None), TypeError, "noise must be a LabelNoise, got None"),
    "sgd: two outputs": (lambda: run(*OUTPUTS), ValueError, r"y and model\(x\) must have shape \(3,\), got \(3, 2\)"),
    "sgd: y of another shape": (
        lambda: run(tanh(), X, Y[:, None]),
        ValueError,
        r"y must have the shape .*\(3,\), got \(3, 1\)",
    ),
    "sgd: y a list": (lambda: run(tanh(), X, [0.1] * 3), TypeError, "y must be a torch.Tensor or .*, got list"),
    "sgd: y NaN": (lambda: run(tanh(), X, Y * NAN), ValueError, "y must be finite"),
    "sgd: theta NaN": (lambda: run(poisoned(), X, Y), ValueError, r"model\(x\) is not finite"),
    "sgd: lr negative": (lambda: run(tanh(), X, Y, lr=-1), ValueError, "lr must be positive, got -1"),
    "sgd: steps 0": (lambda: run(tanh(), X, Y, steps=0), ValueError, "steps must be at least 1, got 0"),
    "sgd: steps 1e3": (lambda: run(tanh(), X, Y, steps=1e3), TypeError, "steps must be an integer, got 1000.0"),
    "sgd: copies 0": (lambda: run(tanh(), X, Y, copies=0), ValueError, "copies must be at least 1, got 0"),
    "sgd: record 0": (lambda: run(tanh(), X, Y, record=0), ValueError, "record must be at least 1, got 0"),
    "sgd: seed -1": (lambda: run(tanh(), X, Y, seed=-1), ValueError, "seed must be at least 0, got -1"),
}

test_bad_input_is_named = refusals(BAD_INPUT)
