"""The regularizer beside the tools of others: equal where they are right, and right where they err without an error.

tests/oracles.txt names the tools. All numbers are float64. Where a test says that a tool is wrong, it asserts that the
tool's number differs: should a later release repair it, the test fails, and goes.
"""

import copy
import warnings

import pytest
import torch
from architectures import Function, N, numbers, tied_layers
from backpack import backpack, extend
from backpack.extensions import BatchL2Grad
from plain import flat_gradient, plain_loop
from pyhessian import hessian
from pyhessian.utils import hessian_vector_product
from torch import nn
from zoo import METHODS

import labelnoise_utils as ln

pytestmark = [
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning"),
]


def backpack_norms(model, x, **options):
    """||grad h(x_i)||^2 (n,) from BackPACK: BatchL2Grad of the sum over the batch, one output after another."""
    model = extend(copy.deepcopy(model))  # on which it leaves hooks
    norms = torch.zeros(len(x), dtype=torch.float64)
    for k in range(model(x)[0].numel()):
        model.zero_grad()
        with backpack(BatchL2Grad(), **options):
            model(x).reshape(len(x), -1)[:, k].sum().backward()
        norms += sum(p.batch_l2 for p in model.parameters() if hasattr(p, "batch_l2"))
    return norms


def pyhessian_half_trace(model, x, y):
    """Of the Hessian of nn.MSELoss: PyHessian's product with every basis vector, in place of its random ones."""
    of = hessian(model, nn.MSELoss(), data=(x, y), cuda=False)
    trace = 0
    for basis_vector in torch.eye(sum(p.numel() for p in of.params), dtype=torch.float64):
        parts = basis_vector.split([p.numel() for p in of.params])
        v = [part.view_as(p) for part, p in zip(parts, of.params, strict=True)]
        products = hessian_vector_product(of.gradsH, of.params, v)
        trace += sum((one * other).sum() for one, other in zip(products, v, strict=True)).item()
    model.zero_grad()
    return trace / 2


def usual_vmap(model, parameters, x):
    """The same as one writes it with torch.func, for one output."""

    def h(parameters, x_i):
        return torch.func.functional_call(model, parameters, (x_i[None],)).squeeze()

    gradients = torch.func.vmap(torch.func.grad(h), in_dims=(None, 0))(parameters, x)
    return sum(g.flatten(1).square().sum(dim=1) for g in gradients.values())


def usual_ghost(model, x):
    """The same as |a|^2 |g|^2, from hooks on linear layers without bias that take in a and get back g = dh/dz."""
    calls, handles = [], []

    def keep(layer, args, z):
        call = [args[0].detach().flatten(1).square().sum(dim=1)]
        calls.append(call)
        z.register_hook(lambda g: call.append(g.flatten(1).square().sum(dim=1)))

    for module in model.modules():
        if isinstance(module, nn.Linear):
            handles.append(module.register_forward_hook(keep))
    h = model(x).flatten(1)
    norms = torch.zeros(len(x), dtype=torch.float64)
    for k in range(h.shape[1]):
        h[:, k].sum().backward(retain_graph=True)
        norms += sum(a * g for a, g in ((call[0], call.pop()) for call in calls))
    for handle in handles:
        handle.remove()
    return norms


def assert_same(measured, expected):
    assert expected.min() > 0
    torch.testing.assert_close(measured.detach(), expected, rtol=1e-10, atol=0)


def assert_others_wrong_and_ours_right(outside, model, x):
    """The outside number is off by more than 1 %, whatever rounding does; every method of ours that does not refuse is not."""
    expected = plain_loop(model, x)[0]
    assert (outside / expected - 1).abs().max() > 0.01
    assert_same(ln.per_example_sq_norms(model, x), expected)
    for method in METHODS:
        try:
            measured = ln.per_example_sq_norms(model, x, method=method)
        except ValueError:
            assert method == "ghost"
        else:
            assert_same(measured, expected)


def trained_batch_norm():
    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        norm(3 + 2 * numbers(4, 6, 6).float())  # running statistics that are not 0 and 1
        norm.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    return nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(64, 2)).eval(), numbers(2, 6, 6)


def convolution(layer, *size):
    """The layer, tanh, and two outputs that are linear in what it gives."""
    x = numbers(layer.in_channels, *size)
    features = layer(x.float()).flatten(1).shape[1]
    return nn.Sequential(layer, nn.Tanh(), nn.Flatten(), nn.Linear(features, 2)), x


