"""The regularizer is exact for any module: against a plain autograd loop and closed forms."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import labelnoise_utils as ln

N = 5


@pytest.fixture(autouse=True)
def same_layers_every_time():
    """The layers of torch draw their initial parameters from the global state."""
    torch.manual_seed(0)


class Function(nn.Module):
    """A module from its parts and a forward function."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def numbers(*shape):
    return torch.from_numpy(np.random.default_rng(len(shape)).normal(size=(N, *shape)))


def parameter(*shape):
    return nn.Parameter(torch.from_numpy(np.random.default_rng(9).normal(size=shape)))


def tied_weights():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), first), numbers(3)


def frozen_layers():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    model[2].bias.requires_grad_(False)
    return model, numbers(3)


def trained_batch_norm():
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(9, 1))
    with torch.no_grad():
        model.double()(numbers(2, 4))  # running statistics that are not 0 and 1
    return model.eval(), numbers(2, 4)


ZOO = {
    "product": lambda: (ln.Product(3.0, 4.0), numbers()),
    "two-layer relu": lambda: (ln.TwoLayerReLU(6), numbers()),
    "mlp of several outputs": lambda: (ln.MLP([3, 5, 4, 2], "tanh"), numbers(3)),
    "convolution in groups": lambda: (
        nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 3)),
        numbers(4, 5, 5),
    ),
    "layer norm": lambda: (
        nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 1)),
        numbers(3),
    ),
    "group norm": lambda: (
        nn.Sequential(nn.Conv1d(2, 4, 1), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(12, 1)),
        numbers(2, 3),
    ),
    "embedding of tokens": lambda: (
        Function(
            lambda self, x: self.out(self.embed(x).tanh().mean(dim=1)),
            embed=nn.Embedding(7, 4),
            out=nn.Linear(4, 2),
        ),
        torch.arange(N * 3).reshape(N, 3) % 7,
    ),
    "tied weights": tied_weights,
    "layer called twice": lambda: (
        Function(lambda self, x: self.layer(self.layer(x).tanh()), layer=nn.Linear(3, 3)),
        numbers(3),
    ),
    "bare parameter": lambda: (
        Function(
            lambda self, x: self.scale * self.layer(x)[:, 0] + self.shift,
            layer=nn.Linear(3, 1),
            scale=parameter(),
            shift=parameter(1),
        ),
        numbers(3),
    ),
    "output of several dimensions": lambda: (
        Function(lambda self, x: self.layer(x).reshape(-1, 2, 2), layer=nn.Linear(3, 4)),
        numbers(3),
    ),
    "frozen layers": frozen_layers,
    "unused parameter": lambda: (
        Function(lambda self, x: self.layer(x), layer=nn.Linear(3, 1), idle=parameter(4)),
        numbers(3),
    ),
    "output that one parameter does not reach": lambda: (
        Function(
            lambda self, x: torch.cat([self.one(x), self.two(x)], dim=1),
            one=nn.Linear(3, 1),
            two=nn.Linear(3, 1),
        ),
        numbers(3),
    ),
    "batch norm in eval mode": trained_batch_norm,
    "dropout in eval mode": lambda: (
        nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Tanh(), nn.Linear(4, 1)).eval(),
        numbers(3),
    ),
    "attention": lambda: (
        Function(
            lambda self, x: self.attend(x, x, x)[0].sum(dim=(1, 2)),
            attend=nn.MultiheadAttention(4, 2, batch_first=True),
        ),
        numbers(3, 4),
    ),
    "lstm": lambda: (
        Function(lambda self, x: self.cell(x)[0][:, -1], cell=nn.LSTM(2, 3, batch_first=True)),
        numbers(4, 2),
    ),
    "gru": lambda: (
        Function(lambda self, x: self.cell(x)[0][:, -1], cell=nn.GRU(2, 3, batch_first=True)),
        numbers(4, 2),
    ),
    "branch on the data": lambda: (
        Function(lambda self, x: self.layer(x) * (2 if x.sum() > 0 else 3), layer=nn.Linear(3, 2)),
        numbers(3),
    ),
}
# What torch.vmap has no rule for, so that "auto" falls back on the loop.
NO_RULE = {"lstm", "gru", "branch on the data"}

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]


def specimen(name):
    model, x = ZOO[name]()
    return model.double(), x


