"""The field of the flow under noise that differs from label to label, at many parameter vectors at once where it can be."""

import math

import torch
from torch.func import functional_call, jacrev, vjp

from ..regularizer.gradients import NUMBERS_PER_CHUNK
from ..regularizer.hypothesis import Hypothesis, gradients_possible, trainable, twice_differentiable
from ..sgd.job import Job
from .brackets import directions
from .geometry import jacobian_of
from .noise_covariance import noise_covariance
from .solver import Fields, one_after_the_other, together_where_possible


def unequal_fields(model: torch.nn.Module, job: Job) -> Fields:
    """The field per step, ``-(2 lr / n) [J^T (h - y) + lr sum_a H_a J^T (M K)_a]``.

    Args:
        model: the hypothesis.
        job: its data, learning rate, batch size and noise.

    Returns:
        (k, p) to (k, p).
    """
    n, k = len(job.y), math.prod(job.y.shape[1:])
    s = noise_covariance(job.noise, n, k, job.batch_size)
    parameters, labels = trainable(model), job.y.reshape(-1)
    sizes, shapes = [p.numel() for p in parameters.values()], [p.shape for p in parameters.values()]

    def of_one(theta: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parts = zip(parameters, theta.split(sizes), shapes, strict=True)
        h = functional_call(model, {name: part.view(shape) for name, part, shape in parts}, (x[None],)).reshape(-1)
        return h, h

    def rows(theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        jacobian, h = torch.vmap(jacrev(of_one, has_aux=True), (None, 0))(theta, job.x)
        return jacobian.reshape(n * k, -1), h.reshape(-1)

    def one(theta: torch.Tensor) -> torch.Tensor:
        jacobian, pull, h = vjp(rows, theta, has_aux=True)
        return -2 * job.lr / n * (jacobian.T @ (h - labels) + job.lr * pull(directions(jacobian, s))[0])

    def here() -> torch.Tensor:
        with gradients_possible(), torch.enable_grad(), twice_differentiable(model):
            jacobian, _ = jacobian_of(Hypothesis(model, parameters), job.x, graph=True)
            errors = (model(job.x).reshape(-1) - labels).detach()
            if not jacobian.requires_grad:
                return -2 * job.lr / n * jacobian.T @ errors
            aims = directions(jacobian.detach(), s)
            slopes = torch.autograd.grad((jacobian * aims).sum(), [*parameters.values()], materialize_grads=True)
        bent = torch.cat([slope.to_dense().reshape(-1) for slope in slopes])
        return -2 * job.lr / n * (jacobian.detach().T @ errors + job.lr * bent)

    at_once = NUMBERS_PER_CHUNK // (n * k * sum(sizes))
    return together_where_possible(job, torch.vmap(one), one_after_the_other(model, here), at_once)
