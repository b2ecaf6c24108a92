"""The package's own models, each with data and a learning rate that move it; and short runs of them."""

import math

import numpy as np
import torch

import labelnoise_utils as ln

ENGINES = ["compiled", "torch"]
BATCHES = [1, 4, None]
KINDS = ["rademacher", "uniform", "gaussian"]
FOREVER = 10**10  # steps

X, Y = ln.twelve_points()
CLOUD = torch.from_numpy(np.random.default_rng(0).normal(size=(7, 3)))
SQUARES = CLOUD[:, 0] ** 2
# A model, its data, and a learning rate at which 2000 steps move it visibly.
CASES = {
    "product": (lambda: ln.Product(1.5, 0.3), X, Y, 0.005),
    "diagonal": (lambda: ln.DiagonalLinear(3), CLOUD, SQUARES, 0.005),
    "diagonal-unsigned": (lambda: ln.DiagonalLinear(3, signed=False), CLOUD, SQUARES, 0.005),
    "relu": (lambda: ln.TwoLayerReLU(20, seed=1), X, Y, 0.002),
    "relu-without-skip": (lambda: ln.TwoLayerReLU(20, skip=False, seed=1), X, Y, 0.002),
    "relu-constant": (lambda: ln.TwoLayerReLU(20, skip="constant", seed=1), X, Y, 0.002),
    "relu-2d": (lambda: ln.TwoLayerReLU(20, dim=2, seed=1), CLOUD[:, :2], SQUARES, 0.002),
    "relu-2d-constant": (lambda: ln.TwoLayerReLU(20, dim=2, skip="constant", seed=1), CLOUD[:, :2], SQUARES, 0.002),
    "relu-3d": (lambda: ln.TwoLayerReLU(20, dim=3, seed=1), CLOUD, SQUARES, 0.002),
    "relu-3d-without-skip": (lambda: ln.TwoLayerReLU(20, dim=3, skip=False, seed=1), CLOUD, SQUARES, 0.002),
    "mlp-relu": (lambda: ln.MLP([3, 12, 1], "relu"), CLOUD, SQUARES, 0.005),
    "mlp-tanh": (lambda: ln.MLP([1, 12, 1], "tanh"), X, Y, 0.02),
    "mlp-logistic": (lambda: ln.MLP([3, 12, 1], "logistic"), CLOUD, SQUARES, 0.01),
    "deep-relu": (lambda: ln.MLP([3, 8, 8, 8, 1], "relu"), CLOUD, SQUARES, 0.005),
    "deep-tanh": (lambda: ln.MLP([3, 8, 8, 8, 1], "tanh"), CLOUD, SQUARES, 0.01),
    "matrix": (lambda: ln.MatrixSensing(5), *ln.matrix_sensing(5, 1, 7)[:2], 0.004),
    "sigmoidal-tanh": (lambda: ln.TwoLayerSigmoidal(12, 3), CLOUD, SQUARES, 0.01),
    "sigmoidal-logistic": (lambda: ln.TwoLayerSigmoidal(12, 3, "logistic"), CLOUD, SQUARES, 0.01),
    "outputs": (lambda: ln.MLP([3, 6, 5, 2], "tanh"), CLOUD, CLOUD[:, :2] ** 2, 0.01),
}


def quick(model, x=X, y=Y, **arguments):
    """A short run, by default of the case that most tests are about."""
    defaults = dict(lr=0.002, steps=200, noise=ln.LabelNoise(0.5), seed=3, progress=False)
    return ln.train(model, x, y, **defaults | arguments)


def with_random_skip(model, seed):
    with torch.no_grad():
        if model.a0 is not None:
            model.a0.copy_(torch.sin(torch.arange(model.a0.numel(), dtype=torch.float64) + seed + 1).view_as(model.a0))
        model.b0.fill_(math.cos(seed + 1))
    return model


def diagonal(signed, seed):
    model, rng = ln.DiagonalLinear(5, signed=signed), np.random.default_rng(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=5)))
    return model