def plain_loop(model, x):
    """||grad h(x_i)||^2 and grad reg with nothing but autograd, an example and output at a time."""
    free = [p for p in model.parameters() if p.requires_grad]
    norms = []
    for i in range(len(x)):
        norm = torch.zeros((), dtype=torch.float64)
        for k in range(model(x[i : i + 1]).numel()):
            h = model(x[i : i + 1]).flatten()[k]
            for g in torch.autograd.grad(h, free, create_graph=True, allow_unused=True):
                norm = norm if g is None else norm + (g * g).sum()
        norms.append(norm)
    norms = torch.stack(norms)
    return norms.detach(), gradient_of(norms.mean(), free)


def gradient_of(reg, free):
    """Zeros where reg does not depend on a parameter, or on none."""
    if not reg.requires_grad:
        return [torch.zeros_like(p) for p in free]
    return torch.autograd.grad(reg, free, materialize_grads=True)


@pytest.mark.parametrize("name", ZOO)
def test_value_and_gradient_are_autograds(name):
    model, x = specimen(name)
    norms, gradient = plain_loop(model, x)
    assert norms.max() > 0
    free = [p for p in model.parameters() if p.requires_grad]
    for method in ("auto", "loop") if name in NO_RULE else ("auto", "vmap", "loop"):
        measured = ln.per_example_sq_norms(model, x, method=method)
        assert measured.shape == (N,)
        torch.testing.assert_close(measured, norms, rtol=1e-10, atol=1e-12)
        reg = ln.implicit_regularizer(model, x, method=method)
        assert reg.shape == ()
        torch.testing.assert_close(reg, norms.mean(), rtol=1e-10, atol=1e-12)
        measured = gradient_of(reg, free)
        for one, other in zip(measured, gradient, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["branch on the data"])
def test_auto_falls_back_where_vmap_has_no_rule(name):
    model, x = specimen(name)
    with pytest.raises(RuntimeError, match="data-dependent"):
        ln.implicit_regularizer(model, x, method="vmap")
    values = [ln.implicit_regularizer(model, x, method=method) for method in ("auto", "loop")]
    assert torch.equal(*values)


