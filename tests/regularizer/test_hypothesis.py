"""What the package asks of a model, of its inputs and of what it returns."""

import math

import pytest
import torch
from architectures import Function, numbers, parameter, through
from refusals import WAYS, refused, regularize
from torch import nn
from unchanged import assert_as_it_was, snapshot
from zoo import METHODS, specimen

import labelnoise_utils as ln
from labelnoise_utils.regularizer.hypothesis import check_per_example, parameters_kept, set_parameters, trainable


class TestTrainable:
    def test_parameters_by_name_in_the_order_of_parameters_to_vector(self):
        model, _ = specimen("tied layers")
        model[0].bias.requires_grad_(False)
        parameters = trainable(model)
        assert list(parameters) == ["0.weight", "2.bias", "4.weight", "4.bias"]
        assert all(parameters[name] is model.get_parameter(name) for name in parameters)
        assert parameters["0.weight"] is model[2].weight

    @pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(), nn.Linear(3, 1).requires_grad_(False)])
    def test_none(self, model):
        refused(model, torch.zeros(5, 3), ValueError, "model has no trainable parameter: all have requires_grad=False")

    def test_no_module(self):
        with pytest.raises(TypeError, match="model must be a torch.nn.Module, got builtin_function_or_method"):
            trainable(torch.sin)

    def test_lazy_layer(self):
        model = nn.Sequential(nn.Linear(3, 2), nn.LazyLinear(2))
        for way in WAYS:
            with pytest.raises(ValueError, match=r"parameter '1.weight' of the model has no shape yet: call the model once"):
                regularize(model, torch.zeros(5, 3), way)
        model(torch.zeros(5, 3))
        assert ln.implicit_regularizer(model, torch.zeros(5, 3)) > 0


class TestSetParameters:
    def test_into_the_same_memory(self):
        model, _ = specimen("frozen layers")
        places = [(p, p.data_ptr(), p.dtype) for p in model.parameters()]
        frozen = model[0].weight.clone()
        size = sum(p.numel() for p in trainable(model).values())
        theta = torch.arange(float(size))  # float32 into float64
        set_parameters(model, theta)
        assert torch.equal(nn.utils.parameters_to_vector(trainable(model).values()), theta.double())
        for (p, place, dtype), now in zip(places, model.parameters(), strict=True):
            assert (p is now) and (now.data_ptr(), now.dtype) == (place, dtype)
        assert torch.equal(model[0].weight, frozen)

    @pytest.mark.parametrize("shape", [(0,), (7,), (9,), (8, 1)])
    def test_another_number(self, shape):
        model = nn.Linear(3, 2)
        before = snapshot(model)
        with pytest.raises(ValueError, match=r"theta has shape \(.*\), while the model has 8 trainable parameters"):
            set_parameters(model, torch.zeros(shape))
        assert_as_it_was(model, before)

    @pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
    def test_kept(self, error):
        model, _ = specimen("frozen layers")
        before = snapshot(model)
        try:
            with parameters_kept(model):
                set_parameters(model, torch.zeros(sum(p.numel() for p in trainable(model).values())))
                assert not model[2].weight.any()
                if error is not None:
                    raise error
        except (KeyError, KeyboardInterrupt):
            assert error is not None
        assert_as_it_was(model, before)


