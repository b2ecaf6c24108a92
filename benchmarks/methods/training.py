"""The methods, as one training loop for runs side by side."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

import labelnoise_utils as ln

from .stacked import Stacked
from .tasks import Task

MOMENTUM = 0.9
OFF = 2 / 3  # the share of the steps after which noise and penalty are off
METHODS = (
    "plain",
    "weight decay",
    "label smoothing",
    "label noise",
    "penalty on outputs",
    "penalty, cross-entropy",
    "SAM",
    "clipping",
)


def losses(h: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean loss of each run, (R,), from h (R, n, k) and y (R, n), or (R, n, 1): cross-entropy, or half the squared error."""
    if y.is_floating_point():
        return (h - y).square().flatten(1).mean(dim=1) / 2
    return F.cross_entropy(h.flatten(0, 1), y.flatten(), reduction="none").view(len(y), -1).mean(dim=1)


def smooth_losses(h: torch.Tensor, y: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """The same with a share of each label spread evenly over the classes; real labels shrink towards 0, their mean."""
    if y.is_floating_point():
        return losses(h, (1 - share).view(-1, 1, 1) * y)
    return (1 - share) * losses(h, y) - share * h.log_softmax(dim=-1).flatten(1).mean(dim=1)


def noisy(y: torch.Tensor, strength: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Labels with fresh noise of each run's strength, a standard deviation or a probability."""
    make = ln.LabelNoise if y.is_floating_point() else lambda p: ln.LabelFlip(p, 10)
    out = torch.empty_like(y)
    for value in strength.unique().tolist():
        same = strength == value
        out[same] = make(value)(y[same], generator)
    return out


def penalties(out: torch.Tensor, parameters: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
    """One draw of reg of each run's outputs, (R,)."""
    signs = 2.0 * torch.randint(2, out.shape, generator=generator) - 1
    gradients = torch.autograd.grad(out, parameters, signs, create_graph=True)
    return sum(g.square().flatten(1).sum(dim=1) for g in gradients) / out.shape[1]


def gradients_of(
    method: str, net: Stacked, x: torch.Tensor, y: torch.Tensor, strength: torch.Tensor, generator: torch.Generator
) -> list[torch.Tensor]:
    """What a step descends, for each run.

    Args:
        method: one of METHODS.
        net: the networks.
        x: inputs (R, B, ...).
        y: labels (R, B) or (R, B, 1).
        strength: of the method, (R,).
        generator: of noise and signs.

    Returns:
        A tensor like each parameter.
    """
    parameters = net.parameters
    h = net(x)
    if method == "label noise":
        loss = losses(h, noisy(y, strength, generator))
    elif method == "label smoothing":
        loss = smooth_losses(h, y, strength)
    else:
        loss = losses(h, y)
    if method.startswith("penalty"):
        # The squared gradients of 2 sqrt(p) add up to the trace of the Gauss-Newton matrix.
        out = 2 * (h.log_softmax(dim=-1) / 2).exp() if method == "penalty, cross-entropy" else h
        loss = loss + strength * penalties(out, parameters, generator)
    gradients = torch.autograd.grad(loss.sum(), parameters)
    if method == "weight decay":
        return [g + _each(strength, p) * p.detach() for g, p in zip(gradients, parameters, strict=True)]
    if method == "clipping":
        shorter = (strength / _norms(gradients)).clamp(max=1)
        return [_each(shorter, g) * g for g in gradients]
    if method == "SAM":
        norm = _norms(gradients)
        moves = [_each(strength / (norm + 1e-12), g) * g for g in gradients]
        with torch.no_grad():
            for p, move in zip(parameters, moves, strict=True):
                p += move
        gradients = torch.autograd.grad(losses(net(x), y).sum(), parameters)
        with torch.no_grad():
            for p, move in zip(parameters, moves, strict=True):
                p -= move
    return gradients


def _norms(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Of each run's gradient, (R,)."""
    return sum(g.square().flatten(1).sum(dim=1) for g in gradients).sqrt()


def _each(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The runs' numbers (R,), in a shape that multiplies a parameter."""
    return values.view(-1, *[1] * (like.dim() - 1))


def train(
    task: Task,
    method: str,
    seeds: list[int],
    rates: list[float],
    strengths: list[float],
    *,
    at_off: Callable[[Stacked], None] = lambda net: None,
) -> Stacked:
    """Train runs side by side: SGD with momentum, the rate falling by a cosine, the method off in the last third.

    Args:
        task: what is trained on what.
        method: one of METHODS.
        seeds: of each run: its examples, its start, the order of its batches.
        rates: learning rate of each run.
        strengths: of the method in each run.
        at_off: called when the method goes off.

    Returns:
        The networks at the end.
    """
    starts = []
    for seed in seeds:
        torch.manual_seed(seed)
        starts.append(task.network())
    net = Stacked(starts)
    examples = torch.from_numpy(np.stack([task.split(seed)[0] for seed in seeds]))
    epoch = task.train // task.batch
    orders = [np.random.default_rng([seed, 1]) for seed in seeds]
    generator = torch.Generator().manual_seed(min(seeds))
    rate, strength = torch.tensor(rates), torch.tensor(strengths)
    velocities = [torch.zeros_like(p) for p in net.parameters]
    for step in range(task.steps):
        if step % epoch == 0:
            order = torch.from_numpy(np.stack([rng.permutation(task.train) for rng in orders]))
        off = step >= OFF * task.steps
        if off and not step - 1 >= OFF * task.steps:
            at_off(net)
        here = examples.gather(1, order[:, step % epoch * task.batch :][:, : task.batch])
        gradients = gradients_of("plain" if off else method, net, task.x[here], task.y[here], strength, generator)
        now = rate * (1 + math.cos(math.pi * step / task.steps)) / 2
        with torch.no_grad():
            for p, v, g in zip(net.parameters, velocities, gradients, strict=True):
                v.mul_(MOMENTUM).add_(g)
                p -= _each(now, p) * v
    return net
