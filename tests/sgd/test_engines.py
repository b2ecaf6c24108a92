"""Two engines, one trajectory: every model by both, and which of them takes what."""

import copy

import numpy as np
import pytest
import torch
from cases import BATCHES, CASES, CLOUD, ENGINES, KINDS, X, Y, assert_same_trajectory, quick
from plain import flat, plain_loop
from torch import nn

import labelnoise_utils as ln


class TestEnginesAgree:
    @pytest.mark.parametrize(
        "name, batch_size, kind",
        [
            (name, batch_size, KINDS[(i + j) % 3])
            for i, name in enumerate(CASES)
            for j, batch_size in enumerate(BATCHES)
            if batch_size or name in ("product", "relu", "matrix", "sigmoidal-tanh", "outputs")
        ],
    )
    def test_same_trajectory(self, name, batch_size, kind):
        build, x, y, lr = CASES[name]
        arguments = dict(lr=lr, steps=2000, noise=ln.LabelNoise(0.5, kind), batch_size=batch_size)
        compiled, plain = (quick(build(), x, y, engine=e, **arguments) for e in ENGINES)
        assert (compiled.engine, plain.engine) == tuple(ENGINES)
        np.testing.assert_array_equal(compiled.step, plain.step)
        scale = np.abs(plain.theta).max()
        np.testing.assert_allclose(compiled.theta, plain.theta, rtol=0, atol=1e-10 * scale)
        np.testing.assert_allclose(compiled.loss, plain.loss, rtol=1e-9)
        np.testing.assert_allclose(compiled.reg, plain.reg, rtol=1e-9)
        assert np.abs(plain.theta[-1] - plain.theta[0]).max() > 1e-2

    @pytest.mark.parametrize("batch_size", BATCHES)
    def test_without_noise(self, batch_size):
        build, x, y, lr = CASES["relu"]
        compiled, plain = (quick(build(), x, y, lr=lr, noise=None, batch_size=batch_size, engine=engine) for engine in ENGINES)
        np.testing.assert_allclose(compiled.theta, plain.theta, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("batch_size", BATCHES)
    def test_both_are_the_ten_lines(self, batch_size):
        """Equation (5), written out with the same draws."""
        build, x, y, lr = CASES["outputs"]
        model, noise = build(), ln.LabelNoise(0.5, "gaussian")
        draws = ln.sgd_draws(7, 100, noise=noise, batch_size=batch_size, seed=3, outputs=(2,))
        for indices, z in draws:
            for i, z_i in zip(indices, torch.from_numpy(z), strict=True):
                error = model(x[i]) - y[i] - z_i
                (error.square().sum() / len(i)).backward()
                with torch.no_grad():
                    for p in model.parameters():
                        p -= lr * p.grad
                        p.grad = None
        for engine in ENGINES:
            trained = build()
            arguments = dict(lr=lr, steps=100, noise=noise, batch_size=batch_size, engine=engine)
            quick(trained, x, y, **arguments)
            np.testing.assert_allclose(flat(trained), flat(model), rtol=0, atol=1e-12)


class TestEngineChoice:
    def test_auto_takes_the_kernel_where_there_is_one(self):
        x, y = X, Y
        assert quick(ln.TwoLayerReLU(5), x, y).engine == "compiled"
        assert quick(ln.TwoLayerReLU(5, dtype=torch.float32), x, y).engine == "torch"
        linear = nn.Linear(1, 1, dtype=torch.float64)
        assert quick(linear, x[:, None], y[:, None]).engine == "torch"

    def test_subclass_with_another_formula_is_not_run_by_the_kernel(self):
        class Doubled(ln.Product):
            def forward(self, x):
                return 2 * super().forward(x)

        x, y = torch.zeros(1), torch.ones(1)
        automatic, plain = (quick(Doubled(), x, y, noise=None, engine=e) for e in ("auto", "torch"))
        assert_same_trajectory(automatic, plain)
        with pytest.raises(ValueError, match="got Doubled"):
            quick(Doubled(), x, y, engine="compiled")

    @pytest.mark.parametrize("change", ["tied", "replaced", "parametrized"])
    def test_changed_layers_are_not_run_by_the_kernel(self, change):
        """The kernel would read past the end of the parameters, or the wrong ones."""
        model = ln.MLP([3, 3, 3, 1], "tanh")
        if change == "tied":
            model.layers[1].weight = model.layers[0].weight
        elif change == "replaced":
            model.layers[1] = nn.Linear(3, 3, bias=False, dtype=torch.float64)
        else:
            nn.utils.parametrizations.orthogonal(model.layers[1])
        y = CLOUD[:, 0]
        with pytest.raises(ValueError, match="as built"):
            quick(copy.deepcopy(model), CLOUD, y, engine="compiled")
        assert quick(model, CLOUD, y).engine == "torch"

    def test_class_with_its_own_kernel_has_one(self):
        class Mine(ln.Product):
            def compiled_sgd(self, *arguments):
                return super().compiled_sgd(*arguments)

        assert quick(Mine(), torch.zeros(1), torch.ones(1)).engine == "compiled"


class TestFrozenParameters:
    FROZEN = {
        "product": ["v"],
        "relu": ["a", "b0"],
        "relu-2d": ["b", "a0"],
        "relu-3d": ["a"],
        "deep-tanh": ["layers.0.weight", "layers.1.bias", "layers.3.weight"],
        "mlp-relu": ["layers.1.weight", "layers.1.bias"],
        "sigmoidal-tanh": ["c"],
        "sigmoidal-logistic": ["w"],
    }

    @pytest.mark.parametrize("batch_size", BATCHES)
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("name", FROZEN)
    def test_stay_bit_for_bit_and_are_not_counted(self, name, engine, batch_size):
        build, x, y, lr = CASES[name]
        model = build()
        before = copy.deepcopy(model.state_dict())
        for key in self.FROZEN[name]:
            model.get_parameter(key).requires_grad_(False)
        run = quick(model, x, y, lr=lr, batch_size=batch_size, engine=engine)
        for key, parameter in model.named_parameters():
            untouched = torch.equal(parameter, before[key])
            assert untouched == (key in self.FROZEN[name]), key
            assert parameter.requires_grad == (key not in self.FROZEN[name])
        assert run.theta.shape[1] == sum(p.numel() for p in model.parameters() if p.requires_grad)
        np.testing.assert_array_equal(run.theta[-1], flat(model))
        assert run.reg[-1] == pytest.approx(ln.implicit_regularizer(model, x).item(), rel=1e-12)
        assert run.reg[-1] == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-12)

    @pytest.mark.parametrize("name", FROZEN)
    def test_engines_agree(self, name):
        build, x, y, lr = CASES[name]
        runs = []
        for engine in ENGINES:
            model = build()
            for key in self.FROZEN[name]:
                model.get_parameter(key).requires_grad_(False)
            runs.append(quick(model, x, y, lr=lr, steps=1000, batch_size=4, engine=engine))
        np.testing.assert_allclose(runs[0].theta, runs[1].theta, rtol=0, atol=1e-11)
