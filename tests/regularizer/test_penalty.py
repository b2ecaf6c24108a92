"""The estimate in training: outputs that are at hand, checks that do not cost, inputs of all kinds, a tolerance."""

import pytest
import torch
import torch.nn.functional as F
from architectures import Function, mlp, numbers
from plain import assert_gradients_close, gradient_of
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, TensorDataset
from zoo import specimen

import labelnoise_utils as ln


class Calls:
    """How often a model has been called."""

    def __init__(self, model):
        self.count = 0
        model.register_forward_hook(self)

    def __call__(self, *_):
        self.count += 1


class TestOutputsAtHand:
    @pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
    def test_same_value_and_gradient(self, loss):
        model, x = mlp(3), numbers(3)
        expected = ln.estimate_regularizer(model, x, draws=2, seed=0, loss=loss)
        measured = ln.estimate_regularizer(model, x, draws=2, seed=0, loss=loss, h=model(x))
        torch.testing.assert_close(tuple(measured), tuple(expected), rtol=1e-12, atol=0)
        free = list(model.parameters())
        assert_gradients_close(gradient_of(measured.value, free), gradient_of(expected.value, free))

    def test_a_field_of_what_the_model_returned(self):
        model, x = Function(lambda self, x: {"logits": self.layer(x)}, layer=nn.Linear(3, 2).double()), numbers(3)
        measured = ln.estimate_regularizer(model, x, seed=0, output="logits", h=model(x)).value
        assert measured.item() == ln.estimate_regularizer(model, x, seed=0, output="logits").value.item()

    def test_the_loss_may_be_differentiated_after_it_and_with_it(self):
        model, x, y = mlp(3), numbers(3), torch.tensor([0, 1, 2, 1, 0])
        free = list(model.parameters())
        h = model(x)
        penalty = ln.estimate_regularizer(model, x, seed=0, h=h).value
        together = gradient_of(F.cross_entropy(h, y) + 0.1 * penalty, free)
        of_loss = gradient_of(F.cross_entropy(model(x), y), free)
        of_penalty = gradient_of(ln.estimate_regularizer(model, x, seed=0).value, free)
        assert_gradients_close(together, [one + 0.1 * other for one, other in zip(of_loss, of_penalty, strict=True)])

    def test_without_a_graph(self):
        model, x = mlp(), numbers(3)
        with pytest.raises(ValueError, match="h has no graph of autograd"):
            ln.estimate_regularizer(model, x, h=model(x).detach())
        with pytest.raises(ValueError, match="h has a graph of autograd that does not reach the parameters"):
            ln.estimate_regularizer(model, x, h=model(x).detach().requires_grad_())

    def test_of_other_inputs(self):
        model, x = mlp(), numbers(3)
        with pytest.raises(
            ValueError, match="h of example 0 is not what the model gives for this example alone: it was computed in an"
        ):
            ln.estimate_regularizer(model, x, h=model(2 * x))
        with pytest.raises(ValueError, match="h has shape .* for 5 examples"):
            ln.estimate_regularizer(model, x, h=model(x[:3]))

    def test_of_another_mode(self):
        model, x = nn.Sequential(nn.Linear(3, 9), nn.Dropout(), nn.Linear(9, 2)).double(), numbers(3)
        h = model(x)
        with ln.evaluating(model), pytest.raises(ValueError, match="it was computed in another mode, .*; leave h out"):
            ln.estimate_regularizer(model, x, h=h)

    @pytest.mark.parametrize("options", [dict(chunk_size=2), dict(inputs=lambda batch: batch)])
    def test_of_several_batches(self, options):
        model, x = mlp(), numbers(3)
        with pytest.raises(ValueError, match="h can be given for a single batch without chunk_size only"):
            ln.estimate_regularizer(model, x if "chunk_size" in options else [x, x], h=model(x), **options)

    def test_fused_attention_is_named(self):
        """Without h the package chooses attention that can be differentiated twice."""
        encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).double().eval()
        x = numbers(4, 8)
        for _ in range(3):
            ln.estimate_regularizer(encoder, x, seed=0).value.backward()
        with pytest.raises(ValueError, match="fused attention .* cannot be differentiated twice"):
            ln.estimate_regularizer(encoder, x, h=encoder(x))
        with sdpa_kernel(SDPBackend.MATH):
            h = encoder(x)
        ln.estimate_regularizer(encoder, x, h=h).value.backward()


