"""Training networks that the package does not know: right, or refused before the first step, and no run lost.

Each case is one that users of other tools reported; the report is named where it stands.
"""

import copy
import dataclasses
import functools
import pickle
import threading
import warnings

import numpy as np
import pytest
import torch
from architectures import Normalised
from torch import nn
from torch.nn.utils import parameters_to_vector

import labelnoise_utils as ln

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.sin(X.sum(dim=1, keepdim=True))


def net(dtype=torch.float64):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(dtype)


def train(model, x=X, y=Y, **options):
    return ln.train(model, x, y, **(dict(lr=0.02, steps=200, record=[0, 200], progress=False) | options))


def by_hand(model, x=X, y=Y):
    """Mean squared error and reg by the definition."""
    loss = (model(x).detach() - y).square().sum() / len(x)
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(model(x[i : i + 1]).sum(), parameters) for i in range(len(x))]
    return loss.item(), sum(g.square().sum() for each in gradients for g in each).item() / len(x)


class TestSnapshots:
    def test_of_a_model_whose_forward_was_wrapped(self):
        """Accelerate issue 1835: a copy of it still runs the original."""
        model, plain = net(), net()
        forward = model.forward
        model.forward = lambda z: forward(z)
        expected = by_hand(model)
        run = train(model)
        assert (run.loss[0], run.reg[0]) == pytest.approx(expected, rel=1e-12)
        assert (run.loss[-1], run.reg[-1]) == pytest.approx(by_hand(model), rel=1e-12)
        np.testing.assert_allclose(run.reg, train(plain).reg, rtol=1e-12)
        assert run.model is None
        with pytest.raises(ValueError, match="does not hold its model"):
            run.model_at(-1)
        np.testing.assert_allclose(run.model_at(-1, plain)(X).detach(), model(X).detach(), rtol=1e-12)

    def test_hooks_count_as_they_do_in_the_loop(self):
        """Functorch issue 638: hooks do not fire under vmap."""
        model = net()
        mask = torch.tensor([[1.0], [0.0], [1.0], [0.0]], dtype=torch.float64)
        model[0].weight.register_hook(lambda g: g * mask)
        expected = by_hand(model)
        run = train(model, steps=1, record=[0])
        assert (run.loss[0], run.reg[0]) == pytest.approx(expected, rel=1e-12)

    def test_a_hook_on_one_of_the_book_s_models_sends_it_to_the_other_engine(self):
        model = ln.MLP([3, 4, 1], "tanh")
        model.layers[0].weight.register_hook(torch.zeros_like)
        before = model.layers[0].weight.detach().clone()
        run = train(model, y=Y[:, 0])
        assert run.engine == "torch"
        assert torch.equal(model.layers[0].weight, before)
        with pytest.raises(ValueError, match="engine='compiled' needs"):
            train(model, y=Y[:, 0], engine="compiled")

    def test_where_h_is_another_without_gradients(self):
        """Pytorch issues 128209, 106630: the fast path of a transformer under no_grad, with a padding mask."""
        torch.manual_seed(0)
        padding = torch.zeros(4, 5, dtype=torch.bool)
        padding[:, 3:] = True

        class Masked(nn.Module):
            def __init__(self):
                super().__init__()
                layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
                self.encoder, self.out = nn.TransformerEncoder(layer, 1), nn.Linear(8, 1)

            def forward(self, z):
                return self.out(self.encoder(z, src_key_padding_mask=padding[: len(z)]).sum(dim=1))[:, 0]

        model = Masked().double().eval()
        x = torch.randn(4, 5, 8, dtype=torch.float64)
        y = model(x).detach()
        assert train(model, x, y, steps=1, record=[0]).loss[0] == 0
        assert isinstance(ln.is_non_repellent(model, x, y), bool)

    def test_on_a_probe_set_or_without_reg(self):
        probe = X[:2]
        run = train(net(), reg_on=probe.numpy())
        model = net()
        np.testing.assert_allclose(run.reg[0], by_hand(model, probe, Y[:2])[1], rtol=1e-12)
        assert np.isnan(train(net(), reg_on=False).reg).all()
        for options in (dict(reg_on=probe), dict(reg_on=False)):
            book = [train(ln.MLP([3, 4, 1], "tanh"), y=Y[:, 0], engine=engine, **options) for engine in ("compiled", "torch")]
            np.testing.assert_allclose(book[0].reg, book[1].reg, rtol=1e-10)
        assert book[0].loss[0] == pytest.approx(by_hand(ln.MLP([3, 4, 1], "tanh"), y=Y[:, 0])[0], rel=1e-12)

    def test_without_the_parameters(self):
        full, slim = train(net(), record=20), train(net(), record=20, keep_theta=False)
        for column in ("step", "loss", "reg"):
            np.testing.assert_allclose(getattr(slim, column), getattr(full, column), rtol=1e-12)
        assert slim.theta.shape == (len(slim.step), 0)
        with pytest.raises(ValueError, match="kept no parameters"):
            slim.model_at(-1)

    def test_divergence_without_the_parameters(self):
        model = net()
        with pytest.raises(ln.DivergenceError) as caught:
            train(model, lr=30.0, record=20, keep_theta=False)
        assert parameters_to_vector(model.parameters()).isfinite().all()
        assert np.isfinite(caught.value.last_loss)

    @pytest.mark.parametrize("error", [TypeError, KeyboardInterrupt])
    def test_no_run_is_lost_after_its_last_step(self, monkeypatch, error):
        """Alibi issue 837."""

        def fails(*args, **kwargs):
            raise error("no reg")

        monkeypatch.setattr("labelnoise_utils.regularizer.snapshots.implicit_regularizer", fails)
        with pytest.warns(UserWarning, match="reg of the snapshots is not known, NaN stands for it"):
            run = train(net())
        assert np.isnan(run.reg).all()
        assert run.loss[0] == pytest.approx(by_hand(net())[0], rel=1e-12)
        assert np.isfinite(run.theta).all()


