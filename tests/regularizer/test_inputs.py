"""What x may be, which outputs and parameters count, and under which loss."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from architectures import Function, N, numbers, tokens
from backpack import backpack, extend
from backpack.extensions import DiagGGNExact
from plain import assert_gradients_close, gradient_of, plain_loop
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo import specimen

import labelnoise_utils as ln

METHODS = ["auto", "ghost", "vmap", "loop"]

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")


class Two(nn.Module):
    """Of two inputs, one of them masked, that may come by position or by name; what comes out has fields."""

    def __init__(self, form=lambda h: h):
        super().__init__()
        self.one, self.two, self.out, self.form = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 2), form

    def forward(self, a, b, mask=None, scale=1.0):
        z = scale * self.one(a).tanh() + self.two(b).sin()
        return self.form(self.out(z if mask is None else z * mask))


def joined(model):
    """The same with the inputs side by side, for the plain loop."""
    return Function(lambda self, x: self.inner(x[:, :3], x[:, 3:5], x[:, 5:]), inner=model)


def two(form=lambda h: h):
    model = Two(form).double()
    a, b = numbers(3), numbers(2)
    mask = (numbers(4) > 0).double()
    return model, a, b, mask


@pytest.mark.parametrize("method", METHODS)
class TestForms:
    def expected(self, model, a, b, mask):
        return plain_loop(joined(model), torch.cat([a, b, mask], dim=1))[0]

    def test_tuple_and_dict(self, method):
        model, a, b, mask = two()
        expected = self.expected(model, a, b, mask)
        for x in ((a, b, mask), dict(a=a, b=b, mask=mask), dict(b=b, mask=mask, a=a, scale=1.0), (a, b, mask, 1.0)):
            torch.testing.assert_close(ln.per_example_sq_norms(model, x, method=method), expected, rtol=1e-10, atol=0)
        whole = ln.per_example_sq_norms(model, (a, b, mask), method=method, chunk_size=2)
        torch.testing.assert_close(whole, expected, rtol=1e-10, atol=0)

    def test_constants(self, method):
        model, a, b, mask = two()
        one, other = (ln.implicit_regularizer(model, dict(a=a, b=b, mask=None, scale=s), method=method) for s in (1.0, 3))
        assert one != other
        everywhere = torch.ones_like(mask)
        torch.testing.assert_close(one, self.expected(model, a, b, everywhere).mean(), rtol=1e-10, atol=0)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_arrays(self, dtype, method):
        """Of any floating type; they are brought to the model's."""
        model, a, b, mask = two()
        arrays = [t.numpy().astype(dtype) for t in (a, b, mask)]
        expected = self.expected(model, *(torch.from_numpy(array).double() for array in arrays))
        torch.testing.assert_close(ln.per_example_sq_norms(model, tuple(arrays), method=method), expected, rtol=1e-10, atol=0)
        plain, x = specimen("mlp of several outputs")
        x = x.numpy()[::-1]  # of negative stride
        torch.testing.assert_close(
            ln.per_example_sq_norms(plain, x, method=method),
            plain_loop(plain, torch.from_numpy(x.copy()))[0],
            rtol=1e-10,
            atol=0,
        )

    def test_arrays_of_tokens(self, method):
        """Whole numbers stay whole."""
        model, x = specimen("embedding of tokens")
        torch.testing.assert_close(
            ln.per_example_sq_norms(model, x.numpy(), method=method), plain_loop(model, x)[0], rtol=1e-10, atol=0
        )

    @pytest.mark.parametrize("inputs", [tuple, lambda batch: batch[:3], lambda batch: dict(a=batch[0], b=batch[1])])
    def test_loader(self, inputs, method):
        model, a, b, mask = two()
        loader = DataLoader(TensorDataset(a, b, mask), batch_size=2)
        whole = inputs((a, b, mask))
        expected = ln.per_example_sq_norms(model, whole, method="loop")
        torch.testing.assert_close(
            ln.per_example_sq_norms(model, loader, inputs=inputs, method=method), expected, rtol=1e-10, atol=0
        )
        shares = ln.regularizer_by_parameter(model, loader, inputs=inputs, method=method)
        torch.testing.assert_close(sum(shares.values()), expected.mean(), rtol=1e-10, atol=0)
        batches = ([part[k : k + 1] for part in (a, b, mask)] for k in range(N))
        by_iterator = ln.implicit_regularizer(model, batches, inputs=inputs, method=method)
        torch.testing.assert_close(by_iterator, expected.mean(), rtol=1e-10, atol=0)

    def test_loader_of_inputs_alone(self, method):
        model, x = specimen("mlp of several outputs")
        loader = DataLoader(x, batch_size=3)
        torch.testing.assert_close(
            ln.per_example_sq_norms(model, loader, method=method), plain_loop(model, x)[0], rtol=1e-10, atol=0
        )

    @pytest.mark.parametrize("output", ["h", 1])
    def test_outputs_with_fields(self, output, method):
        @dataclasses.dataclass
        class Out:
            other: object
            h: torch.Tensor

        forms = [lambda h: (None, h)] if output == 1 else [lambda h: dict(other="text", h=h), lambda h: Out(h[0], h)]
        forms += [] if output == 1 else [lambda h: SimpleNamespace(h=h)]
        plain, a, b, mask = two()
        expected = self.expected(plain, a, b, mask)
        for form in forms:
            torch.manual_seed(0)
            model = Two(form).double()
            model.load_state_dict(plain.state_dict())
            measured = ln.per_example_sq_norms(model, (a, b, mask), output=output, method=method)
            torch.testing.assert_close(measured, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    "x, error, message",
    [
        (
            [numbers(3), numbers(2)],
            TypeError,
            "x must be a torch.Tensor or a NumPy array, a tuple or a dict of them, or a DataLo",
        ),
        ("text", TypeError, "x must be a torch.Tensor or .* got str"),
        ((), ValueError, "x must hold at least one tensor"),
        ((1.0, None), ValueError, "x must hold at least one tensor"),
        ({("a",): numbers(3)}, TypeError, r"x must have the names of inputs for keys, got \('a',\)"),
        ((numbers(3), numbers(2)[:3]), ValueError, r"same number of examples along dimension 0, got \{0: 5, 1: 3\}"),
        (dict(a=numbers(3), b=torch.tensor(1.0)), ValueError, r"x\['b'\] must hold at least one example along dimension 0"),
        (dict(a=numbers(3), b=numbers(2) * np.nan), ValueError, r"x\['b'\] must be finite, got nan at index \(0, 0\)"),
        (
            dict(a=numbers(3), c=numbers(2)),
            ValueError,
            r"x with 'a' of shape \(5, 3\) and torch.float64, 'c' .*not what model ta",
        ),
        (np.array(["a", "b"]), TypeError, "x must hold numbers, got an array of <U1"),
        (np.array([object(), None]), TypeError, "x must hold numbers, got an array of object"),
        (
            DataLoader(TensorDataset(numbers(3), numbers(2))),
            TypeError,
            "a batch of x must be .* got list; pick .*inputs=",
        ),
        (DataLoader(numbers(3)[:0]), ValueError, "x must hold at least one batch"),
    ],
)
def test_not_taken(x, error, message):
    for function in (ln.implicit_regularizer, ln.linearize):
        with pytest.raises(error, match=message):
            function(two()[0], x)