class TestChecks:
    def test_a_training_loop_does_not_pay_for_them(self):
        """Of 64 calls seven are checked, with four more calls of the model each; with h at hand there are no others."""
        model, x = mlp(), numbers(3)
        calls = Calls(model)
        for _ in range(64):
            ln.estimate_regularizer(model, x)
        assert calls.count == 64 + 7 * 4
        calls.count = 0
        for _ in range(64):
            ln.estimate_regularizer(model, x, h=model(x))
        assert calls.count == 64 + 7 * 4

    def test_nor_does_one_that_measures_between_the_steps(self):
        """Calls of each kind are counted apart."""
        model, x = mlp(), numbers(3)
        calls = Calls(model)
        for _ in range(32):
            ln.estimate_regularizer(model, x)
            with torch.no_grad():
                ln.estimate_regularizer(model, x)
        assert calls.count == 2 * (32 + 6 * 4)

    @pytest.mark.parametrize("layer", [nn.Dropout(), nn.BatchNorm1d(3)], ids=lambda layer: type(layer).__name__)
    def test_another_mode_is_seen_at_once(self, layer):
        model = nn.Sequential(nn.Linear(3, 3), layer, nn.Linear(3, 2)).double().eval()
        x = numbers(3)
        for _ in range(3):
            ln.estimate_regularizer(model, x)
        model.train()
        for _ in range(3):
            with pytest.raises(ValueError, match="is in training mode"):
                ln.estimate_regularizer(model, x)
        model.eval()
        ln.estimate_regularizer(model, x)

    def test_a_model_that_is_refused_is_refused_again(self):
        model = Function(lambda self, x: F.dropout(self.layer(x)), layer=nn.Linear(3, 2).double())
        for _ in range(4):
            with pytest.raises(ValueError, match="model draws random numbers"):
                ln.estimate_regularizer(model, numbers(3))

    def test_one_example_says_nothing_about_many(self):
        """Alone, or in chunks of one, an example has no others to depend on."""
        model = Function(lambda self, x: self.layer(x) - self.layer(x).mean(dim=0), layer=nn.Linear(3, 2).double())
        x = numbers(3)
        for _ in range(3):
            ln.estimate_regularizer(model, x[:1])
            ln.estimate_regularizer(model, x, chunk_size=1)
        with pytest.raises(ValueError, match="use chunk_size=1"):
            ln.estimate_regularizer(model, x)

    def test_what_comes_later_is_seen_at_the_next_occasion(self):
        model = Function(lambda self, x: self.noise(self.layer(x)), layer=nn.Linear(3, 2).double())
        model.noise = lambda z: z
        for _ in range(5):
            ln.estimate_regularizer(model, numbers(3))
        model.noise = F.dropout
        with pytest.raises(ValueError, match="model draws random numbers"):
            for _ in range(3):
                ln.estimate_regularizer(model, numbers(3))