RIGHT = {
    "mlp": lambda: (
        nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5, bias=False), nn.Sigmoid(), nn.Linear(5, 3)),
        numbers(3),
    ),
    "linear layers on sequences": lambda: (
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Flatten(), nn.Linear(12, 2)),
        numbers(6, 3),
    ),
    "small convolutional network": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3, stride=2), nn.Tanh(),
            nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(5, 2),
        ).eval(),
        numbers(3, 10, 10),
    ),
    "conv1d, stride and dilation": lambda: convolution(nn.Conv1d(2, 4, 3, stride=2, padding=2, dilation=2), 8),
    "conv2d, stride": lambda: convolution(nn.Conv2d(2, 4, 3, stride=2), 6, 7),
    "conv2d, padding": lambda: convolution(nn.Conv2d(2, 4, (3, 1), padding=(2, 1)), 4, 3),
    "conv2d, dilation": lambda: convolution(nn.Conv2d(2, 4, 2, dilation=(2, 1)), 5, 4),
    "conv2d, all three": lambda: convolution(nn.Conv2d(2, 4, 3, stride=2, padding=1, dilation=2, bias=False), 8, 8),
    "conv3d": lambda: convolution(nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), 3, 4, 3),
    "batch norm in eval mode": trained_batch_norm,
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", RIGHT)
def test_same_as_backpack(name, method):
    model, x = RIGHT[name]()
    model = model.double()
    expected = backpack_norms(model, x)
    assert_same(ln.per_example_sq_norms(model, x, method=method), expected)
    reg = ln.implicit_regularizer(model, x, method=method, chunk_size=2)
    assert reg.item() == pytest.approx(expected.mean().item(), rel=1e-10)


def test_same_as_pyhessian_at_zero_error():
    """Half the trace of the Hessian of mean (h - y)^2."""
    model, x = ln.MLP([3, 8, 1], "tanh"), numbers(3)
    expected = pyhessian_half_trace(model, x, model(x).detach())
    for method in METHODS:
        reg = ln.implicit_regularizer(model, x, method=method)
        assert reg.item() == pytest.approx(expected, rel=1e-10)


def weight_of_another_layer():
    first = nn.Linear(3, 4)
    return Function(
        lambda self, x: self.last(nn.functional.linear(self.first(x).tanh(), self.first.weight.T)),
        first=first,
        last=nn.Linear(3, 1),
    ), numbers(3)


# Each with the warning that BackPACK gives, or None.
WRONG = {
    "two layers share a weight": (tied_layers, None),
    "a weight is used outside its layer": (weight_of_another_layer, "Function"),
    "bare parameter": (
        lambda: (
            Function(
                lambda self, x: self.scale * self.layer(x), layer=nn.Linear(3, 1), scale=nn.Parameter(torch.tensor([2.0]))
            ),
            numbers(3),
        ),
        "Function",
    ),
    "layer norm": (
        lambda: (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1)), numbers(3)),
        "LayerNorm",
    ),
    "group norm": (
        lambda: (nn.Sequential(nn.Conv1d(3, 4, 1), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(8, 1)), numbers(3, 2)),
        "GroupNorm",
    ),
    "prelu": (
        lambda: (nn.Sequential(nn.Linear(3, 4), nn.PReLU(), nn.Linear(4, 1)), numbers(3)),
        "PReLU",
    ),
    "convolution in groups": (lambda: convolution(nn.Conv2d(4, 6, 3, groups=2), 5, 5), None),
    "convolution with circular padding": (
        lambda: convolution(nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"), 4, 4),
        None,
    ),
}


