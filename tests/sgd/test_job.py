"""What train takes, and what it refuses before any work."""

import copy
import math

import numpy as np
import pytest
import torch
from cases import CLOUD, ENGINES, X, Y, quick
from plain import flat
from torch import nn

import labelnoise_utils as ln


def broken(x, where, value):
    x = x.clone()
    x[where] = value
    return x


NAN, INF = math.nan, math.inf

# What is passed instead, the error, and what the message must hold.
BAD_INPUT = {
    "labels of another shape": (dict(y=Y[:, None]), ValueError, r"y must .*\(12,\), got \(12, 1\)"),
    "inputs of another shape": (dict(x=X[:, None]), ValueError, r"x of shape \(12, 1\) and .* not"),
    "fewer labels": (dict(y=Y[:11]), ValueError, "same number of examples, got 12 and 11"),
    "fewer inputs": (dict(x=X[:1]), ValueError, "same number of examples, got 1 and 12"),
    "NaN in x": (dict(x=broken(X, 4, NAN)), ValueError, r"x must be finite, got nan at index \(4,"),
    "NaN in y": (dict(y=broken(Y, 0, NAN)), ValueError, r"y must be finite, got nan at index \(0,"),
    "infinity in x": (dict(x=broken(X, 3, -INF)), ValueError, "x must be finite, got -inf at"),
    "infinity in y": (dict(y=broken(Y, 11, INF)), ValueError, r"y must be finite, got inf .*\(11,"),
    "empty x": (dict(x=X[:0], y=Y[:0]), ValueError, r"x must hold at least one .*shape \(0,\)"),
    "empty y": (dict(y=Y[:0]), ValueError, r"y must hold at least one example.*shape \(0,\)"),
    "a single number": (dict(x=X[0]), ValueError, r"x must hold at least one .*shape \(\)"),
    "text": (dict(x="abc"), TypeError, "x must be a torch.Tensor or a NumPy array, got str"),
    "nothing": (dict(y=None), TypeError, "y must be a torch.Tensor or a NumPy array, got NoneType"),
    "list": (dict(x=X.tolist()), TypeError, "x must be a torch.Tensor or a NumPy array, got list"),
    "words": (dict(y=np.array(["a"] * 12)), TypeError, "y must hold numbers, got an array of <U1"),
    "lr 0": (dict(lr=0), ValueError, "lr must be positive, got 0"),
    "lr negative": (dict(lr=-0.1), ValueError, "lr must be positive, got -0.1"),
    "lr NaN": (dict(lr=NAN), ValueError, "lr must be finite, got nan"),
    "lr infinite": (dict(lr=INF), ValueError, "lr must be finite, got inf"),
    "lr text": (dict(lr="a"), TypeError, "lr must be a number, got 'a'"),
    "lr True": (dict(lr=True), TypeError, "lr must be a number, got True"),
    "steps 0": (dict(steps=0), ValueError, "steps must be at least 1, got 0"),
    "steps negative": (dict(steps=-5), ValueError, "steps must be at least 1, got -5"),
    "steps 1.5": (dict(steps=1.5), TypeError, "steps must be an integer, got 1.5"),
    "steps 1e6": (dict(steps=1e6), TypeError, "steps must be an integer, got 1000000.0"),
    "steps True": (dict(steps=True), TypeError, "steps must be an integer, got True"),
    "batch 0": (dict(batch_size=0), ValueError, "batch_size must be at least 1, got 0"),
    "batch 13 of 12": (dict(batch_size=13), ValueError, "batch_size must be at most .* 12, got 13"),
    "batch 1.5": (dict(batch_size=1.5), TypeError, "batch_size must be an integer, got 1.5"),
    "batch True": (dict(batch_size=True), TypeError, "batch_size must be an integer, got True"),
    "seed negative": (dict(seed=-1), ValueError, "seed must be at least 0, got -1"),
    "seed 0.5": (dict(seed=0.5), TypeError, "seed must be an integer, got 0.5"),
    "seed None": (dict(seed=None), TypeError, "seed must be an integer, got None"),
    "noise a number": (dict(noise=0.5), TypeError, r"noise must be .*got 0.5.* LabelNoise\(s\)"),
    "noise text": (dict(noise="gaussian"), TypeError, "noise must be .*got 'gaussian'"),
    "record 0": (dict(record=0), ValueError, "record must be at least 2, got 0"),
    "record 1": (dict(record=1), ValueError, "record must be at least 2, got 1"),
    "record None": (dict(record=None), TypeError, "record must be .*got None"),
    "record True": (dict(record=True), TypeError, "record must be .*got True"),
    "record 2.5": (dict(record=2.5), TypeError, "record must be .*got 2.5"),
    "record text": (dict(record="all"), TypeError, "record must be .*got 'all'"),
    "record empty": (dict(record=[]), ValueError, r"record must hold .* steps = 200, got \[\]"),
    "record beyond": (dict(record=[0, 201]), ValueError, r"record must hold .* got \[0, 201\]"),
    "record negative": (dict(record=[-1, 5]), ValueError, "record must be at least 0, got -1"),
    "record a tensor of fractions": (dict(record=torch.tensor([0.5])), TypeError, r"record must be .*got \[0.5\]"),
    "reg_on": (dict(reg_on=X[:, None]), ValueError, r"reg_on must hold inputs .*x of shape \(12, 1\) and .* not"),
    "record fractions": (dict(record=[0.5]), TypeError, r"record must be .*got \[0.5\]"),
}


