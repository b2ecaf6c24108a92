"""Weight norms, of which torch's own second derivatives are wrong: the gradient of reg by differences of reg."""

import pytest
import torch
from plain import flat, flat_gradient
from torch import nn
from torch.nn.utils import parametrizations, vector_to_parameters

import labelnoise_utils as ln

X = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
# Of rows, of columns, of all, and by the hook that torch had before.
NORMS = {
    "rows": lambda layer: parametrizations.weight_norm(layer),
    "columns": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "all": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "hook": lambda layer: nn.utils.weight_norm(layer),
}


def with_norm(name):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), NORMS[name](nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 1)).double()


def by_differences(function, model, t=1e-5):
    theta, slopes = flat(model), []
    for direction in torch.eye(len(theta), dtype=torch.float64):
        ends = []
        for sign in (1, -1):
            vector_to_parameters(theta + sign * t * direction, model.parameters())
            ends.append(function())
        slopes.append((ends[0] - ends[1]) / (2 * t))
    vector_to_parameters(theta, model.parameters())
    return torch.stack(slopes)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NORMS)
class TestWeightNorm:
    @pytest.mark.parametrize("method", ["auto", "loop"])
    def test_gradient_of_reg(self, name, method):
        model = with_norm(name)
        measured = flat_gradient(ln.implicit_regularizer(model, X, method=method), model)
        with torch.no_grad():
            expected = by_differences(lambda: ln.implicit_regularizer(model, X), model)
        torch.testing.assert_close(measured, expected, rtol=0, atol=1e-7)

    def test_step_with_penalty(self, name):
        """At zero error the first step of the full batch is on reg alone."""
        model, lr = with_norm(name), 1e-3
        gradient = flat_gradient(ln.implicit_regularizer(model, X), model)
        before = flat(model)
        ln.train(model, X, model(X).detach(), lr=lr, steps=1, penalty=0.5, batch_size=None, reg_on=False, progress=False)
        torch.testing.assert_close((before - flat(model)) / lr, 0.5 * gradient, rtol=0, atol=1e-10)
