"""What the package computes faster, by nothing but autograd: loss, reg, their gradients, functions of the flat parameters."""

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector


def trainable(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def flat(model):
    """A copy of the trainable parameters, as one vector."""
    return parameters_to_vector(trainable(model).values()).detach().clone()


def h_of_theta(model, x):
    """A function of the flat trainable parameters, for torch.func."""
    free = trainable(model)

    def h(theta):
        parts = theta.split([p.numel() for p in free.values()])
        return functional_call(model, {n: part.view_as(p) for (n, p), part in zip(free.items(), parts, strict=True)}, (x,))

    return h


def loss_of(model, x, y):
    """Mean over the examples of the squared error, summed over outputs."""
    return (model(x) - y).square().sum() / len(x)


def gradient_of(value, free):
    """Zeros where a value does not depend on a parameter, or on none."""
    if not value.requires_grad:
        return [torch.zeros_like(p) for p in free]
    return [g.to_dense() for g in torch.autograd.grad(value, free, materialize_grads=True)]


def flat_gradient(value, model):
    return parameters_to_vector(gradient_of(value, list(trainable(model).values())))


def plain_loop(model, x):
    """||grad h(x_i)||^2 and grad reg, an example and output at a time."""
    free = list(trainable(model).values())
    norms = []
    with sdpa_kernel(SDPBackend.MATH):  # which can be differentiated twice
        for i in range(len(x)):
            norm = torch.zeros((), dtype=torch.float64)
            for h in model(x[i : i + 1].clone()).flatten():
                for g in torch.autograd.grad(h, free, create_graph=True, materialize_grads=True):
                    norm = norm + g.to_dense().abs().square().sum()
            norms.append(norm)
    norms = torch.stack(norms)
    return norms.detach(), gradient_of(norms.mean(), free)


def assert_gradients_close(measured, expected, rtol=1e-10):
    """Relative to the largest entry of all."""
    scale = max(g.abs().max().item() for g in expected if g.numel())
    for one, other in zip(measured, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * scale)
