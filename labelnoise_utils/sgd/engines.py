"""The two engines: one update, theta <- theta - lr grad (h(x_i, theta) - y_i - Z)^2, from the same draws.

The compiled one calls the step beside the model, for the book's own models; the torch one is the plain loop, for any
module.
"""

import math
from collections.abc import Callable

import numpy as np
import torch

from ..regularizer.hypothesis import gradients_possible, trainable
from .job import Job


def train_compiled(job: Job) -> Callable[[np.ndarray, np.ndarray], int]:
    """The fast engine: the model's own compiled step, in a compiled loop.

    The model offers a method ``compiled_sgd(theta, x, y, indices, noise, lr, frozen)``, which makes S steps:

    ===========  =================  ==============================================================
    argument     shape              what it is
    ===========  =================  ==============================================================
    ``theta``    (p,)               all parameters in one vector, changed in place
    ``x``        (n, ...)           the inputs
    ``y``        (n, ...)           the labels
    ``indices``  (S, B) int32       the examples that each step reads
    ``noise``    (S, B, ...)        what is added to their labels, float64
    ``lr``       a number           the learning rate
    ``frozen``   (q,)               positions in ``theta`` that keep their values
    ===========  =================  ==============================================================

    ``theta``, ``x`` and ``y`` are float64, or of another type in ``model.compiled_dtypes``, where there is that attribute. If
    the model has a method ``compiled_inputs(x)``, it is called once, on the tensor, and ``x`` is what it returns.

    It returns how many steps it made before the first residual that is not finite, so S if all is well; S may be 0. The
    class defines the method itself, and ``type(model)(**model.config, dtype=dtype)`` builds a model with the same
    parameters; one whose parameters were tied, added or replaced since is left to the torch engine.

    Args:
        job: what to run.

    Returns:
        A function of indices (S, B) and noise (S, B, ...) that trains the model and returns how many steps it took.

    Source: equation (5).
    """
    parameters = [p.detach() for p in job.model.parameters()]
    is_frozen = [not p.requires_grad for p in job.model.parameters()]
    sizes = [p.numel() for p in parameters]
    frozen = np.flatnonzero(np.repeat(is_frozen, sizes))
    # One vector for all slices of the run; its parts have the shapes of the parameters.
    theta = torch.cat([p.reshape(-1) for p in parameters])
    parts = [part.view_as(p) for part, p in zip(theta.split(sizes), parameters, strict=True)]
    x, y = getattr(job.model, "compiled_inputs", torch.Tensor.numpy)(job.x), job.y.numpy()

    def descend(indices: np.ndarray, noise: np.ndarray) -> int:
        for p, part in zip(parameters, parts, strict=True):
            part.copy_(p)
        done = job.model.compiled_sgd(theta.numpy(), x, y, indices, noise, job.lr, frozen)
        for p, part, stays in zip(parameters, parts, is_frozen, strict=True):
            if not stays:
                p.copy_(part)
        return done

    # No step at all: compiles, or loads what was compiled before, outside the time that is measured.
    batch_size = len(y) if job.batch_size is None else job.batch_size
    descend(np.empty((0, batch_size), np.int32), np.empty((0, batch_size, *y.shape[1:])))
    return descend


def train_torch(job: Job) -> Callable[[np.ndarray, np.ndarray], int]:
    """The general engine: equation (5) as a plain loop over any module.

    Args:
        job: what to run.

    Returns:
        A function of indices (S, B) and noise (S, B, ...) that trains the model and returns how many steps it took.

    Source: equation (5).
    """
    parameters = list(trainable(job.model).values())

    def descend(indices: np.ndarray, noise: np.ndarray) -> int:
        rows = torch.from_numpy(indices).long()
        targets = job.y[rows] + torch.from_numpy(noise).to(job.y)
        scale = 2 / rows.shape[1]
        values = [p.detach() for p in parameters]
        with gradients_possible():
            for t, (i, target) in enumerate(zip(rows, targets, strict=True)):
                with torch.enable_grad():
                    h = job.model(job.x[i])
                residual = h.detach() - target
                if not math.isfinite(residual.sum()):
                    return t
                slopes = (residual * scale).to(h.dtype)
                gradient = torch.autograd.grad(h, parameters, slopes, materialize_grads=True)
                torch._foreach_add_(values, gradient, alpha=-job.lr)
        return len(rows)

    return descend
