"""What the package asks of a model: one gradient per example; and what it leaves of it."""

import copy
import math

import pytest
import torch
from torch import nn
from zoo import Function, assert_as_it_was, numbers, parameter, plain_loop, snapshot, specimen

import labelnoise_utils as ln
from labelnoise_utils.regularizer.hypothesis import (
    attributes_kept,
    check_per_example,
    parameters_kept,
    set_parameters,
    trainable,
    twice_differentiable,
)


@pytest.fixture(autouse=True)
def same_layers_every_time():
    """The layers of torch draw their initial parameters from the global state."""
    torch.manual_seed(0)


def through(function):
    """A linear layer, then the function."""
    return Function(lambda self, x: function(self.layer(x)), layer=nn.Linear(3, 2))


METHODS = ["auto", "ghost", "vmap", "loop"]
WAYS = [*METHODS, "estimate"]


def regularize(model, x, way):
    if way == "estimate":
        return ln.estimate_regularizer(model, x).value
    return ln.implicit_regularizer(model, x, method=way)


def refused(model, x, error, message):
    """By every method, and the model is as it was."""
    before, rng_state = snapshot(model), torch.get_rng_state()
    for way in WAYS:
        with pytest.raises(error, match=message):
            regularize(model, x, way)
    assert_as_it_was(model, before)
    assert torch.equal(torch.get_rng_state(), rng_state)


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
        refused(nn.Linear(3, 1), x, ValueError, "x must be finite, got NaN or infinity in example 3")

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


class Dropped(nn.Linear):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=self.training)


class Counting(nn.Module):
    """Counts its calls in a buffer, in place or by another tensor."""

    def __init__(self, in_place):
        super().__init__()
        self.layer, self.in_place = nn.Linear(3, 2), in_place
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.in_place:
            self.calls += 1
        else:
            self.calls = self.calls + 1
        return self.layer(x) * self.calls


class TestRefused:
    """Where h(x_i) is not a function of x_i and theta, there is no gradient of one example."""

    @pytest.mark.parametrize(
        "layer",
        [
            nn.BatchNorm1d(4),
            nn.SyncBatchNorm(4),
            nn.Dropout(0.5),
            nn.AlphaDropout(0.5),
            nn.FeatureAlphaDropout(0.5),
            nn.RReLU(),
        ],
        ids=lambda layer: type(layer).__name__,
    )
    def test_layer_in_training_mode(self, layer):
        model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(layer), nn.Linear(4, 1)).double()
        message = rf"{type(layer).__name__} '1.0' is in training mode.*call model.eval\(\) first"
        refused(model, numbers(3), ValueError, message)

    def test_the_model_itself_is_such_a_layer(self):
        refused(nn.BatchNorm1d(3), torch.zeros(5, 3), ValueError, "BatchNorm1d 'model' is in training mode")

    def test_batch_norm_without_running_statistics(self):
        """It reads the batch in eval mode too."""
        model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3, track_running_stats=False)).double()
        refused(model.eval(), numbers(2, 4), ValueError, "BatchNorm1d '1' keeps no running statistics and reads the batch")
        refused(model.train(), numbers(2, 4), ValueError, "BatchNorm1d '1' is in training mode")

    @pytest.mark.parametrize(
        "build, shape",
        [
            (lambda: Dropped(3, 2), (3,)),
            (
                lambda: Function(
                    lambda self, x: self.cell(x)[0][:, -1],
                    cell=nn.LSTM(2, 3, num_layers=2, dropout=0.5, batch_first=True),
                ),
                (4, 2),
            ),
            (
                lambda: Function(
                    lambda self, x: self.attend(x, x, x)[0].sum(dim=(1, 2)),
                    attend=nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True),
                ),
                (3, 4),
            ),
        ],
        ids=["functional dropout", "dropout in an lstm", "dropout in attention"],
    )
    def test_chance_that_no_layer_tells(self, build, shape):
        """Falling back on a loop would give another number every time."""
        model, x = build().double(), numbers(*shape)
        with pytest.raises(ValueError, match=r"draws random numbers.*call model.eval\(\) first"):
            check_per_example(model, x)
        before = torch.get_rng_state()
        for way in WAYS:
            with pytest.raises(ValueError, match="draws random numbers"):
                regularize(model, x, way)
        assert torch.equal(torch.get_rng_state(), before)
        model.eval()
        values = [ln.implicit_regularizer(model, x) for _ in range(2)]
        assert torch.equal(*values)

    @pytest.mark.parametrize("in_place", [True, False])
    def test_model_that_changes_a_buffer(self, in_place):
        refused(Counting(in_place), torch.zeros(5, 3), ValueError, "model changes its buffer 'calls' when it is called")

    @pytest.mark.parametrize("in_place", [True, False])
    def test_model_that_changes_a_buffer_and_then_fails(self, in_place):
        model = nn.Sequential(Counting(in_place), nn.Linear(3, 1))
        refused(model, torch.zeros(5, 3), ValueError, r"x of shape \(5, 3\) and torch.float32 is not what model takes")
        assert model[0].calls == 0

    def test_spectral_norm_in_training_mode(self):
        """It goes one power iteration further whenever it is called."""
        model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)), nn.Linear(4, 1)).double()
        refused(model, numbers(3), ValueError, r"changes its buffer '0.parametrizations.weight.0._[uv]'.*call model.eval\(\)")
        assert ln.implicit_regularizer(model.eval(), numbers(3)) > 0

    def test_instance_norm_in_training_mode(self):
        layer = nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
        model = nn.Sequential(nn.Conv1d(2, 3, 2), layer).double()
        refused(model, numbers(2, 4), ValueError, r"changes its buffer '1.running_mean'.*call model.eval\(\)")

    @pytest.mark.parametrize("layer", [nn.Embedding, nn.EmbeddingBag])
    @pytest.mark.parametrize(
        "option, message",
        [
            (dict(max_norm=0.1), "has max_norm, and rescales its own weight"),
            (dict(scale_grad_by_freq=True), "has scale_grad_by_freq"),
        ],
    )
    def test_embedding_options(self, layer, option, message):
        model = nn.Sequential(layer(6, 3, **option), nn.Flatten())
        refused(model, torch.arange(10).reshape(5, 2) % 6, ValueError, rf"{layer.__name__} '0' {message}")

    def test_errors_of_the_model_that_are_no_matter_of_x(self):
        """Are not dressed up as one."""

        def forward(h):
            raise KeyError("a mistake in forward")

        refused(through(forward), torch.zeros(5, 3), KeyError, "a mistake in forward")


