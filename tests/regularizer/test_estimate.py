"""The estimate from random signs: unbiased, with an honest standard error, and named as what it is."""

import itertools
import math

import pytest
import torch
from architectures import Function, N, mlp, numbers
from plain import assert_gradients_close, flat_gradient, gradient_of, plain_loop
from torch import nn
from unchanged import assert_as_it_was, snapshot
from zoo import METHODS, specimen

import labelnoise_utils as ln


@pytest.fixture
def every_sign(monkeypatch):
    """In place of random signs every pattern of the signs of (n, outputs), once; as many draws as that takes."""

    def start(entries):
        patterns = itertools.cycle(itertools.product([0, 1], repeat=entries))
        monkeypatch.setattr(torch, "randint", lambda high, shape, **rest: torch.tensor(next(patterns)).reshape(shape))
        return 2**entries

    return start


class TestUnbiased:
    @pytest.mark.parametrize("outputs", [1, 2])
    @pytest.mark.parametrize("n", [2, 3])
    def test_over_all_signs_it_is_reg(self, every_sign, n, outputs):
        """And so is its gradient: no product between two examples or outputs is left over."""
        model, x = mlp(outputs), numbers(3)[:n]
        norms, gradient = plain_loop(model, x)
        value, _ = ln.estimate_regularizer(model, x, draws=every_sign(n * outputs))
        assert value.item() == pytest.approx(norms.mean().item(), rel=1e-12)
        assert_gradients_close(gradient_of(value, list(model.parameters())), gradient)

    def test_over_all_signs_of_each_chunk(self, every_sign):
        """The signs of one chunk with those of another: their products were never there."""
        model, x = mlp(1), numbers(3)[:4]
        value, _ = ln.estimate_regularizer(model, x, draws=every_sign(2), chunk_size=2)
        assert value.item() == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-12)

    def test_standard_error_is_that_of_the_mean_of_the_draws(self, every_sign):
        """With two examples and one output the draws are reg +- the product of the two gradients."""
        model, x = mlp(1), numbers(3)[:2]
        g = [
            torch.cat([g.flatten() for g in torch.autograd.grad(model(x_i).squeeze(), list(model.parameters()))])
            for x_i in x.split(1)
        ]
        product = (g[0] @ g[1]).item()
        _, standard_error = ln.estimate_regularizer(model, x, draws=every_sign(2))
        # Of the four draws two are reg + product and two reg - product.
        assert standard_error.item() == pytest.approx(abs(product) * math.sqrt(4 / 3) / math.sqrt(4), rel=1e-10)

    @pytest.mark.parametrize("name", ["transformer", "tied layers", "lstm", "complex parameters", "embedding, sparse, padding"])
    def test_near_reg(self, name):
        """Within four standard errors, which are small enough to say something; for layers of all kinds."""
        model, x = specimen(name)
        reg = plain_loop(model, x)[0].mean().item()
        value, standard_error = ln.estimate_regularizer(model, x, draws=400)
        assert 0 < standard_error.item() < 0.1 * reg
        assert abs(value.item() - reg) < 4 * standard_error.item()

    def test_standard_error_is_calibrated(self):
        """About 95 % of the estimates are within two of them; half as many, or all, would not pass."""
        model, x = mlp(), numbers(3)
        with torch.no_grad():
            reg = ln.implicit_regularizer(model, x).item()
            pairs = [ln.estimate_regularizer(model, x, draws=32, seed=seed) for seed in range(200)]
        within = [abs(value.item() - reg) < 2 * standard_error.item() for value, standard_error in pairs]
        assert 0.9 <= sum(within) / 200 <= 0.99
        mean = sum(value.item() for value, _ in pairs) / 200
        error_of_mean = math.sqrt(sum(standard_error.item() ** 2 for _, standard_error in pairs)) / 200
        assert abs(mean - reg) < 3 * error_of_mean
        assert error_of_mean < 0.02 * reg

    def test_mean_of_the_gradients(self):
        model, x = mlp(), numbers(3)
        expected = nn.utils.parameters_to_vector(plain_loop(model, x)[1])
        measured = flat_gradient(ln.estimate_regularizer(model, x, draws=2000).value, model)
        assert torch.linalg.norm(measured - expected) < 0.1 * torch.linalg.norm(expected)


class TestByParameter:
    def test_over_all_signs(self, every_sign):
        model, x = mlp(), numbers(3)[:2]
        expected = ln.regularizer_by_parameter(model, x)
        estimates = ln.estimate_regularizer_by_parameter(model, x, draws=every_sign(4))
        assert [*estimates] == [*expected]
        for name, (value, standard_error) in estimates.items():
            assert value.item() == pytest.approx(expected[name].item(), rel=1e-12)
            assert standard_error.item() > 0 or name == "4.bias"  # whose gradients are at right angles, but for the examples

    def test_near_the_terms_of_reg(self):
        model, x = specimen("transformer")
        expected = plain_loop(model, x)[0].mean().item()
        with torch.no_grad():
            exact = ln.regularizer_by_parameter(model, x)
            estimates = ln.estimate_regularizer_by_parameter(model, x, draws=400, seed=0)
        for name, (value, standard_error) in estimates.items():
            assert abs(value - exact[name]) <= 5 * standard_error
        assert sum(of.standard_error for of in estimates.values()) < 0.2 * expected

    def test_they_sum_to_the_estimate(self):
        model, x = mlp(), numbers(3)
        value = ln.estimate_regularizer(model, x, draws=3, seed=1).value
        estimates = ln.estimate_regularizer_by_parameter(model, x, draws=3, seed=1)
        total = sum(of.value for of in estimates.values())
        torch.testing.assert_close(total, value, rtol=1e-12, atol=0)
        free = list(model.parameters())
        assert_gradients_close(gradient_of(total, free), gradient_of(value, free))