def test_bad_options():
    model, a, b, mask = two()
    x = (a, b, mask)
    for options, error, message in [
        (dict(x=[x], inputs=3), TypeError, "inputs must be a function of a batch, got int"),
        (dict(x=a, inputs=tuple), TypeError, "x must be a DataLoader or another iterable of batches where inputs is given"),
        (dict(output="h"), ValueError, "model returns Tensor, which has no field 'h'"),
        (dict(output=1.5), TypeError, "output must be the name or the position of a field, got 1.5"),
        (dict(loss="hinge"), ValueError, "loss must be one of squared, cross_entropy, got 'hinge'"),
        (dict(parameters="none"), ValueError, "parameters holds 'none', which is no trainable parameter of the model"),
        (dict(parameters=[torch.zeros(3)]), ValueError, r"parameters holds a tensor of shape \(3,\), which is no trainable"),
        (dict(parameters=3), TypeError, "parameters must be names or tensors, got int"),
        (dict(parameters=[3]), TypeError, "parameters must be names or tensors, got int"),
        (dict(parameters=[]), ValueError, "parameters must hold at least one name or tensor"),
    ]:
        with pytest.raises(error, match=message):
            ln.implicit_regularizer(model, **dict(x=x) | options)
    with pytest.raises(TypeError, match="model must return a torch.Tensor, got dict: output= says which field of it counts"):
        ln.implicit_regularizer(Two(lambda h: dict(h=h)).double(), x)


