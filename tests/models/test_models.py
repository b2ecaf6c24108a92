"""What the models have in common: seeds, types, architectures built anew, and what is refused."""

import pytest
import torch
from cases import MODELS, random_data
from plain import flat

import labelnoise_utils as ln

BUILDERS = {
    "relu": lambda **arguments: ln.TwoLayerReLU(6, **arguments),
    "relu-3d": lambda **arguments: ln.TwoLayerReLU(6, dim=3, **arguments),
    "mlp": lambda **arguments: ln.MLP([2, 4, 1], "tanh", **arguments),
    "sigmoidal": lambda **arguments: ln.TwoLayerSigmoidal(6, 2, **arguments),
}


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_seed_makes_the_parameters(build):
    assert torch.equal(flat(build(seed=3)), flat(build(seed=3)))
    assert not torch.equal(flat(build(seed=3)), flat(build(seed=4)))
    assert torch.equal(flat(build()), flat(build(seed=0)))


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_dtype_rounds_the_same_parameters(build):
    double, single = build(), build(dtype=torch.float32)
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    torch.testing.assert_close(flat(single).double(), flat(double), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_config_builds_the_same_architecture(name):
    model = MODELS[name](0)
    twin = type(model)(**model.config)
    twin.load_state_dict(model.state_dict())
    x, _ = random_data(model, 3, 0)
    assert torch.equal(twin(x), model(x))


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: ln.TwoLayerReLU(0), ValueError, "width must be at least 1, got 0"),
        (lambda: ln.TwoLayerReLU(-3), ValueError, "width must be at least 1, got -3"),
        (lambda: ln.MLP([]), ValueError, r"sizes must hold at least two numbers.*got \[\]"),
        (lambda: ln.MLP([3]), ValueError, r"sizes must hold at least two numbers.*got \[3\]"),
        (lambda: ln.MLP([3, 0, 1]), ValueError, "each of sizes must be at least 1, got 0"),
        (lambda: ln.MLP([2.5, 1]), TypeError, "each of sizes must be an integer, got 2.5"),
        (lambda: ln.MLP(3), TypeError, "sizes must be a sequence of integers, got 3"),
        (lambda: ln.TwoLayerReLU(2.5), TypeError, "width must be an integer, got 2.5"),
        (lambda: ln.TwoLayerReLU("a"), TypeError, "width must be an integer, got 'a'"),
        (
            lambda: ln.MLP([3, 1], "gelu"),
            ValueError,
            "activation must be one of relu, tanh, logistic, got 'gelu'",
        ),
    ],
)
def test_bad_arguments(build, error, message):
    with pytest.raises(error, match=message):
        build()