class TestWhatOtherToolsGetSilentlyWrong:
    @pytest.mark.parametrize("name", WRONG)
    def test_backpack(self, name):
        """A number that is too small or too large, at most with a warning."""
        build, warns = WRONG[name]
        model, x = build()
        model = model.double()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outside = backpack_norms(model, x)
        messages = [str(w.message) for w in caught if "does not have an extension" in str(w.message)]
        assert bool(messages) == bool(warns) and all(warns in message for message in messages)
        assert_others_wrong_and_ours_right(outside, model, x)

    def test_backpacks_warning_is_also_given_where_the_number_is_right(self):
        """So that one learns not to read it: any module of one's own brings it, by the parameters of its layers."""
        model, x = Function(lambda self, x: self.layer(x).tanh(), layer=nn.Linear(3, 1)).double(), numbers(3)
        with pytest.warns(UserWarning, match="does not have an extension for Module .*Function"):
            outside = backpack_norms(model, x)
        assert_same(outside, plain_loop(model, x)[0])

    def test_backpack_where_a_layer_is_called_twice(self):
        """With retain_graph, as for several outputs: the norms of the two calls, without the product between them."""
        layer = nn.Linear(3, 3)
        model, x = nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(3, 1)).double(), numbers(3)
        assert_others_wrong_and_ours_right(backpack_norms(model, x, retain_graph=True), model, x)

    def test_backpack_where_batch_norm_mixes_the_examples(self):
        """BackPACK refuses training mode. Without running statistics eval mode mixes as well, and h(x_i) has no meaning."""
        norm = nn.BatchNorm1d(4, affine=False, track_running_stats=False)
        model, x = nn.Sequential(nn.Linear(3, 4), norm, nn.Tanh(), nn.Linear(4, 1)).double().eval(), numbers(3)
        of_output_i = torch.stack([flat_gradient(model(x)[i, 0], model).square().sum() for i in range(N)])
        assert (backpack_norms(model, x) / of_output_i - 1).abs().max() > 0.01
        for method in METHODS:
            with pytest.raises(ValueError, match=r"BatchNorm1d '1' keeps no running statistics"):
                ln.per_example_sq_norms(model, x, method=method)

    def test_named_parameters_hold_the_frozen_ones_too(self):
        """The usual vmap(grad) over dict(model.named_parameters()) counts what is not trained."""
        model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double(), numbers(3)
        model[0].requires_grad_(False)
        outside = usual_vmap(model, dict(model.named_parameters()), x)
        assert_others_wrong_and_ours_right(outside, model, x)

    def test_the_usual_ghost_norm_of_a_layer_called_twice(self):
        """|a|^2 |g|^2 of each call: the norm of a sum is not the sum of the norms."""
        layer = nn.Linear(3, 3, bias=False)
        model, x = nn.Sequential(layer, nn.Tanh(), layer).double(), numbers(3)
        assert_others_wrong_and_ours_right(usual_ghost(model, x), model, x)

    def test_the_usual_ghost_norm_of_a_sequence(self):
        """|a|^2 |g|^2 over all positions together: right for one position, too large for more."""
        model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False), nn.Flatten()).double()
        assert_same(usual_ghost(model, numbers(1, 3)), plain_loop(model, numbers(1, 3))[0])
        assert_others_wrong_and_ours_right(usual_ghost(model, numbers(6, 3)), model, numbers(6, 3))

    def test_pyhessian_away_from_zero_error(self):
        """The Hessian of the loss has a term (h - y) grad^2 h: half its trace is reg only where h = y."""
        model, x = ln.MLP([3, 8, 1], "tanh"), numbers(3)
        outside = pyhessian_half_trace(model, x, model(x).detach() + 10)
        reg = ln.implicit_regularizer(model, x).item()
        assert reg == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-10)
        assert abs(outside / reg - 1) > 0.01

    def test_pyhessian_divides_by_the_outputs(self):
        """With nn.MSELoss, which takes the mean over outputs too; reg is their sum."""
        model, x = ln.MLP([3, 8, 4], "tanh"), numbers(3)
        outside = pyhessian_half_trace(model, x, model(x).detach())
        reg = ln.implicit_regularizer(model, x).item()
        assert reg == pytest.approx(plain_loop(model, x)[0].mean().item(), rel=1e-10)
        assert outside == pytest.approx(reg / 4, rel=1e-10)

    def test_pyhessian_stops_by_chance(self):
        """Its tol=1e-3 bounds the last change of the running mean, which says little of the error."""
        model, x = ln.MLP([3, 8, 1], "tanh"), numbers(3)
        reg = ln.implicit_regularizer(model, x).item()
        off = []
        for seed in range(20):
            torch.manual_seed(seed)
            samples = hessian(model, nn.MSELoss(), data=(x, model(x).detach()), cuda=False).trace(tol=1e-3)
            off.append(abs(sum(samples) / len(samples) / 2 / reg - 1))
        assert sorted(off)[10] > 0.01

    def test_pyhessian_stops_at_once_where_the_trace_is_negative(self):
        """As it can be away from zero error: the change is divided by the mean, not by its size, and any tol is met."""
        model, x = ln.MLP([3, 8, 1], "tanh"), numbers(3)
        lengths = []
        for sign in (1, -1):
            data = x, model(x).detach()
            measured = hessian(model, lambda h, y, sign=sign: sign * (h - y).square().mean(), data=data, cuda=False)
            lengths.append(len(measured.trace(maxIter=50, tol=1e-9)))
        assert lengths == [50, 2]

    def test_pyhessian_leaves_the_model_in_eval_mode(self):
        """A training loop that goes on then trains without Dropout."""
        model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double().train(), numbers(3)
        ln.implicit_regularizer(model, x)
        assert model.training
        hessian(model, nn.MSELoss(), data=(x, model(x).detach()), cuda=False)
        assert not model.training

    def test_gradient_of_the_usual_vmap_through_layer_norm(self):
        """The rule for LayerNorm in torch.func takes mean and variance for constants: norms right, gradient of reg wrong."""
        model, x = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 1)).double(), numbers(3)
        parameters = dict(model.named_parameters())
        norms = usual_vmap(model, parameters, x)
        assert_same(norms, plain_loop(model, x)[0])
        expected = nn.utils.parameters_to_vector(plain_loop(model, x)[1])
        outside = flat_gradient(norms.mean(), model)
        assert torch.linalg.norm(outside - expected) > 0.01 * torch.linalg.norm(expected)
        for method in METHODS:
            ours = flat_gradient(ln.implicit_regularizer(model, x, method=method), model)
            torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