@pytest.mark.parametrize("method", METHODS)
class TestParameters:
    @pytest.mark.parametrize("chosen", ["2.weight", "2", ["0", "4.bias"], "4"])
    def test_by_name(self, chosen, method):
        """Of a tensor or of a module; as if the others were frozen."""
        model, x = specimen("frozen layers")
        model.requires_grad_(True)
        wanted = [chosen] if isinstance(chosen, str) else chosen
        names = [name for name, _ in model.named_parameters() if any(f"{name}.".startswith(f"{w}.") for w in wanted)]
        measured = ln.regularizer_by_parameter(model, x, parameters=chosen, method=method)
        assert [*measured] == names
        reg = ln.implicit_regularizer(model, x, parameters=chosen, method=method)
        others = gradient_of(reg, list(model.parameters()))
        for name, p in model.named_parameters():
            p.requires_grad_(name in names)
        norms, gradient = plain_loop(model, x)
        torch.testing.assert_close(sum(measured.values()), norms.mean(), rtol=1e-10, atol=0)
        torch.testing.assert_close(reg, norms.mean(), rtol=1e-10, atol=0)
        kept = [g for g, (name, _) in zip(others, model.named_parameters(), strict=True) if name in names]
        assert_gradients_close(kept, gradient)

    def test_by_tensor(self, method):
        model, x = specimen("mlp of several outputs")
        by_name = ln.per_example_sq_norms(model, x, parameters=[*dict(model.named_parameters())][-2:], method=method)
        by_tensor = ln.per_example_sq_norms(model, x, parameters=[*model.parameters()][-2:], method=method)
        assert torch.equal(by_name, by_tensor)
        one = ln.per_example_sq_norms(model, x, parameters=[*model.parameters()][-1], method=method)
        torch.testing.assert_close(one, torch.full((N,), 2.0, dtype=torch.float64))

    def test_frozen_ones_do_not_count(self, method):
        model, x = specimen("frozen layers")
        with pytest.raises(ValueError, match="parameters holds '0.weight', which is no trainable parameter"):
            ln.implicit_regularizer(model, x, parameters="0.weight", method=method)


class TestByModule:
    def test_sums(self):
        model, x = specimen("transformer")
        by_parameter = ln.regularizer_by_parameter(model, x)
        for depth in (None, 1, 2, 9):
            by_module = ln.regularizer_by_module(model, x, depth=depth)
            assert {*by_module} <= {name for name, _ in model.named_modules()}
            torch.testing.assert_close(sum(by_module.values()), sum(by_parameter.values()))
            for module, share in by_module.items():
                if depth != 1:
                    continue
                expected = sum(s for name, s in by_parameter.items() if name.split(".")[0] == module)
                torch.testing.assert_close(share, expected)
        assert [*ln.regularizer_by_module(model, x, depth=1)] == ["blocks", "head", "token", "position", "norm"]
        assert "blocks.0.into" in ln.regularizer_by_module(model, x)

    def test_parameter_of_the_model_itself(self):
        assert [*ln.regularizer_by_module(ln.Product(), torch.zeros(1))] == [""]

    def test_depth(self):
        with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
            ln.regularizer_by_module(ln.Product(), torch.zeros(1), depth=0)