class TestRefusedBeforeTheFirstStep:
    def refused(self, model, match, **options):
        before = {name: values.clone() for name, values in model.state_dict().items()}
        with pytest.raises(ValueError, match=match):
            train(model, **options)
        assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())

    def test_examples_along_another_dimension(self):
        """Opacus issue 650: a sequence-first transformer."""
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16).double().eval()
        x = torch.randn(4, 5, 8, dtype=torch.float64)
        self.refused(layer, "changes with the other examples in its batch", x=x, y=torch.zeros(4, 5, 8), batch_size=None)

    def test_half_precision(self):
        self.refused(net(torch.bfloat16), r"parameter '0.weight' is torch.bfloat16, .*model.float\(\)")

    def test_labels_of_another_shape(self):
        self.refused(net(), r"y must have the shape of model\(x\), \(6, 1\), got \(6,\); .* y.reshape\(\(6, 1\)\)", y=Y[:, 0])


class TestWhatTrains:
    def test_float32_adapters_on_a_bfloat16_base(self):
        """Opacus issue 732."""

        class Adapted(nn.Module):
            def __init__(self):
                super().__init__()
                self.base, self.adapter = nn.Linear(3, 4).bfloat16(), nn.Linear(4, 1)
                self.base.requires_grad_(False)

            def forward(self, z):
                return self.adapter(torch.tanh(self.base(z.bfloat16())).float())

        torch.manual_seed(0)
        run = train(Adapted(), X.float(), Y)
        assert run.loss[-1] < run.loss[0] and run.theta.dtype == np.float32

    def test_inputs_of_another_floating_type_and_arrays(self):
        """As documented, they are cast to the type of the model."""
        runs = [train(net(), x, y) for x, y in ((X.float(), Y), (X.float().numpy(), Y.numpy()))]
        np.testing.assert_array_equal(*[run.theta for run in runs])

    def test_within_autocast(self):
        """Which keeps rounded weights from one call to the next, also after the parameters have changed."""
        model = net(torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            run = train(model, X.float(), Y.float(), steps=1000, record=[0, 1000])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, _ = by_hand(model, X.float(), Y.float())
        assert run.loss[-1] == pytest.approx(loss, rel=1e-6)
        assert run.loss[-1] < run.loss[0] / 2
        assert run.loss[-1] < 2 * train(net(torch.float32), X.float(), Y.float(), steps=1000).loss[-1] + 0.01

    def test_a_model_that_cannot_be_copied(self):
        """Lightning issue 7379."""
        model = net()
        model.lock = threading.Lock()
        run = train(model)
        np.testing.assert_allclose(run.reg, train(net()).reg, rtol=1e-12)
        assert run.model is None


class TestFile:
    @pytest.fixture
    def saved(self, tmp_path):
        model = Normalised()
        train(model).save(tmp_path / "run")
        return model, tmp_path / "run"

    def test_all_that_h_depends_on_is_in_it(self, saved):
        model, path = saved
        again = ln.Run.load(path).model_at(-1, Normalised(seed=1))
        assert torch.equal(again(X), model(X))

    @pytest.mark.parametrize(
        "other",
        [functools.partial(Normalised, squash=torch.relu), net, lambda: nn.Linear(3, 1).double()],
        ids=["relu", "net", "linear"],
    )
    def test_another_model_is_not_taken_for_it(self, saved, other):
        with pytest.raises(ValueError, match="not the model that was trained|trainable parameters"):
            ln.Run.load(saved[1]).model_at(-1, other())

    def test_a_run_in_memory_tells_them_apart_too(self):
        run = train(Normalised())
        with pytest.raises(ValueError, match="its output for the first example is another one"):
            run.model_at(-1, Normalised(squash=torch.relu))

    def test_two_runs_joined_to_one_still_know_it(self):
        """As a chapter does with the stages of a schedule."""
        model = Normalised()
        stages = [train(model), train(model, steps=50, record=[0, 50])]
        joined = dataclasses.replace(
            stages[0],
            **{name: np.concatenate([getattr(run, name) for run in stages]) for name in ("step", "loss", "reg", "theta")},
        )
        assert torch.equal(joined.model_at(-1)(X), model(X))
        assert torch.equal(joined.model_at(-1, Normalised(seed=1))(X), model(X))

    def test_of_a_model_that_cannot_be_copied(self, tmp_path):
        model = Normalised()
        model.lock = threading.Lock()
        train(model).save(tmp_path / "run")
        again = ln.Run.load(tmp_path / "run").model_at(-1, Normalised(seed=1))
        assert torch.equal(again(X), model(X))


class TestErrorsTravel:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_divergence(self, protocol):
        with pytest.raises(ln.DivergenceError) as caught:
            train(net(), lr=30.0)
        caught.value.add_note("in job 3")
        again = pickle.loads(pickle.dumps(caught.value, protocol))
        assert str(again) == str(caught.value) and vars(again) == vars(caught.value)

    def test_every_error_of_the_package(self):
        errors = [kind for name in dir(ln) if isinstance(kind := getattr(ln, name), type) and issubclass(kind, Exception)]
        assert ln.DivergenceError in errors
        for kind in errors:
            error = kind(5, 4, 1.0, 0.1, 0.2) if kind is ln.DivergenceError else kind("why")
            assert str(pickle.loads(pickle.dumps(error))) == str(error)


class TestManyRuns:
    def test_models_that_share_a_tensor_are_refused(self):
        one, other = net(), net()
        other[2] = one[2]
        jobs = [dict(model=model, x=X, y=Y, lr=0.01, steps=10) for model in (one, other)]
        with pytest.raises(ValueError, match=r"jobs 0 and 1 share a tensor of shape \(1, 4\)"):
            ln.train_many(jobs, progress=False)
        one.requires_grad_(False)[0].requires_grad_(True)
        other[2] = copy.deepcopy(one[2])
        other[2].weight = one[2].weight
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(ln.train_many(jobs, progress=False)) == 2  # frozen in both


class TestLabelsForALoopOfOnesOwn:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    @pytest.mark.parametrize("kind", ["rademacher", "uniform", "gaussian"])
    def test_noise_in_the_type_of_the_labels(self, kind, dtype):
        y = torch.full((40_000, 1), 2.0, dtype=dtype)
        noisy = ln.LabelNoise(0.5, kind)(y, torch.Generator().manual_seed(1))
        assert noisy.shape == y.shape and noisy.dtype == dtype
        z = (noisy - y).double()
        assert abs(z.mean()) < 5 * 0.5 / 200
        assert abs(z.square().mean() / 0.25 - 1) < 5 * 1.5 / 200  # the standard deviation of z^2 / .25 is at most sqrt 2
        assert torch.equal(noisy, ln.LabelNoise(0.5, kind)(y, torch.Generator().manual_seed(1)))
        assert not torch.equal(noisy, ln.LabelNoise(0.5, kind)(y))

    def test_flips(self):
        y = torch.arange(5).repeat(20_000)
        flipped = ln.LabelFlip(0.3, 5)(y, torch.Generator().manual_seed(0))
        assert flipped.dtype == y.dtype and flipped.min() == 0 and flipped.max() == 4
        steps = torch.bincount((flipped - y) % 5, minlength=5) / len(y)
        expected = torch.tensor([0.7, 0.075, 0.075, 0.075, 0.075])
        assert ((steps - expected).abs() < 5 * (expected * (1 - expected) / len(y)).sqrt()).all()
        assert torch.equal(ln.LabelFlip(0.0, 5)(y), y)
        assert (ln.LabelFlip(1.0, 5)(y) != y).all()
        small = y[:5].to(torch.uint8)
        for dtype in (torch.uint8, torch.int32, torch.uint16, torch.uint64):
            flipped = ln.LabelFlip(1.0, 5)(small.to(dtype))
            assert flipped.dtype == dtype and (flipped.long() != y[:5]).all()
        assert torch.equal(ln.LabelFlip(5e-324, 5)(y), y)

    @pytest.mark.parametrize(
        "call, error, message",
        [
            (lambda: ln.LabelNoise(0.5)(torch.arange(3)), TypeError, "floating-point labels, got torch.int64"),
            (lambda: ln.LabelNoise(0.5)([1.0]), TypeError, "got list"),
            (lambda: ln.LabelFlip(1.5, 3), ValueError, "p must be at most 1, got 1.5"),
            (lambda: ln.LabelFlip(-0.1, 3), ValueError, "p must be at least 0"),
            (lambda: ln.LabelFlip(0.1, 1), ValueError, "classes must be at least 2, got 1"),
            (lambda: ln.LabelFlip(0.1, 3)(torch.zeros(3)), TypeError, "integer classes, got torch.float32"),
            (lambda: ln.LabelFlip(0.1, 3)(torch.tensor([0, 3])), ValueError, "classes 0 to 2, got 0 to 3"),
        ],
    )
    def test_what_is_refused(self, call, error, message):
        with pytest.raises(error, match=message):
            call()