@pytest.mark.parametrize("name", ["tied weights", "mlp of several outputs", "frozen layers"])
@pytest.mark.parametrize("chunk_size", [1, 2, 3, N, N + 7])
def test_chunks_change_nothing(name, chunk_size):
    model, x = specimen(name)
    norms, gradient = plain_loop(model, x)
    for method in ("auto", "vmap", "loop"):
        arguments = dict(method=method, chunk_size=chunk_size)
        measured = ln.per_example_sq_norms(model, x, **arguments)
        torch.testing.assert_close(measured, norms, rtol=1e-12, atol=1e-12)
    free = [p for p in model.parameters() if p.requires_grad]
    measured = gradient_of(ln.implicit_regularizer(model, x, chunk_size=chunk_size), free)
    for one, other in zip(measured, gradient, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_chunks_are_as_large_as_asked(monkeypatch):
    """By default so large that the gradients of a chunk hold NUMBERS_PER_CHUNK numbers."""
    sizes = []
    model = Function(lambda self, x: self.layer(x), layer=nn.Linear(3, 1))
    split = torch.Tensor.split
    monkeypatch.setattr(torch.Tensor, "split", lambda x, n: sizes.append(n) or split(x, n))
    x = torch.zeros(50, 3)
    ln.implicit_regularizer(model, x, chunk_size=7)
    monkeypatch.setattr("labelnoise_utils.regularizer.NUMBERS_PER_CHUNK", 45)
    ln.implicit_regularizer(model, x)
    monkeypatch.setattr("labelnoise_utils.regularizer.NUMBERS_PER_CHUNK", 1)
    ln.implicit_regularizer(model, x)
    assert sizes == [7, 11, 1]


class TestClosedForms:
    @pytest.mark.parametrize("u, v", [(3.0, 4.0), (0.0, 0.0), (-1.5, 0.25)])
    @pytest.mark.parametrize("method", ["auto", "vmap", "loop"])
    def test_product(self, u, v, method):
        """reg = u^2 + v^2, and its gradient is 2 u, 2 v."""
        model = ln.Product(u, v)
        reg = ln.implicit_regularizer(model, numbers(2), method=method)
        assert reg.item() == pytest.approx(u**2 + v**2, rel=1e-15)
        reg.backward()
        gradient = model.u.grad.item(), model.v.grad.item()
        assert gradient == pytest.approx((2 * u, 2 * v), rel=1e-15)

    @pytest.mark.parametrize("skip", [True, False])
    @pytest.mark.parametrize("on_kinks", [True, False])
    @pytest.mark.parametrize("seed", range(3))
    def test_two_layer_relu_is_equation_16(self, seed, on_kinks, skip):
        """R / n, with the indicator of a x + b > 0: a unit on its kink adds nothing."""
        rng = np.random.default_rng(seed)
        m, n = 30, 11
        a, b, c, x = (
            np.round(v) if on_kinks else v
            for v in (
                rng.normal(0, 1.5, m),
                rng.normal(0, 1.5, m),
                rng.normal(0, 2, m),
                rng.normal(0, 2, n),
            )
        )
        z = np.outer(x, a) + b
        assert (z == 0).any() == on_kinks
        active = z > 0
        terms = (c * x[:, None] * active) ** 2 + (c * active) ** 2 + np.where(active, z, 0) ** 2
        total = terms.sum(axis=1) + (x**2 + 1 if skip else 0)
        model = ln.TwoLayerReLU(m, skip=skip)
        with torch.no_grad():
            for target, value in zip((model.a, model.b, model.c), (a, b, c), strict=True):
                target.copy_(torch.from_numpy(value))
        for method in ("auto", "vmap", "loop"):
            norms = ln.per_example_sq_norms(model, torch.from_numpy(x), method=method)
            np.testing.assert_allclose(norms.detach(), total, rtol=1e-12)
            reg = ln.implicit_regularizer(model, torch.from_numpy(x), method=method)
            assert reg.item() == pytest.approx(total.mean(), rel=1e-12)

    def test_linear_model(self):
        """H = W x + b with k outputs: k (|x|^2 + 1), whatever the parameters."""
        x = numbers(3)
        norms = ln.per_example_sq_norms(nn.Linear(3, 4).double(), x)
        torch.testing.assert_close(norms, 4 * ((x**2).sum(dim=1) + 1), rtol=1e-14, atol=0)

    def test_half_the_trace_of_the_hessian_at_zero_error(self):
        """Of mean (h - y)^2: the convention that ties reg to the sharpness."""
        model = ln.MLP([2, 3, 1], "tanh", seed=1)
        x = numbers(2)
        y = model(x).detach()
        parts = {name: p.detach() for name, p in model.named_parameters()}

        def loss(parts):
            return (torch.func.functional_call(model, parts, (x,)) - y).square().mean()

        hessian = torch.func.hessian(loss)(parts)
        trace = sum(hessian[name][name].reshape(p.numel(), p.numel()).trace() for name, p in parts.items())
        assert trace.item() == pytest.approx(2 * ln.implicit_regularizer(model, x).item(), rel=1e-12)


@pytest.mark.parametrize("method", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("grad", [True, False])
def test_gradients_are_there_when_they_are_wanted(grad, method):
    model, x = specimen("layer norm")
    expected = ln.implicit_regularizer(model, x)
    with torch.set_grad_enabled(grad):
        reg = ln.implicit_regularizer(model, x, method=method)
    torch.testing.assert_close(reg, expected, rtol=1e-12, atol=0)
    assert reg.requires_grad == grad


@pytest.mark.parametrize("method", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("name", ["tied weights", "frozen layers", "batch norm in eval mode"])
def test_module_is_left_as_it_was(name, method):
    model, x = specimen(name)
    state, x_before = copy.deepcopy(model.state_dict()), x.clone()
    modes = [module.training for module in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    backward_hooks = [len(module._backward_hooks) for module in model.modules()]
    memory = [p.data_ptr() for p in model.parameters()]
    ln.implicit_regularizer(model, x, method=method)
    assert modes == [module.training for module in model.modules()]
    assert flags == [p.requires_grad for p in model.parameters()]
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    assert backward_hooks == [len(module._backward_hooks) for module in model.modules()]
    assert memory == [p.data_ptr() for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(x, x_before)
    assert list(state) == list(model.state_dict())
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])


def test_gradients_that_were_there_stay():
    model, x = specimen("layer norm")
    for p in model.parameters():
        p.grad = torch.full_like(p, 3.0)
    ln.implicit_regularizer(model, x)
    assert all((p.grad == 3).all() for p in model.parameters())


class Dropped(nn.Linear):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=self.training)


class TestRefused:
    """Where h(x_i) is not a function of x_i and theta, there is no gradient of one example."""

    @pytest.mark.parametrize("method", ["auto", "vmap", "loop"])
    @pytest.mark.parametrize(
        "layer",
        [nn.BatchNorm1d(4), nn.SyncBatchNorm(4), nn.Dropout(0.5), nn.AlphaDropout(0.5), nn.RReLU()],
        ids=lambda layer: type(layer).__name__,
    )
    def test_layer_in_training_mode(self, layer, method):
        model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(layer), nn.Linear(4, 1)).double()
        state = copy.deepcopy(model.state_dict())
        message = rf"{type(layer).__name__} '1.0' is in training mode.*call model.eval\(\) first"
        with pytest.raises(ValueError, match=message):
            ln.implicit_regularizer(model, numbers(3), method=method)
        for key, value in model.state_dict().items():
            assert torch.equal(value, state[key])

    def test_the_model_itself_is_such_a_layer(self):
        with pytest.raises(ValueError, match="BatchNorm1d 'model' is in training mode"):
            ln.implicit_regularizer(nn.BatchNorm1d(3), torch.zeros(5, 3))

    @pytest.mark.parametrize("method", ["auto", "vmap", "loop"])
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
    def test_chance_that_no_layer_tells(self, build, shape, method):
        """Falling back on a loop would give another number every time."""
        model = build().double()
        with pytest.raises(ValueError, match=r"draws random numbers.*call model.eval\(\) first"):
            ln.implicit_regularizer(model, numbers(*shape), method=method)
        model.eval()
        values = [ln.implicit_regularizer(model, numbers(*shape)) for _ in range(2)]
        assert torch.equal(*values)

    def test_batch_norm_without_running_statistics(self):
        """It reads the batch in eval mode too."""
        model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3, track_running_stats=False))
        for mode in (True, False):
            with pytest.raises(ValueError, match="BatchNorm1d '1'"):
                ln.implicit_regularizer(model.double().train(mode), numbers(2, 4))


