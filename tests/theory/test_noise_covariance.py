"""The covariance of the noise as a step feels it, against the forces that the draws of SGD make."""

import numpy as np
import pytest
import torch
from refusals import refusals

import labelnoise_utils as ln
from labelnoise_utils.theory.noise_covariance import noise_covariance

N, K = 3, 2
ROOT = np.random.default_rng(1).normal(size=(N * K, N * K))
FULL = ROOT @ ROOT.T / 4
SCALAR = np.array([[1.0, 0.6, -0.3], [0.6, 0.8, 0.1], [-0.3, 0.1, 0.5]])

# The law of the noise, and the shape of a label.
LAWS = {
    "number": (ln.LabelNoise(0.7), ()),
    "each example": (ln.LabelNoise(np.array([1.0, 0.2, 0.5])), ()),
    "each example, two outputs": (ln.LabelNoise(np.array([1.0, 0.2, 0.5])), (K,)),
    "each label": (ln.LabelNoise(np.array([[1.0, 0.2], [0.3, 0.9], [0.5, 0.1]])), (K,)),
    "across examples": (ln.LabelNoise(None, covariance=SCALAR), ()),
    "across outputs": (ln.LabelNoise(None, covariance=SCALAR[:K, :K]), (K,)),
    "in full": (ln.LabelNoise(None, covariance=FULL.reshape(N, K, N, K)), (K,)),
}


def forces(noise, outputs, batch_size, gradients, steps=40_000):
    """(1/B) sum Z g over the batch of each step, (steps, p)."""
    parts = []
    for indices, z in ln.sgd_draws(N, steps, noise=noise, batch_size=batch_size, seed=5, outputs=outputs):
        z = z.reshape(*indices.shape, -1)
        parts.append(np.einsum("sbk,sbkp->sp", z, gradients[indices]) / indices.shape[1])
    return np.concatenate(parts)


def standard_errors_off(force, expected):
    """How far the sample covariance is from the expected one, entry by entry, in its own standard errors."""
    products = force[:, :, None] * force[:, None]
    return np.abs(products.mean(axis=0) - expected) / (products.std(axis=0) / len(force) ** 0.5 + 1e-15)


@pytest.mark.parametrize("batch_size", [1, 2, None])
@pytest.mark.parametrize("name", LAWS)
def test_covariance_of_the_force(name, batch_size):
    noise, outputs = LAWS[name]
    k = int(np.prod(outputs))
    gradients = np.random.default_rng(2).normal(size=(N, k, 2))
    j = gradients.reshape(N * k, 2)
    s = noise_covariance(noise, N, k, batch_size).numpy()
    force = forces(noise, outputs, batch_size, gradients)
    assert np.abs(force.mean(axis=0) / force.std(axis=0)).max() < 4.5 / len(force) ** 0.5
    assert standard_errors_off(force, j.T @ s @ j / N).max() < 4.5
    assert standard_errors_off(force, 1.1 * j.T @ s @ j / N).max() > 4.5


def test_one_vector_a_step_is_not_a_draw_for_each_place_of_the_batch():
    """The second row of the table against the first, where only the second holds."""
    noise, _ = LAWS["across examples"]
    gradients = np.random.default_rng(2).normal(size=(N, 1, 2))
    j = gradients.reshape(N, 2)
    force = forces(noise, (), 2, gradients)
    assert standard_errors_off(force, j.T @ np.diag(np.diag(SCALAR)) @ j / N / 2).max() > 10


def test_values():
    by_label, _ = LAWS["each label"]
    expected = np.diag([1.0, 0.04, 0.09, 0.81, 0.25, 0.01])
    np.testing.assert_allclose(noise_covariance(by_label, N, K, 4), expected / 4, rtol=1e-15)
    np.testing.assert_allclose(noise_covariance(by_label, N, K, None), expected / N, rtol=1e-15)
    correlated, _ = LAWS["across examples"]
    np.testing.assert_array_equal(noise_covariance(correlated, N, 1, 1), np.diag(np.diag(SCALAR)))
    np.testing.assert_allclose(noise_covariance(correlated, N, 1, None), SCALAR / N, rtol=1e-15)
    assert noise_covariance(correlated, N, 1, 2).dtype == torch.float64


def of_three_labels(noise, outputs=1, batch_size=1):
    return noise_covariance(noise, N, outputs, batch_size)


BAD_INPUT = {
    "a number": (lambda: of_three_labels(0.5), TypeError, r"noise must be a LabelNoise, got 0.5; .* LabelNoise\(s\)"),
    "another law": (lambda: of_three_labels(ln.LangevinNoise(0.5)), TypeError, "noise must be a LabelNoise, got LangevinNoise"),
    "std of 2": (
        lambda: of_three_labels(ln.LabelNoise(np.ones(2))),
        ValueError,
        r"noise.std must be a number or have shape \(3,\) or \(3, 1\) .* got shape \(2,\)",
    ),
    "std of 3 x 3": (lambda: of_three_labels(ln.LabelNoise(np.ones((3, 3))), K), ValueError, r"\(3, 2\) .* got shape \(3, 3\)"),
    "covariance of 2": (
        lambda: of_three_labels(ln.LabelNoise(None, covariance=np.eye(2))),
        ValueError,
        r"noise.covariance must have shape \(3, 3\) or \(3, 1, 3, 1\) .* got shape \(2, 2\)",
    ),
    "covariance of 3": (lambda: of_three_labels(LAWS["across examples"][0], K), ValueError, r"\(2, 2\) or \(3, 2, 3, 2\)"),
    "batch 0": (lambda: of_three_labels(ln.LabelNoise(1.0), batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
    "batch 1.5": (
        lambda: of_three_labels(ln.LabelNoise(1.0), batch_size=1.5),
        TypeError,
        "batch_size must be an integer, got 1.5",
    ),
}

test_bad_input_is_named = refusals(BAD_INPUT)