# Random ones by a seed.
MODELS = {
    "product": lambda seed: ln.Product(*np.random.default_rng(seed).normal(size=2)),
    "diagonal": lambda seed: diagonal(True, seed),
    "diagonal-unsigned": lambda seed: diagonal(False, seed),
    "relu": lambda seed: with_random_skip(ln.TwoLayerReLU(7, seed=seed), seed),
    "relu-without-skip": lambda seed: ln.TwoLayerReLU(7, skip=False, seed=seed),
    "relu-one-unit": lambda seed: ln.TwoLayerReLU(1, seed=seed),
    "relu-constant": lambda seed: with_random_skip(ln.TwoLayerReLU(7, skip="constant", seed=seed), seed),
    "relu-1d": lambda seed: with_random_skip(ln.TwoLayerReLU(9, dim=1, seed=seed), seed),
    "relu-2d": lambda seed: with_random_skip(ln.TwoLayerReLU(7, dim=2, seed=seed), seed),
    "relu-2d-without-skip": lambda seed: ln.TwoLayerReLU(40, dim=2, skip=False, seed=seed),
    "relu-3d-constant": lambda seed: with_random_skip(ln.TwoLayerReLU(8, dim=3, skip="constant", seed=seed), seed),
    "relu-10d": lambda seed: with_random_skip(ln.TwoLayerReLU(18, dim=10, seed=seed), seed),
    "mlp-linear": lambda seed: ln.MLP([3, 2], seed=seed, bias_std=1.0),
    "mlp-relu": lambda seed: ln.MLP([2, 9, 1], "relu", seed=seed, bias_std=1.0),
    "mlp-tanh": lambda seed: ln.MLP([2, 9, 1], "tanh", seed=seed, bias_std=1.0),
    "mlp-logistic": lambda seed: ln.MLP([2, 9, 1], "logistic", seed=seed, bias_std=1.0),
    "mlp-deep-relu": lambda seed: ln.MLP([3, 8, 6, 5, 2], "relu", seed=seed, bias_std=1.0),
    "mlp-deep-tanh": lambda seed: ln.MLP([3, 8, 6, 5, 2], "tanh", seed=seed, bias_std=1.0),
    "mlp-deep-logistic": lambda seed: ln.MLP([3, 8, 6, 5, 2], "logistic", seed=seed, bias_std=1.0),
    "matrix": lambda seed: ln.MatrixSensing(4, init="gaussian", seed=seed),
    "sigmoidal-tanh": lambda seed: ln.TwoLayerSigmoidal(7, 3, "tanh", seed=seed),
    "sigmoidal-logistic": lambda seed: ln.TwoLayerSigmoidal(18, 10, "logistic", seed=seed),
    "sigmoidal-scalar-input": lambda seed: ln.TwoLayerSigmoidal(5, 1, "tanh", seed=seed),
    "mlp-scalar-input": lambda seed: ln.MLP([1, 4, 4, 1], "tanh", seed=seed, bias_std=1.0),
}


def random_data(model, n, seed):
    """Inputs and labels of the shapes that the model has."""
    rng = np.random.default_rng(1000 + seed)
    dimension = model.sizes[0] if isinstance(model, ln.MLP) else 1
    shape = (n, dimension) if dimension > 1 else (n,)
    if isinstance(model, ln.MatrixSensing):
        shape = n, model.dim, model.dim
    if isinstance(model, ln.DiagonalLinear):
        shape = n, len(model.u)
    if isinstance(model, ln.TwoLayerSigmoidal):
        shape = n, model.w.shape[1]
    if isinstance(model, ln.TwoLayerReLU):
        shape = n, *model.a.shape[1:]
    x = torch.from_numpy(rng.normal(size=shape))
    with torch.no_grad():
        return x, torch.from_numpy(rng.normal(size=model(x).shape))


def assert_same_trajectory(one, other):
    """Two runs to the last bit."""
    for column in ("step", "loss", "reg", "theta"):
        np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


def assert_same_run(one, other):
    """Not only the trajectory, also the types and what else a run says of itself."""
    assert_same_trajectory(one, other)
    for column in ("step", "loss", "reg", "theta"):
        assert getattr(one, column).dtype == getattr(other, column).dtype
    for fact in ("steps", "engine", "seconds", "interrupted", "stopped", "steps_per_second"):
        assert getattr(one, fact) == getattr(other, fact)
        assert type(getattr(one, fact)) is type(getattr(other, fact))