@pytest.mark.parametrize("function", [ln.implicit_regularizer, ln.per_example_sq_norms])
@pytest.mark.parametrize(
    "changes, error, message",
    [
        (dict(method="bogus"), ValueError, "method must be one of auto, vmap, loop, got 'bogus'"),
        (dict(method=None), ValueError, "method must be one of auto, vmap, loop, got None"),
        (dict(chunk_size=0), ValueError, "chunk_size must be at least 1, got 0"),
        (dict(chunk_size=-2), ValueError, "chunk_size must be at least 1, got -2"),
        (dict(chunk_size=1.5), TypeError, "chunk_size must be an integer, got 1.5"),
        (dict(chunk_size=True), TypeError, "chunk_size must be an integer, got True"),
        (dict(x=torch.zeros(0, 3)), ValueError, r"at least one example.*got shape \(0, 3\)"),
        (dict(x=torch.tensor(1.0)), ValueError, r"at least one example.*got shape \(\)"),
        (dict(x=np.zeros((2, 3))), TypeError, "x must be a torch.Tensor, got ndarray"),
        (dict(x=torch.zeros(5, 4)), ValueError, r"x of shape \(5, 4\) .* not what model takes"),
        (dict(x=torch.zeros(5, 3).double()), ValueError, "torch.float64 is not what model takes"),
        (dict(model=torch.sin), TypeError, "model must be a torch.nn.Module, got builtin"),
        (dict(model=nn.ReLU()), ValueError, "no trainable parameter"),
        (
            dict(model=nn.Linear(3, 1).requires_grad_(False)),
            ValueError,
            "no trainable parameter: all have requires_grad=False",
        ),
    ],
)
def test_bad_arguments(function, changes, error, message):
    arguments = dict(model=nn.Linear(3, 1), x=torch.zeros(5, 3)) | changes
    with pytest.raises(error, match=message):
        function(arguments.pop("model"), arguments.pop("x"), **arguments)


def test_output_without_a_dimension_for_the_examples():
    model = Function(lambda self, x: self.layer(x).squeeze(), layer=nn.Linear(3, 1))
    with pytest.raises(ValueError, match=r"h has shape \(\) for one example"):
        ln.implicit_regularizer(model, torch.zeros(5, 3))
