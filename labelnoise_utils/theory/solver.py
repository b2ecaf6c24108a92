"""How a flow is followed: a stiff solver with its Jacobian by differences, and the run that comes of it."""

import itertools
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch.nn.utils import parameters_to_vector

from ..arguments import as_integer
from ..regularizer.hypothesis import (
    Hypothesis,
    attributes_kept,
    first_call,
    parameters_kept,
    set_parameters,
    trainable,
    twice_differentiable,
)
from ..regularizer.inputs import Examples
from ..regularizer.snapshots import loss_and_reg
from ..sgd.job import Job
from ..sgd.run import Run, as_array, copy_of, first_example, rest_of

Fields = Callable[[torch.Tensor], torch.Tensor]


def check_float64(model: torch.nn.Module, caller: str) -> None:
    """Refuse a model in another type than float64.

    Raises:
        ValueError: if a trainable parameter has another.
    """
    for p in trainable(model).values():
        if p.dtype != torch.float64:
            raise ValueError(f"{caller} needs a float64 model, got {p.dtype}: call model.double() first")


def follow(job: Job, fields: Fields, *, rtol: float, atol: float, max_evaluations: int | None) -> Run:
    """Follow a field from the model's parameters, in place, by scipy's LSODA.

    Args:
        job: the model, its data, how many steps, and which to record.
        fields: the field per step at many parameter vectors, (k, p) to (k, p).
        rtol: relative tolerance of a step of the solver.
        atol: absolute tolerance.
        max_evaluations: how often the field may be evaluated; None is ``100 (p + 50)``.

    Returns:
        A :class:`Run` whose engine is "flow".

    Raises:
        ArithmeticError: if the solver gives up or needs more evaluations than allowed; the model is left as it was.
    """
    model, steps = job.model, job.steps
    parameters = list(trainable(model).values())
    twin, rest = copy_of(model, job.x), {name: as_array(values) for name, values in rest_of(model).items()}
    count = sum(p.numel() for p in parameters)
    limit = 100 * (count + 50) if max_evaluations is None else as_integer("max_evaluations", max_evaluations, 1)
    evaluations = itertools.count(1)

    def counted(t: float, rows: np.ndarray) -> np.ndarray:
        for _ in rows:
            if next(evaluations) > limit:
                raise ArithmeticError(
                    f"the flow got to step {t:.4g} of {steps} in {limit} evaluations of the field, the most that are allowed."
                    " A field that jumps, as that of a ReLU network, can need ever smaller steps: take a smooth activation;"
                    " else raise max_evaluations, or rtol"
                )
        return fields(torch.from_numpy(rows)).numpy()

    def field(t: float, theta: np.ndarray) -> np.ndarray:
        return counted(t, theta[None])[0]

    def jacobian(t: float, theta: np.ndarray) -> np.ndarray:
        # Forward differences, each as wide as half of the digits of its parameter.
        widths = np.finfo(float).eps ** 0.5 * np.maximum(1, np.abs(theta))
        rows = counted(t, np.vstack([theta, theta + np.diag(widths)]))
        return ((rows[1:] - rows[0]) / widths[:, None]).T

    began = time.perf_counter()
    start = parameters_to_vector(parameters).detach().numpy().copy()
    moments = np.union1d(job.record, [steps])
    settings = dict(method="LSODA", t_eval=moments, rtol=rtol, atol=atol, jac=jacobian)
    with parameters_kept(model), attributes_kept(model), twice_differentiable(model):
        solution = solve_ivp(field, (0, steps), start, **settings)
    if not solution.success:
        raise ArithmeticError(f"the solver gave up before step {steps}: {solution.message}")
    theta = solution.y.T.copy()
    set_parameters(model, torch.from_numpy(theta[-1]))
    seconds = time.perf_counter() - began
    example = first_example(model, job.x, theta[-1])
    theta = theta[np.isin(moments, job.record)]
    loss, reg = loss_and_reg(model, torch.from_numpy(theta), job.x, job.y)
    return Run(
        step=job.record,
        loss=loss.numpy(),
        reg=reg.numpy(),
        theta=theta,
        steps=steps,
        engine="flow",
        seconds=seconds,
        interrupted=False,
        model=twin,
        rest=rest,
        example=example,
    )


def one_after_the_other(model: torch.nn.Module, field: Callable[[], torch.Tensor]) -> Fields:
    """The field at many parameter vectors, from one at the model's own.

    Returns:
        (k, p) to (k, p); it changes the model's parameters.
    """

    def fields(theta: torch.Tensor) -> torch.Tensor:
        rows = []
        for row in theta:
            set_parameters(model, row)
            rows.append(field())
        return torch.stack(rows)

    return fields


def together_where_possible(job: Job, many: Fields, slow: Fields, at_once: int) -> Fields:
    """The field in few passes where that gives, beside the model's parameters, what the slow way gives; else the slow way.

    Args:
        job: the model and its data.
        many: the field at up to ``at_once`` parameter vectors, (k, p) to (k, p), under ``torch.vmap``, which calls no hooks.
        slow: the field at many, by autograd on the model itself.
        at_once: parameter vectors at a time; 0 for the slow way.

    Returns:
        (k, p) to (k, p).
    """
    model = job.model
    if at_once == 0:
        return slow
    with attributes_kept(model):
        call = first_call(Hypothesis(model, trainable(model)), Examples({0: job.x}))
    if call.hooks is not None:
        return slow
    here = parameters_to_vector(trainable(model).values()).detach()
    # At a point that nothing singles out: at a minimum all of the field may be 0.
    here = (here + 0.01 * torch.cos(torch.arange(len(here)))).to(here)[None]
    with parameters_kept(model), attributes_kept(model), twice_differentiable(model):
        expected = slow(here)
        try:
            measured = many(here)
        except (RuntimeError, TypeError, ValueError):  # from vmap, or from a model that is called in another way than its own
            return slow
    close = torch.allclose(measured, expected, rtol=0, atol=1e-6 * expected.abs().max().item())
    return (lambda theta: torch.cat([many(part.detach()) for part in theta.split(at_once)])) if close else slow
