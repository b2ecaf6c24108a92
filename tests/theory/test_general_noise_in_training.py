"""Runs of train under correlated noise on several outputs go where drift and effective_flow say, and lie in the cloud."""

import copy

import numpy as np
import pytest
import torch
from plain import flat
from torch.nn.utils import vector_to_parameters

import labelnoise_utils as ln

LR, TAU, RUNS, BATCH = 0.004, 0.3, 48, 2


@pytest.fixture(scope="module")
def setting():
    """Two outputs of a network on three examples, a covariance over all six labels, and a fit."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    y = 0.5 * torch.randn(3, 2, generator=generator, dtype=torch.float64)
    model = ln.MLP([2, 4, 2], "tanh", seed=1)
    ln.project_to_zero_error(model, x, y)
    root = np.random.default_rng(3).normal(size=(6, 6)) * np.array([1.6, 0.2, 0.4, 1.2, 0.2, 0.4])[:, None] / 6**0.5
    return model, x, y, ln.LabelNoise(None, covariance=(root @ root.T).reshape(3, 2, 3, 2))


@pytest.fixture(scope="module")
def runs(setting):
    """Each begins in the cloud; where they began, and how they went on."""
    model, x, y, noise = setting
    cloud = ln.stationary_covariance(model, x, lr=LR, noise=noise, batch_size=BATCH).numpy()
    starts = np.random.default_rng(1).multivariate_normal(flat(model).numpy(), cloud, RUNS, method="eigh")
    jobs = []
    for seed, theta in enumerate(starts):
        own = copy.deepcopy(model)
        vector_to_parameters(torch.from_numpy(theta.copy()), own.parameters())
        settings = dict(lr=LR, steps=round(TAU / LR**2), batch_size=BATCH, noise=noise, seed=seed, record=2, reg_on=False)
        jobs.append(dict(model=own, x=x, y=y, **settings))
    return starts, np.array([run.theta[-1] for run in ln.train_many(jobs, progress=False)])


def test_mean_way_is_that_of_the_flow(setting, runs):
    """To leading order in lr; the weighted regularizer alone leads elsewhere."""
    model, x, _, noise = setting
    starts, ends = runs
    options = dict(lr=LR, noise=noise, batch_size=BATCH)
    theta, steps = flat(model).clone(), 10
    for _ in range(steps):  # midpoints
        half = along(setting, theta, TAU / LR**2 / steps / 2, options)
        theta = theta + (TAU / LR**2 / steps) * drift_at(setting, half, options)
        theta = on_manifold(setting, theta)
    way = (theta - flat(model)).numpy()
    went = ends - starts
    ratio = went @ way / (way @ way)
    error = ratio.std(ddof=1) / RUNS**0.5
    # What leading order leaves out is of the order of lr reg.
    beyond = LR * ln.implicit_regularizer(model, x).item()
    assert error < 0.01
    assert abs(ratio.mean() - 1) < 4 * error + beyond
    weighted = ln.weighted_regularizer(model, x, noise, batch_size=BATCH)
    slope = torch.cat(
        [part.reshape(-1) for part in torch.autograd.grad(weighted, list(model.parameters()), materialize_grads=True)]
    )
    downhill = -(LR**2) * ln.linearize(model, x).project_tangent(slope)
    v = ln.drift(model, x, **options)
    assert (v - downhill).norm() > 0.1 * v.norm()


def drift_at(setting, theta, options):
    model, x, *_ = setting
    at = copy.deepcopy(model)
    vector_to_parameters(theta.clone(), at.parameters())
    return ln.drift(at, x, **options)


def along(setting, theta, steps, options):
    return on_manifold(setting, theta + steps * drift_at(setting, theta, options))


def on_manifold(setting, theta):
    model, x, y, _ = setting
    at = copy.deepcopy(model)
    vector_to_parameters(theta.clone(), at.parameters())
    ln.project_to_zero_error(at, x, y)
    return flat(at).clone()