class TestPerExample:
    @pytest.mark.parametrize("method", METHODS)
    def test_over_all_signs_of_one_example(self, every_sign, method):
        model, x = mlp(3), numbers(3)[:1]
        norms, gradient = plain_loop(model, x)
        value, standard_error = ln.estimate_per_example_sq_norms(model, x, draws=every_sign(3), method=method)
        torch.testing.assert_close(value.detach(), norms, rtol=1e-12, atol=0)
        assert value.shape == standard_error.shape == (1,)
        assert standard_error.item() > 0
        assert_gradients_close(gradient_of(value.sum(), list(model.parameters())), gradient)

    @pytest.mark.parametrize("name", ["transformer", "tied layers", "embedding, sparse, padding"])
    def test_near_the_norms(self, name):
        """Each example within five standard errors."""
        model, x = specimen(name)
        norms = plain_loop(model, x)[0]
        with torch.no_grad():
            value, standard_error = ln.estimate_per_example_sq_norms(model, x, draws=100, seed=0)
        assert ((value - norms).abs() <= 5 * standard_error + 1e-10 * norms).all()
        assert (standard_error < 0.2 * norms).all()

    def test_one_output_is_exact(self):
        model, x = mlp(1), numbers(3)
        torch.testing.assert_close(ln.estimate_per_example_sq_norms(model, x).value.detach(), plain_loop(model, x)[0])

    def test_errs_less_than_signs_of_the_examples(self):
        model, x = mlp(4), numbers(3)
        with torch.no_grad():
            norms = [ln.estimate_per_example_sq_norms(model, x, seed=seed).value.mean() for seed in range(100)]
            over_all = [ln.estimate_regularizer(model, x, seed=seed).value for seed in range(100)]
        assert 1.5 * torch.stack(norms).std() < torch.stack(over_all).std()

    def test_inputs_by_position_and_by_name(self):
        """Also where a model calls its inputs as this package calls its own."""
        model, x, signs = Scaled(), numbers(3), numbers(1)
        expected = ln.per_example_sq_norms(model, {"x": x, "signs": signs})
        for given in ({"x": x, "signs": signs}, (x, signs), {0: x, "signs": signs, "power": 2}):
            torch.testing.assert_close(ln.estimate_per_example_sq_norms(model, given, method="ghost").value, expected)

    def test_model_is_left_as_it_was(self):
        model, x = specimen("transformer")
        before = snapshot(model)
        ln.estimate_per_example_sq_norms(model, x)
        assert_as_it_was(model, before)

    def test_refused(self):
        model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(), nn.Linear(3, 2))
        with pytest.raises(ValueError, match="Dropout '1' is in training mode"):
            ln.estimate_per_example_sq_norms(model, torch.zeros(5, 3))


