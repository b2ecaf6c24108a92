"""The path of plain SGD along minima that have residuals, on average."""

import math
from collections.abc import Sequence

import torch
from torch.func import functional_call, grad, jacrev, vjp

from ..arguments import as_positive
from ..regularizer.gradients import NUMBERS_PER_CHUNK
from ..regularizer.hypothesis import trainable
from ..regularizer.norms import ElementaryNorms
from ..sgd.job import Job, prepare
from ..sgd.run import Run
from .minima import forces, loss_at
from .residuals import root, settled, steep_count
from .solver import Fields, check_float64, follow, one_after_the_other, together_where_possible


def residual_flow(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    lr: float,
    steps: int,
    batch_size: int | None = 1,
    record: int | Sequence[int] = 200,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_evaluations: int | None = None,
    tol: float = 1e-6,
) -> Run:
    r"""Follow the flow that plain SGD follows on average along the minima of the loss, from one of them, in place.

    ``d theta / d t = -2 lr grad f - lr D^3 f[X]``, t counted in SGD steps, with f half the mean squared error and X the cloud
    of :func:`residual_drift`, of which this is the flow. It rests, up to order lr, on the minima, and drifts along
    them. Solved as :func:`effective_flow` is.

    Args:
        model: at a minimum of the mean squared error, which is one of many; its parameters are changed in place.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.
        lr: learning rate of the SGD to be followed, > 0.
        steps: of SGD, how far to go, >= 1.
        batch_size: examples per step of SGD, drawn with replacement; None is the full batch, which stays.
        record: how many log-spaced snapshots, or the step numbers themselves, as in :func:`train`.
        rtol: relative tolerance of a step of the solver.
        atol: absolute tolerance, in units of the parameters.
        max_evaluations: how often the field may be evaluated; None is ``100 (p + 50)``.
        tol: as in :func:`residual_drift`; how many directions are steep is settled at the start.

    Returns:
        A :class:`Run` whose engine is "flow"; its ``step`` counts SGD steps.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as in :func:`train` and :func:`residual_drift`, or if the parameters are not float64.
        ArithmeticError: if the solver gives up or needs more evaluations than allowed; the model is left as it was.

    Source: ours; see :func:`residual_drift`.
    """
    rtol, atol = as_positive("rtol", rtol), as_positive("atol", atol)
    job = prepare(model, x, y, lr=lr, steps=steps, batch_size=batch_size, record=record)
    check_float64(model, "residual_flow")
    fields = _fields(model, job, steep_count(model, job.x, job.y, tol))
    return follow(job, fields, rtol=rtol, atol=atol, max_evaluations=max_evaluations)


def _fields(model: torch.nn.Module, job: Job, rank: int) -> Fields:
    """The field at many parameter vectors, (k, p) to (k, p)."""
    n, k, pace = len(job.y), math.prod(job.y.shape[1:]), 0 if job.batch_size is None else job.lr / job.batch_size
    parameters = trainable(model)
    sizes, shapes = [p.numel() for p in parameters.values()], [p.shape for p in parameters.values()]

    def errors(theta: torch.Tensor) -> torch.Tensor:
        parts = zip(parameters, theta.split(sizes), shapes, strict=True)
        with ElementaryNorms():
            h = functional_call(model, {name: part.view(shape) for name, part, shape in parts}, (job.x,))
        return (h - job.y).reshape(n, k)

    def half(theta: torch.Tensor) -> torch.Tensor:
        return errors(theta).square().sum() / (2 * n)

    def cloud(hessian: torch.Tensor, pulls: torch.Tensor) -> torch.Tensor:
        curvatures, directions = torch.linalg.eigh((hessian + hessian.mT) / 2)
        steep = directions[:, len(curvatures) - rank :]
        centred = (pulls - pulls.mean(dim=0)) @ steep
        return steep @ root(pace * settled(curvatures[len(curvatures) - rank :], centred.T / n**0.5))

    def one(theta: torch.Tensor) -> torch.Tensor:
        pulls = (errors(theta)[:, :, None] * jacrev(errors)(theta)).sum(dim=1)
        hessian, pull = vjp(jacrev(grad(half)), theta)
        spread = cloud(hessian, pulls)
        return -job.lr * (2 * pulls.mean(dim=0) + pull(spread @ spread.T)[0])

    def here() -> torch.Tensor:
        pulls, loss = forces(model, job.x, job.y), loss_at(model, job.x, job.y)
        return -job.lr * (2 * pulls.mean(dim=0) + loss.along(cloud(loss.hessian(), pulls)))

    at_once = NUMBERS_PER_CHUNK // (n * k * sum(sizes) + sum(sizes) ** 2)
    return together_where_possible(job, torch.vmap(one), one_after_the_other(model, here), at_once)
