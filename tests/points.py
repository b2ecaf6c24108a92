"""Points with zero training error, of the book's models and of one that the package does not know."""

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector

import labelnoise_utils as ln

X = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.3, -1.2]], dtype=torch.float64)
Y = torch.tensor([0.8, -0.5, 0.3], dtype=torch.float64)


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


def product():
    return ln.Product(2.0, 0.5), torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)


def tanh():
    model = ln.MLP([2, 4, 1], "tanh", seed=0)
    ln.project_to_zero_error(model, X, Y)
    return model, X, Y


def convolutional():
    model = Convolutional()
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ln.project_to_zero_error(model, x, Y)
    return model, x, Y


POINTS = {"product": product, "tanh": tanh, "convolutional": convolutional}


def flat(model):
    return parameters_to_vector([p for p in model.parameters() if p.requires_grad]).detach().clone()


def h_of_theta(model, x):
    """A function of the flat trainable parameters, for torch.func."""
    free = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def h(theta):
        parts = theta.split([p.numel() for p in free.values()])
        return functional_call(model, {n: part.view_as(p) for (n, p), part in zip(free.items(), parts, strict=True)}, (x,))

    return h
