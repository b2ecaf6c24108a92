"""The two engines: one update, theta <- theta - lr grad (h(x_i, theta) - y_i - Z)^2, from the same draws.

The compiled one calls the step beside the model, for the book's own models; the torch one is the plain loop, for any
module.
"""

import contextlib
import math
from collections.abc import Callable

import numpy as np
import torch

from ..models.counter import key_of, numbers
from ..models.stepping import Extras
from ..regularizer.gradients import norms_of_one
from ..regularizer.hypothesis import gradients_possible, trainable, twice_differentiable
from .job import Job
from .law import Law

STILL = np.empty(0)
# Of indices (S, B), noise (S, B, ...), how many steps were made before, and the velocity (p,), which is changed in place;
# returns how many steps it took.
Descend = Callable[[np.ndarray, np.ndarray, int, np.ndarray], int]


def train_compiled(job: Job) -> Descend:
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
    the model has a method ``compiled_inputs(x)``, it is called once, on the tensor, and ``x`` is what it returns; under noise
    on the inputs, on each part of those.

    It returns how many steps it made before the first residual that is not finite, so S if all is well; S may be 0. The
    class defines the method itself, and ``type(model)(**model.config, dtype=dtype)`` builds a model with the same
    parameters; one whose parameters were tied, added or replaced since is left to the torch engine.

    With momentum, a penalty, or noise on the parameters it is ``compiled_steps``, with three arguments more: ``velocity`` (p,),
    changed in place, (0,) without momentum; ``first``, the number of steps made before; and ``extras``, the ``Extras`` of
    ``models/stepping.py``. A model without it is left to the torch engine then.

    Args:
        job: what to run.

    Returns:
        A function that trains the model and returns how many steps it took.

    Source: equation (5).
    """
    parameters = [p.detach() for p in job.model.parameters()]
    is_frozen = [not p.requires_grad for p in job.model.parameters()]
    sizes = [p.numel() for p in parameters]
    stays = np.repeat(is_frozen, sizes)
    frozen = np.flatnonzero(stays)
    # One vector for all slices of the run; its parts have the shapes of the parameters.
    theta = torch.cat([p.reshape(-1) for p in parameters])
    parts = [part.view_as(p) for part, p in zip(theta.split(sizes), parameters, strict=True)]
    as_inputs = getattr(job.model, "compiled_inputs", torch.Tensor.numpy)
    inputs, labels, law = as_inputs(job.x), job.y.numpy(), job.noise or Law()
    extras = Extras.of(law.inside, law.outside, getattr(law, "kind", "gaussian"), job.seed, job.momentum, job.penalty)

    def descend(indices: np.ndarray, noise: np.ndarray, first: int = 0, velocity: np.ndarray = STILL) -> int:
        for p, part in zip(parameters, parts, strict=True):
            part.copy_(p)
        x, y = inputs, labels
        if law.on_inputs and indices.size:
            x = as_inputs(_noisy(job.x, torch.from_numpy(indices).long(), noise).flatten(0, 1))
            y = labels[indices].reshape(-1, *labels.shape[1:])
            noise = np.zeros((*indices.shape, *labels.shape[1:]))
            indices = np.arange(indices.size, dtype=np.int32).reshape(indices.shape)
        if job.is_plain:
            done = job.model.compiled_sgd(theta.numpy(), x, y, indices, noise, job.lr, frozen)
        else:
            whole = np.zeros(theta.numel() if job.momentum else 0, labels.dtype)
            if job.momentum:
                whole[~stays] = velocity
            done = job.model.compiled_steps(theta.numpy(), x, y, indices, noise, job.lr, frozen, whole, first, extras)
            if job.momentum:
                velocity[:] = whole[~stays]
        for p, part, stay in zip(parameters, parts, is_frozen, strict=True):
            if not stay:
                p.copy_(part)
        return done

    # No step at all: compiles, or loads what was compiled before, outside the time that is measured.
    batch_size = len(labels) if job.batch_size is None else job.batch_size
    still = np.zeros(np.count_nonzero(~stays) if job.momentum else 0, labels.dtype)
    descend(np.empty((0, batch_size), np.int32), np.empty((0, batch_size, *labels.shape[1:])), 0, still)
    return descend


def train_torch(job: Job) -> Descend:
    """The general engine: equation (5) as a plain loop over any module.

    Args:
        job: what to run.

    Returns:
        A function that trains the model and returns how many steps it took.

    Source: equation (5).
    """
    model, law = job.model, job.noise or Law()
    named = trainable(model)
    parameters = list(named.values())
    key, kind = key_of(job.seed), getattr(law, "kind", "gaussian")

    def fresh(step: int) -> list[torch.Tensor]:
        """A number for each trainable parameter, as the compiled steps have them: frozen ones draw too."""
        every = torch.from_numpy(numbers(key, step, kind, sum(p.numel() for p in model.parameters())))
        parts = every.split([p.numel() for p in model.parameters()])
        return [part.view_as(p).to(p) for part, p in zip(parts, model.parameters(), strict=True) if p.requires_grad]

    def descend(indices: np.ndarray, noise: np.ndarray, first: int = 0, velocity: np.ndarray = STILL) -> int:
        rows = torch.from_numpy(indices).long()
        targets = job.y[rows] if law.on_inputs else job.y[rows] + torch.from_numpy(noise).to(job.y)
        scale = 2 / rows.shape[1]
        values = [p.detach() for p in parameters]
        if job.momentum:
            parts = torch.from_numpy(velocity).split([p.numel() for p in parameters])
            speeds = [part.view_as(p).to(p, copy=True) for part, p in zip(parts, parameters, strict=True)]
        with gradients_possible(), twice_differentiable(model) if job.penalty else contextlib.nullcontext():
            for t, (i, target) in enumerate(zip(rows, targets, strict=True)):
                xi = fresh(first + t) if law.inside or law.outside else []
                if law.inside:
                    kept = [value.clone() for value in values]
                    torch._foreach_add_(values, xi, alpha=law.inside)
                x = _noisy(job.x, i, noise[t]) if law.on_inputs else job.x[i]
                with torch.enable_grad():
                    h = model(x)
                residual = h.detach() - target
                if not math.isfinite(residual.sum()):
                    return t
                slopes = (residual * scale).to(h.dtype)
                if job.penalty:
                    with torch.enable_grad():
                        norms = sum(sum(norms_of_one(row.reshape(-1), named).values()).sum() for row in h)
                        objective = (h * slopes).sum() + (job.penalty / len(i)) * norms
                    gradient = torch.autograd.grad(objective, parameters, materialize_grads=True)
                else:
                    gradient = torch.autograd.grad(h, parameters, slopes, materialize_grads=True)
                if law.inside:
                    torch._foreach_copy_(values, kept)
                if job.momentum:
                    torch._foreach_mul_(speeds, job.momentum)
                    torch._foreach_add_(speeds, gradient, alpha=-job.lr)
                    torch._foreach_add_(values, speeds)
                else:
                    torch._foreach_add_(values, gradient, alpha=-job.lr)
                if law.outside:
                    torch._foreach_add_(values, xi, alpha=law.outside)
        if job.momentum:
            velocity[:] = np.concatenate([speed.cpu().numpy().ravel() for speed in speeds])
        return len(rows)

    return descend


def _noisy(x: torch.Tensor, rows: torch.Tensor, noise: np.ndarray) -> torch.Tensor:
    """Some of the inputs, with noise on them."""
    return x[rows] + torch.from_numpy(noise).to(x)