class TestX:
    @pytest.mark.parametrize("shape", [(0, 3), (0,), ()])
    def test_no_example(self, shape):
        message = f"x must hold at least one example along dimension 0, got shape {shape}".replace("(", r"\(").replace(
            ")", r"\)"
        )
        refused(nn.Linear(3, 1), torch.zeros(shape), ValueError, message)

    @pytest.mark.parametrize("x", [[1.0], None])
    def test_no_tensor(self, x):
        refused(nn.Linear(3, 1), x, TypeError, f"x must be a torch.Tensor or a NumPy array, .* got {type(x).__name__}")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.complex64])
    def test_not_finite(self, value, dtype):
        x = torch.zeros(5, 2, 3, dtype=dtype)
        x[3, 1, 1] = value
        x[4] = -value
        refused(nn.Linear(3, 1), x, ValueError, rf"x must be finite, got \(?{value}.* at index \(3, 1, 1\)")

    def test_finite_with_a_sum_that_is_not(self):
        """It only decides whether to look closer."""
        model, x = nn.Linear(3, 1).half(), torch.full((9, 3), 3e4).half()
        assert x.sum().isinf()
        check_per_example(model, x)

    @pytest.mark.parametrize(
        "x, message",
        [
            (torch.zeros(5, 4), r"x of shape \(5, 4\) and torch.float32 is not what model takes: mat1 and mat2 shapes"),
            (torch.zeros(5, 3).double(), r"x of shape \(5, 3\) and torch.float64 is not what model takes"),
            (torch.zeros(5, 3, dtype=torch.int64), "torch.int64 is not what model takes"),
            (torch.zeros(5, 3, dtype=torch.complex64), "torch.complex64 is not what model takes"),
            (torch.zeros(5, 3, device="meta"), "x must have values, got a tensor on the meta device"),
        ],
    )
    def test_what_the_model_does_not_take(self, x, message):
        refused(nn.Linear(3, 1), x, ValueError, message)

    def test_tokens_that_the_embedding_does_not_have(self):
        refused(
            nn.Embedding(4, 2), torch.full((5, 3), 4), ValueError, "torch.int64 is not what model takes: index out of range"
        )

    def test_model_without_values(self):
        with pytest.raises(ValueError, match="not what model takes: .*meta"):
            ln.implicit_regularizer(nn.Linear(3, 1, device="meta"), torch.zeros(5, 3))

    def test_model_without_forward(self):
        model = nn.Module()
        model.weight = parameter(3)
        refused(model, torch.zeros(5, 3), ValueError, 'is missing the required "forward" function')

    def test_changed_in_place(self):
        """Each method would call the model another number of times."""
        model = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(3, 1)).double()
        x = numbers(3)
        before = x.clone()
        refused(model, x, ValueError, "model changes x in place when it is called: let it work on a copy")
        assert torch.equal(x, before)

    @pytest.mark.parametrize("x", [torch.ones(5, 3, dtype=torch.bool), torch.arange(15).reshape(5, 3)])
    @pytest.mark.parametrize("method", METHODS)
    def test_any_type_that_the_model_takes(self, x, method):
        model = Function(lambda self, x: self.layer(x.double()), layer=nn.Linear(3, 2)).double()
        expected = 2 * ((x.double() ** 2).sum(dim=1) + 1)
        torch.testing.assert_close(ln.per_example_sq_norms(model, x, method=method), expected, rtol=1e-14, atol=0)


class TestOutput:
    @pytest.mark.parametrize(
        "function, error, message",
        [
            (lambda h: (h, h), TypeError, "model must return a torch.Tensor, got tuple"),
            (lambda h: {"h": h}, TypeError, "model must return a torch.Tensor, got dict"),
            (lambda h: None, TypeError, "model must return a torch.Tensor, got NoneType"),
            (lambda h: h.argmax(dim=1), ValueError, "model must return real numbers, got torch.int64"),
            (lambda h: h > 0, ValueError, "model must return real numbers, got torch.bool"),
            (torch.fft.fft, ValueError, "model must return real numbers, got torch.complex64"),
            (torch.sum, ValueError, r"examples along dimension 0, but h has shape \(\) for one example"),
            (lambda h: h[0], ValueError, r"examples along dimension 0, but h has shape \(2,\) for one example"),
            (lambda h: h.T, ValueError, r"examples along dimension 0, but h has shape \(2, 1\) for one example"),
        ],
    )
    def test_not_real_numbers_by_example(self, function, error, message):
        refused(through(function), torch.zeros(5, 3), error, message)

    @pytest.mark.parametrize("method", METHODS)
    def test_none(self, method):
        """A sum of no outputs."""
        assert ln.per_example_sq_norms(through(lambda h: h[:, :0]), torch.zeros(5, 3), method=method).tolist() == [0] * 5

    @pytest.mark.parametrize("method", METHODS)
    def test_that_does_not_depend_on_a_parameter(self, method):
        for function in (torch.detach, torch.zeros_like):
            assert ln.per_example_sq_norms(through(function), torch.zeros(5, 3), method=method).tolist() == [0] * 5