class Scaled(nn.Module):
    """One output, of two inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1).double()

    def forward(self, x, signs, power=2):
        return self.layer(x) * signs**power


class TestExact:
    @pytest.mark.parametrize("chunk_size, x", [(None, numbers(3)[:1]), (1, numbers(3))], ids=["one example", "chunks of one"])
    def test_one_example_and_one_output(self, chunk_size, x):
        """A sign does not change a norm."""
        model = mlp(1)
        norms, gradient = plain_loop(model, x)
        value, standard_error = ln.estimate_regularizer(model, x, draws=2, chunk_size=chunk_size)
        assert value.item() == pytest.approx(norms.mean().item(), rel=1e-12)
        assert standard_error.item() == 0
        assert_gradients_close(gradient_of(value, list(model.parameters())), gradient)

    def test_gradients_at_right_angles(self):
        """The rows of an embedding: there are no products to average out."""
        layer = nn.Embedding(N, 3).double()
        value, standard_error = ln.estimate_regularizer(layer, torch.arange(N), draws=3)
        assert (value.item(), standard_error.item()) == (3, 0)

    def test_no_dependence(self):
        model = Function(lambda self, x: self.layer(x).detach(), layer=nn.Linear(3, 2))
        value, standard_error = ln.estimate_regularizer(model, torch.zeros(5, 3), draws=2)
        assert (value, standard_error) == (0, 0)

    def test_smaller_chunks_err_less(self):
        model, x = mlp(1), numbers(3)
        errors = [ln.estimate_regularizer(model, x, draws=200, chunk_size=size).standard_error.item() for size in (5, 2, 1)]
        assert errors[0] > 1.2 * errors[1]
        assert errors[2] < 1e-12 * errors[1]


def test_fields():
    estimate = ln.estimate_regularizer(mlp(), numbers(3), draws=2)
    assert isinstance(estimate, ln.Estimate)
    assert estimate._fields == ("value", "standard_error")
    assert estimate.value.shape == estimate.standard_error.shape == ()
    assert estimate.value.requires_grad and not estimate.standard_error.requires_grad


def test_seeds():
    """The same numbers for the same seed, others for others or none; the state that the program draws from is left alone."""
    model, x = mlp(), numbers(3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    values = [ln.estimate_regularizer(model, x, seed=seed).value.item() for seed in (0, 0, 1, 2, None, None)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert ln.estimate_regularizer(model, x, seed=0).value.item() == values[0] == values[1]
    assert len({*values}) == 5
    torch.manual_seed(1)
    assert ln.estimate_regularizer(model, x).value.item() not in values


def test_a_generator_moves_on():
    model, x = mlp(), numbers(3)
    generator = torch.Generator().manual_seed(0)
    values = [ln.estimate_regularizer(model, x, seed=generator).value.item() for _ in range(2)]
    assert values[0] == ln.estimate_regularizer(model, x, seed=0).value.item() != values[1]
    both = ln.estimate_regularizer(model, x, draws=2, seed=0).value.item()
    assert both == pytest.approx(sum(values) / 2, rel=1e-12)


def test_one_draw_does_not_tell_its_error(recwarn):
    value, standard_error = ln.estimate_regularizer(mlp(), numbers(3))
    assert value.isfinite() and standard_error.isnan() and not standard_error.requires_grad
    assert not recwarn


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_value_is_the_same(mode):
    model, x = mlp(), numbers(3)
    expected = ln.estimate_regularizer(model, x, draws=2, seed=0)
    with mode():
        measured = [ln.estimate_regularizer(model, part, draws=2, seed=0) for part in (x, x.clone())]
    for estimate in measured:
        torch.testing.assert_close(tuple(estimate), tuple(v.detach() for v in expected), rtol=1e-12, atol=0)
        assert not estimate.value.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """Squares beyond its range."""
    value, _ = ln.estimate_regularizer(nn.Linear(3, 1).to(dtype), torch.full((1, 3), 300.0, dtype=dtype))
    assert value.dtype == torch.float32
    assert value.item() == 270001


def test_module_is_left_as_it_was():
    for name in ("transformer", "lstm", "pruned", "frozen layers"):
        model, x = specimen(name)
        before = snapshot(model)
        value, _ = ln.estimate_regularizer(model, x)
        gradient_of(value, [p for p in model.parameters() if p.requires_grad])
        assert_as_it_was(model, before)


class TestRefused:
    @pytest.mark.parametrize("name", ["centred over the batch", "summed along the batch", "batch norm of the batch"])
    def test_h_that_changes_with_the_batch(self, name):
        """Of one sum over a batch no per-example gradients can be told; example by example they can."""
        model, x = specimen(name)
        reg = plain_loop(model, x)[0].mean().item()
        with pytest.raises(
            ValueError, match="h of example (0|4) changes with the other examples in its batch: use chunk_size=1"
        ):
            ln.estimate_regularizer(model, x)
        value, standard_error = ln.estimate_regularizer(model, x, draws=400, chunk_size=1)
        assert abs(value.item() - reg) < 4 * standard_error.item() < 0.4 * reg

    @pytest.mark.parametrize(
        "changes, error, message",
        [
            (dict(draws=0), ValueError, "draws must be at least 1, got 0"),
            (dict(draws=2.5), TypeError, "draws must be an integer, got 2.5"),
            (dict(chunk_size=0), ValueError, "chunk_size must be at least 1, got 0"),
            (dict(chunk_size=1.5), TypeError, "chunk_size must be an integer, got 1.5"),
            (dict(seed=-1), ValueError, "seed must be at least 0, got -1"),
            (dict(seed="1"), TypeError, "seed must be an integer, got '1'"),
            (dict(tolerance=0), ValueError, "tolerance must be positive, got 0"),
            (dict(tolerance="1"), TypeError, "tolerance must be a number, got '1'"),
            (dict(tolerance=0.1, max_draws=15), ValueError, "max_draws must be at least 16, got 15"),
            (dict(tolerance=0.1, draws=99, max_draws=50), ValueError, "max_draws must be at least 99, got 50"),
            (dict(loss="hinge"), ValueError, "loss must be one of squared, cross_entropy, got 'hinge'"),
            (dict(parameters="body"), ValueError, "parameters holds 'body', which is no trainable parameter"),
        ],
    )
    def test_bad_arguments(self, changes, error, message):
        ways = [ln.estimate_regularizer, ln.estimate_regularizer_by_parameter, ln.estimate_per_example_sq_norms]
        for way in ways:
            with pytest.raises(error, match=message):
                way(nn.Linear(3, 1), torch.zeros(5, 3), **changes)