class TestInputs:
    @pytest.mark.parametrize(
        "options",
        [{}, dict(loss="cross_entropy"), dict(parameters=["0.weight", "4"])],
        ids=["all", "cross-entropy", "some parameters"],
    )
    @pytest.mark.parametrize("x", [numbers(3), numbers(3).numpy(), (numbers(3),), {"input": numbers(3)}], ids=type)
    def test_what_the_exact_functions_take(self, x, options):
        """Within five standard errors, in the mean and each parameter and example."""
        model = mlp(3)
        with torch.no_grad():
            value, error = ln.estimate_regularizer(model, x, draws=200, seed=1, **options)
            assert abs(value - ln.implicit_regularizer(model, x, **options)) < 5 * error
            exact = ln.regularizer_by_parameter(model, x, **options)
            by_parameter = ln.estimate_regularizer_by_parameter(model, x, draws=200, seed=1, **options)
            assert [*by_parameter] == [*exact]
            assert all(abs(of.value - exact[name]) <= 5 * of.standard_error for name, of in by_parameter.items())
            value, error = ln.estimate_per_example_sq_norms(model, x, draws=200, seed=1, **options)
            norms = ln.per_example_sq_norms(model, x, **options)
            assert ((value - norms).abs() < 5 * error).all()

    @pytest.mark.parametrize("tolerance", [None, 0.2])
    def test_loader(self, tolerance):
        """Batches are chunks; the estimates by example come in their order."""
        model, x = mlp(), numbers(3)
        loader = DataLoader(TensorDataset(x, x), batch_size=2)
        options = dict(draws=100, seed=1, tolerance=tolerance, inputs=lambda batch: batch[0])
        with torch.no_grad():
            value, error = ln.estimate_regularizer(model, loader, **options)
            assert abs(value - ln.implicit_regularizer(model, x)) < 5 * error
            assert tolerance is None or error <= tolerance * value
            value, error = ln.estimate_per_example_sq_norms(model, loader, **options)
            assert ((value - ln.per_example_sq_norms(model, x)).abs() < 5 * error).all()

    def test_default_device(self):
        """small-text issue 2: where torch makes new tensors is not where the model is."""
        model, x = mlp(), numbers(3)
        ways = [ln.estimate_regularizer, ln.estimate_per_example_sq_norms]
        expected = [way(model, x, draws=2, seed=0) for way in ways]
        torch.set_default_device("meta")
        try:
            measured = [way(model, x, draws=2, seed=0) for way in ways]
            fresh = [way(model, x).value for way in ways]
        finally:
            torch.set_default_device(None)
        for one, other in zip(measured, expected, strict=True):
            torch.testing.assert_close(tuple(one), tuple(other), rtol=0, atol=0)
        assert all(value.isfinite().all() for value in fresh)

    def test_parameters_of_two_types(self):
        model = Function(lambda self, x: self.out(self.into(x).double()), into=nn.Linear(3, 2), out=nn.Linear(2, 1).double())
        x = numbers(3).float()
        value = ln.estimate_regularizer(model, x, chunk_size=1).value
        torch.testing.assert_close(value, ln.implicit_regularizer(model, x, method="loop").to(value.dtype), rtol=1e-6, atol=0)


class TestTolerance:
    @pytest.mark.parametrize("way", [ln.estimate_regularizer, ln.estimate_regularizer_by_parameter])
    def test_met(self, way, recwarn):
        model, x = specimen("transformer")
        with torch.no_grad():
            estimates = way(model, x, tolerance=0.03, max_draws=10**5, seed=0)
            value, error = ln.estimate_regularizer(model, x, tolerance=0.03, max_draws=10**5, seed=0)
        assert 0.01 * value < error <= 0.03 * value
        total = estimates.value if way is ln.estimate_regularizer else sum(of.value for of in estimates.values())
        torch.testing.assert_close(total, value, rtol=1e-12, atol=0)
        assert not recwarn

    def test_met_per_example(self):
        """In the mean over examples."""
        model, x = mlp(4), numbers(3)
        with torch.no_grad():
            value, error = ln.estimate_per_example_sq_norms(model, x, tolerance=0.02, max_draws=10**5, seed=0)
        assert error.square().sum().sqrt() / 5 < 0.03 * value.mean()

    def test_not_met(self):
        with torch.no_grad(), pytest.warns(UserWarning, match="after 20 draws the standard error .* above tolerance=1e-06"):
            ln.estimate_regularizer(mlp(), numbers(3), tolerance=1e-6, max_draws=20)

    def test_no_fewer_draws_than_sixteen(self):
        """Two draws of two examples are equal half of the time, and would seem exact."""
        model, x = mlp(1), numbers(3)[:2]
        with torch.no_grad():
            errors = [ln.estimate_regularizer(model, x, tolerance=9.0, seed=seed).standard_error.item() for seed in range(20)]
        assert min(errors) > 0

    def test_no_more_draws_than_it_takes(self):
        """Where one draw is exact, and where h does not depend on theta."""
        model, x = mlp(1), numbers(3)[:1]
        assert ln.estimate_regularizer(model, x, tolerance=1e-9, max_draws=16).standard_error < 1e-12
        constant = Function(lambda self, x: self.layer(x).detach(), layer=nn.Linear(3, 2))
        assert ln.estimate_regularizer(constant, torch.zeros(5, 3), tolerance=1e-9, max_draws=16) == (0, 0)
