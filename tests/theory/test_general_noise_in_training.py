"""Runs of train under correlated noise on several outputs go where drift and effective_flow say, and lie in the cloud."""

import copy

import numpy as np
import pytest
import torch
from plain import flat, flat_gradient
from torch.nn.utils import vector_to_parameters

import labelnoise_utils as ln

LR, TAU, RUNS, BATCH = 0.004, 0.3, 48, 2
OPTIONS = dict(lr=LR, batch_size=BATCH)


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


@pytest.fixture(scope="module")
def feet(setting, runs):
    """Where each run began and ended, brought back to the fits: the cloud's part off them is gone, and with it most noise."""
    return [np.array([on_manifold(setting, torch.from_numpy(theta.copy())).numpy() for theta in some]) for some in runs]


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / len(values) ** 0.5


def left_out(model, x):
    """What leading order leaves out, relative to the way: of the order of lr reg."""
    return LR * ln.implicit_regularizer(model, x).item()


@pytest.mark.parametrize("name", ["drift", "effective flow"])
def test_mean_way(setting, feet, name):
    model, x, *_ = setting
    way = way_along(setting, drift_at) if name == "drift" else way_of_flow(setting)
    ratio, error = mean_and_error((feet[1] - feet[0]) @ way / (way @ way))
    assert error < 0.005
    assert abs(ratio - 1) < 4 * error + left_out(model, x)


def test_weighted_regularizer_alone_leads_elsewhere(setting, feet):
    """From the end that drift predicts, 0, to the one without the brackets, 1, the runs end at 0."""
    model, x, *_ = setting
    way, weighted = way_along(setting, drift_at), way_along(setting, downhill_at)
    apart = weighted - way
    place, error = mean_and_error((feet[1] - feet[0] - way) @ apart / (apart @ apart))
    bound = 4 * error + left_out(model, x) * np.linalg.norm(way) / np.linalg.norm(apart)
    assert bound < 0.5  # so 1 is out of reach where 0 is not
    assert abs(place) < bound


def test_runs_end_in_the_cloud(setting, runs, feet):
    """Squared distances from the fits in units of the cloud: chi-squared, of a degree of freedom for each direction.

    Of the six, the softest is left out: gamma is a hundredth of the largest there, the cloud wide against the bend of the
    valley, and leading order far off until lr is smaller. Equal and independent noise of the same mean variance would spread
    the runs several times as far. That correlations alone were left out could not be told from so few runs.
    """
    model, x, _, noise = setting
    steep = 5
    equal = ln.LabelNoise((np.trace(noise.covariance.reshape(6, 6)) / 6) ** 0.5)
    distances, under_equal = [], []
    for off, foot in zip(runs[1] - feet[1], feet[1], strict=True):
        at = copied(model, torch.from_numpy(foot))
        axes = ln.linearize(at, x).normal[:, :steep]
        cloud, other = (axes.T @ ln.stationary_covariance(at, x, noise=law, **OPTIONS) @ axes for law in (noise, equal))
        where = axes.T @ torch.from_numpy(off)
        distances.append((where @ torch.linalg.solve(cloud, where)).item())
        under_equal.append(torch.linalg.solve(cloud, other).trace().item())
    bound = 4 * (2 * steep / RUNS) ** 0.5 + left_out(model, x) * steep
    assert abs(np.mean(distances) - steep) < bound
    assert np.mean(under_equal) - steep > 4 * bound


def copied(model, theta):
    other = copy.deepcopy(model)
    vector_to_parameters(theta.clone(), other.parameters())
    return other


def way_along(setting, field):
    """Along the fits, by midpoints, from the first to the last step of the runs."""
    start, parts = flat(setting[0]), 10
    steps, theta = TAU / LR**2 / parts, start
    for _ in range(parts):
        half = on_manifold(setting, theta + steps / 2 * field(setting, theta))
        theta = on_manifold(setting, theta + steps * field(setting, half))
    return (theta - start).numpy()


def way_of_flow(setting):
    model, x, y, noise = setting
    other = copied(model, flat(model))
    ln.effective_flow(other, x, y, steps=round(TAU / LR**2), noise=noise, record=2, **OPTIONS)
    return (on_manifold(setting, flat(other)) - flat(model)).numpy()


def drift_at(setting, theta):
    model, x, _, noise = setting
    return ln.drift(copied(model, theta), x, noise=noise, **OPTIONS)


def downhill_at(setting, theta):
    """The drift without its brackets."""
    model, x, _, noise = setting
    at = copied(model, theta)
    weighted = ln.weighted_regularizer(at, x, noise, batch_size=BATCH)
    return -(LR**2) * ln.linearize(at, x).project_tangent(flat_gradient(weighted, at))


def on_manifold(setting, theta):
    model, x, y, _ = setting
    at = copied(model, theta)
    ln.project_to_zero_error(at, x, y)
    return flat(at)