class TestBadInput:
    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("case", BAD_INPUT)
    def test_is_named_before_any_work(self, case, engine):
        changes, error, message = BAD_INPUT[case]
        model = ln.TwoLayerReLU(6)
        before = flat(model)
        arguments = dict(x=X, y=Y, lr=0.01, steps=200, noise=ln.LabelNoise(0.5), engine=engine)
        with pytest.raises(error, match=message):
            ln.train(model, progress=False, **arguments | changes)
        np.testing.assert_array_equal(flat(model), before)

    @pytest.mark.parametrize("engine", ["Compiled", "numba", None, ""])
    def test_unknown_engine(self, engine):
        message = f"engine must be one of auto, compiled, torch, got {engine!r}"
        with pytest.raises(ValueError, match=message):
            quick(ln.TwoLayerReLU(6), X, Y, engine=engine)

    def test_compiled_engine_without_a_kernel(self):
        model = nn.Linear(3, 1, dtype=torch.float64)
        message = (
            "engine='compiled' needs .*MLP, DiagonalLinear, MatrixSensing, Product, TwoLayerReLU.* got Linear in torch.float64"
        )
        with pytest.raises(ValueError, match=message):
            quick(model, CLOUD, CLOUD[:, :1], engine="compiled")

    def test_compiled_engine_in_single_precision(self):
        model = ln.TwoLayerReLU(6, dtype=torch.float32)
        with pytest.raises(ValueError, match="float64.* got TwoLayerReLU in torch.float32"):
            quick(model, X, Y, engine="compiled")

    @pytest.mark.parametrize("engine", ["auto", "torch"])
    @pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.1), nn.AlphaDropout(0.1)])
    def test_layers_in_training_mode(self, layer, engine):
        model = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(4, 1)).double()
        before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
        message = rf"{type(layer).__name__} '1' is in training mode.*call model.eval\(\) first"
        with pytest.raises(ValueError, match=message):
            quick(model, CLOUD, CLOUD[:, :1], engine=engine)
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key])
        assert torch.equal(torch.get_rng_state(), rng)

    def test_hook_that_would_never_be_called(self):
        model = nn.Linear(3, 1).double()
        handle = model.weight.register_post_accumulate_grad_hook(lambda p: None)
        with pytest.raises(ValueError, match=r"parameter 'weight' has a hook that training never calls.*: use register_hook"):
            quick(model, CLOUD, CLOUD[:, :1])
        handle.remove()
        assert quick(model, CLOUD, CLOUD[:, :1], steps=2).steps == 2

    def test_buffer_of_another_layout(self):
        model = nn.Linear(3, 1).double()
        model.register_buffer("mask", torch.eye(3).to_sparse())
        with pytest.raises(ValueError, match=r"'mask' of the model is torch.sparse_coo, .*to_dense\(\)"):
            quick(model, CLOUD, CLOUD[:, :1])

    def test_dropout_that_is_no_layer(self):
        class Functional(nn.Linear):
            def forward(self, x):
                return nn.functional.dropout(super().forward(x), training=self.training)

        model = Functional(3, 1).double()
        rng = torch.get_rng_state()
        with pytest.raises(ValueError, match=r"draws random numbers.*call model.eval\(\) first"):
            quick(model, CLOUD, CLOUD[:, :1])
        assert torch.equal(torch.get_rng_state(), rng)
        assert quick(model.eval(), CLOUD, CLOUD[:, :1]).steps == 200

    def test_model_that_is_no_module(self):
        with pytest.raises(TypeError, match="model must be a torch.nn.Module, got function"):
            quick(lambda x: x, X, Y)

    @pytest.mark.parametrize("engine", ENGINES)
    def test_nothing_to_train(self, engine):
        model = ln.TwoLayerReLU(6).requires_grad_(False)
        with pytest.raises(ValueError, match="no trainable parameter"):
            quick(model, X, Y, engine=engine)
        with pytest.raises(ValueError, match="no trainable parameter"):
            quick(nn.ReLU(), X, Y)

    def test_inputs_that_the_model_does_not_take(self):
        message = r"x of shape \(7, 3\) and torch.float64 is not what model takes: mat1 and mat2"
        with pytest.raises(ValueError, match=message):
            quick(nn.Linear(2, 1).double(), CLOUD, CLOUD[:, :1])

    def test_labels_that_would_broadcast(self):
        """(n, 1) against (n,) would silently train on n^2 errors."""
        model = nn.Linear(3, 1, dtype=torch.float64)
        with pytest.raises(ValueError, match=r"y must have the shape .*\(7, 1\), got \(7,\)"):
            quick(model, CLOUD, CLOUD[:, 0])

    def test_model_that_drops_the_dimension_of_the_examples(self):
        class Squeezed(nn.Linear):
            def forward(self, x):
                return super().forward(x).squeeze()

        with pytest.raises(ValueError, match=r"h has shape \(\) for one example"):
            quick(Squeezed(3, 1, dtype=torch.float64), CLOUD, CLOUD[:, 0])

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("poison", [NAN, INF, 1e200])
    def test_model_that_starts_without_a_finite_output(self, engine, poison):
        with pytest.raises(ValueError, match=r"model\(x\) is not finite"):
            quick(ln.Product(poison, 1e200), X, Y, engine=engine)


def test_steps_to_record_in_a_tensor():
    assert quick(ln.Product(), record=torch.tensor([0, 5, 200])).step.tolist() == [0, 5, 200]


def test_buffer_that_is_a_conjugate():
    model = nn.Linear(3, 1).double()
    model.register_buffer("phase", torch.tensor([1j]).conj())
    run = quick(model, CLOUD, CLOUD[:, :1], steps=2)
    assert run.rest["phase"] == -1j and run.model_at(-1).phase == -1j