def gauss_newton_trace(model, x):
    """sum_i tr J_i^T (diag p_i - p_i p_i^T) J_i term by term, and the gradient of its mean, by nothing but autograd."""
    free = [p for p in model.parameters() if p.requires_grad]
    traces = []
    for x_i in x.split(1):
        z = model(x_i)[0]
        z = z.reshape(len(z), -1)  # (classes, positions)
        p, trace = z.softmax(dim=0), 0
        rows = [[torch.autograd.grad(z_kt, free, create_graph=True, materialize_grads=True) for z_kt in z_k] for z_k in z]
        for t in range(z.shape[1]):
            jacobian = torch.stack([torch.cat([g.flatten() for g in row[t]]) for row in rows])
            weights = p[:, t].diag() - p[:, t, None] * p[None, :, t]
            trace = trace + (weights * (jacobian @ jacobian.T)).sum()
        traces.append(trace)
    traces = torch.stack(traces)
    return traces.detach(), gradient_of(traces.mean(), free)


CLASSIFIERS = {
    "mlp": lambda: (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)), numbers(3)),
    "positions": lambda: (nn.Sequential(nn.Conv1d(2, 4, 2), nn.Tanh(), nn.Conv1d(4, 3, 1)), numbers(2, 4)),
    "bare parameter": lambda: (
        Function(lambda self, x: self.a(x) * self.s, a=nn.Linear(3, 4), s=nn.Parameter(torch.ones(4) / 2)),
        numbers(3),
    ),
}


