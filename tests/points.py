"""Points with zero training error, of the book's models and of one that the package does not know."""

import math

import torch
from plain import flat
from torch import nn
from torch.nn.utils import vector_to_parameters

import labelnoise_utils as ln

X = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.3, -1.2]], dtype=torch.float64)
Y = torch.tensor([0.8, -0.5, 0.3], dtype=torch.float64)
ONE = torch.ones(1, dtype=torch.float64)


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Convolutional(nn.Module):
    """Convolution, tanh, mean, linear: eleven parameters."""

    def __init__(self):
        super().__init__()
        self.convolution, self.out = nn.Conv1d(1, 2, 3, dtype=torch.float64), nn.Linear(2, 1, dtype=torch.float64)
        generator = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))

    def forward(self, x):
        return self.out(self.convolution(x[:, None]).tanh().mean(dim=-1))[:, 0]


def linear(inputs=3):
    """H = w . x."""
    model = nn.Linear(inputs, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(gaussian(1, inputs, seed=5))
    return model


class Kept(nn.Module):
    """Reads its weight by way of a list."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2, dtype=torch.float64)
        self.kept = [self.layer.weight]

    def forward(self, x):
        return (self.layer(x).tanh() @ self.kept[0])[:, 0]


def tanh(**arguments):
    """A network for X and Y, not at a point of zero error; 17 parameters."""
    return ln.MLP([2, 4, 1], "tanh", seed=0, **arguments)


class Deep(nn.Module):
    """H = u v w at 0: no gradient of the squared error and no Hessian, whatever the label; a saddle for all labels but 0."""

    def __init__(self):
        super().__init__()
        self.u, self.v, self.w = (nn.Parameter(torch.zeros((), dtype=torch.float64)) for _ in range(3))

    def forward(self, x):
        return (self.u * self.v * self.w).expand(len(x))


def poisoned():
    """The same with NaN in it."""
    model = tanh()
    with torch.no_grad():
        model.layers[0].weight[0, 0] = math.nan
    return model


def product_point():
    return ln.Product(2.0, 0.5), torch.zeros(1, dtype=torch.float64), ONE.clone()


def tanh_point():
    model = tanh()
    ln.project_to_zero_error(model, X, Y)
    return model, X, Y


def convolutional_point():
    model, x = Convolutional(), gaussian(3, 6, seed=3)
    ln.project_to_zero_error(model, x, Y)
    return model, x, Y


POINTS = {"product": product_point, "tanh": tanh_point, "convolutional": convolutional_point}


def second_derivative_of_reg(model, x, y, direction, t=1e-3):
    """Along a walk in a tangent direction, brought back to zero error at each end."""
    theta, middle = flat(model), ln.implicit_regularizer(model, x).item()
    ends = []
    for sign in (1, -1):
        vector_to_parameters(theta + sign * t * direction, model.parameters())
        ln.project_to_zero_error(model, x, y, tol=1e-14)
        ends.append(ln.implicit_regularizer(model, x).item())
    vector_to_parameters(theta, model.parameters())
    return (sum(ends) - 2 * middle) / t**2