class Remembering(nn.Module):
    """As models do that cache a mask, or show their activations."""

    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.Linear(3, 2), None

    def forward(self, x):
        if not hasattr(self, "mask"):
            self.mask = torch.tensor([1.0, 0.5], dtype=x.dtype)
        self.last = self.layer(x) * self.mask
        return self.last.tanh()


class Lazy(nn.Module):
    """Makes its weight when it is first called, and keeps it."""

    def __init__(self):
        super().__init__()
        self.layer, self.weight = nn.Linear(3, 2), None

    def forward(self, x):
        if self.weight is None:
            self.weight = 2 * self.layer.weight
        return self.layer(x).tanh() @ self.weight


class TestWhatStays:
    @pytest.mark.parametrize("way", ["auto", "vmap", "loop"])
    def test_weight_that_is_made_at_the_first_call(self, way):
        """The first calls are those of the checks, where it would have no gradient."""
        model = Lazy().double()
        with pytest.raises(ValueError, match="parameter 'layer.weight' is used outside the call of its layer"):
            ln.per_example_sq_norms(model, numbers(3), method="ghost")
        expected = plain_loop(copy.deepcopy(model), numbers(3))[0]
        torch.testing.assert_close(ln.per_example_sq_norms(model, numbers(3), method=way), expected, rtol=1e-10, atol=0)
        assert model.weight is None

    @pytest.mark.parametrize("way", WAYS)
    def test_attributes_that_the_model_sets(self, way):
        """Under vmap they would be tensors that nobody can read later."""
        model, x = Remembering().double(), numbers(3)
        before = snapshot(model)
        regularize(model, x, way)
        assert_as_it_was(model, before)
        h = model(x)
        last, mask = model.last, model.mask
        regularize(model, x, way)
        assert model.last is last and model.mask is mask
        torch.testing.assert_close(last.tanh(), h)

    @pytest.mark.parametrize("error", [None, KeyboardInterrupt])
    def test_attributes_kept(self, error):
        model = nn.Sequential(nn.Linear(3, 2))
        model[0].old = 1
        try:
            with attributes_kept(model):
                model[0].old, model[0].new = 2, 3
                del model[0].in_features
                if error is not None:
                    raise error
        except KeyboardInterrupt:
            assert error is not None
        assert (model[0].old, model[0].in_features) == (1, 3)
        assert not hasattr(model[0], "new")

    def test_the_choice_of_attention(self):
        """In which kernels torch may take; for the gradient of reg it is one that has a second derivative."""
        model, x = specimen("transformer")
        flags = [torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.mem_efficient_sdp_enabled]
        before = [flag() for flag in flags]
        assert all(before)
        with twice_differentiable(model):
            assert not any(flag() for flag in flags)
        ln.implicit_regularizer(model, x).backward()
        assert [flag() for flag in flags] == before

    def test_recurrent_layers_without_cudnn(self):
        assert torch.backends.cudnn.enabled
        for name, enabled in [("transformer", True), ("lstm", False)]:
            with twice_differentiable(specimen(name)[0]):
                assert torch.backends.cudnn.enabled == enabled
        assert torch.backends.cudnn.enabled