class TestCrossEntropy:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("name", CLASSIFIERS)
    def test_trace_of_the_gauss_newton_matrix(self, name, method):
        model, x = CLASSIFIERS[name]()
        model = model.double()
        if method == "ghost" and name == "bare parameter":
            with pytest.raises(ln.NotCoveredError, match="parameter 's' belongs to Function, which has no rule"):
                ln.implicit_regularizer(model, x, loss="cross_entropy", method=method)
            return
        expected, gradient = gauss_newton_trace(model, x)
        measured = ln.per_example_sq_norms(model, x, loss="cross_entropy", method=method)
        torch.testing.assert_close(measured.detach(), expected, rtol=1e-10, atol=0)
        assert_gradients_close(gradient_of(measured.mean(), list(model.parameters())), gradient)

    @pytest.mark.parametrize("method", METHODS)
    def test_same_as_backpack(self, method):
        model, x = CLASSIFIERS["mlp"]()
        model = model.double()
        shares = ln.regularizer_by_parameter(model, x, loss="cross_entropy", method=method)
        outside, loss = extend(model), extend(nn.CrossEntropyLoss())
        with backpack(DiagGGNExact()):
            loss(outside(x), torch.zeros(N, dtype=torch.int64)).backward()
        for name, p in outside.named_parameters():
            assert shares[name].item() == pytest.approx(p.diag_ggn_exact.sum().item(), rel=1e-10)

    def test_is_the_hessian_by_logits_of_the_expected_loss(self):
        """Labels drawn from p itself: the term with the second derivatives of z averages out."""
        model, x = CLASSIFIERS["mlp"]()
        model = model.double()
        parts = {name: p.detach() for name, p in model.named_parameters()}
        p = model(x).softmax(dim=1).detach()

        def loss(parts):
            z = torch.func.functional_call(model, parts, (x,))
            return -(p * z.log_softmax(dim=1)).sum() / N

        hessian = torch.func.hessian(loss)(parts)
        trace = sum(hessian[name][name].reshape(q.numel(), -1).trace() for name, q in parts.items())
        assert trace.item() == pytest.approx(ln.implicit_regularizer(model, x, loss="cross_entropy").item(), rel=1e-10)

    @pytest.mark.parametrize("dtype, rtol", [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
    def test_sure_classifier(self, dtype, rtol):
        """Where probabilities underflow it is nothing, and so is its gradient, neither NaN."""
        model = nn.Linear(3, 4).to(dtype)
        with torch.no_grad():
            model.weight.mul_(2000)
        x = numbers(3).to(dtype)
        reg = ln.implicit_regularizer(model, x, loss="cross_entropy")
        reg.backward()
        assert reg.dtype == torch.float32 and reg.isfinite() and model.weight.grad.isfinite().all()
        with torch.no_grad():
            model.weight.div_(2000)
        exact = nn.Linear(3, 4).double()
        exact.load_state_dict(model.state_dict())
        expected = ln.implicit_regularizer(exact, x.double(), loss="cross_entropy").item()
        assert ln.implicit_regularizer(model, x, loss="cross_entropy").item() == pytest.approx(expected, rel=rtol)

    def test_needs_classes(self):
        with pytest.raises(ValueError, match=r"loss='cross_entropy' needs classes along dimension 1 of h, got shape \(1,\)"):
            ln.implicit_regularizer(ln.TwoLayerReLU(3), torch.zeros(4).double(), loss="cross_entropy")

    def test_a_single_logit_is_no_two_classes(self):
        """Its softmax is 1 whatever it is, and the trace would be 0."""
        model, x = torch.nn.Linear(3, 1), torch.randn(4, 3)
        for reg in (ln.implicit_regularizer, ln.estimate_regularizer, ln.regularizer_by_parameter):
            with pytest.raises(ValueError, match="needs two classes or more .* got 1; .* the logits 0 and z"):
                reg(model, x, loss="cross_entropy")


def test_linearize_takes_the_same():
    """All forms of x, and the trace of its Gram matrix is reg."""
    model, a, b, mask = two()
    expected = ln.linearize(model, (a, b, mask))
    assert expected.jacobian.shape == (2 * N, sum(p.numel() for p in model.parameters()))
    reg = ln.implicit_regularizer(model, (a, b, mask)).item()
    assert expected.gamma.sum().item() == pytest.approx(reg, rel=1e-10)
    loader = DataLoader(TensorDataset(a, b, mask), batch_size=2)
    for x, options in [
        (dict(a=a, b=b, mask=mask), {}),
        ((a.numpy(), b.numpy(), mask.numpy()), {}),
        (loader, dict(inputs=tuple)),
    ]:
        assert torch.equal(ln.linearize(model, x, **options).jacobian, expected.jacobian)
    field = ln.linearize(Two(lambda h: dict(h=h)).double(), (a, b, mask), output="h")
    assert field.jacobian.shape == expected.jacobian.shape


def test_evaluating():
    """Each module gets back its own mode, also after an error."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 1)).double()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    with ln.evaluating(model) as same:
        assert same is model and not any(module.training for module in model.modules())
        assert ln.implicit_regularizer(model, numbers(3)) > 0
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(KeyError), ln.evaluating(model):
        raise KeyError
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, got builtin"), ln.evaluating(torch.sin):
        pass


def test_tokens_in_several_inputs():
    """An encoder of tokens with a mask, as transformers have it."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 2)

        def forward(self, input_ids, attention_mask):
            z = self.embed(input_ids) * attention_mask[:, :, None]
            return dict(logits=self.out(z.sum(dim=1).tanh()))

    x = dict(input_ids=tokens(6, 7), attention_mask=(tokens(6, 5) > 0).double())
    model = Encoder().double()
    by = [ln.per_example_sq_norms(model, x, output="logits", method=method) for method in METHODS]
    for norms in by[1:]:
        torch.testing.assert_close(norms, by[0], rtol=1e-10, atol=0)
    assert by[0].min() > 0
