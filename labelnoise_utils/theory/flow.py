"""The path without noise: gradient flow of the loss plus the regularizer that label noise adds to it."""

import copy
import itertools
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch.nn.utils import parameters_to_vector

from ..arguments import as_integer, as_nonnegative, as_positive
from ..regularizer import implicit_regularizer
from ..regularizer.ghost import NotCoveredError
from ..regularizer.gradients import NUMBERS_PER_CHUNK, h_and_sq_norms
from ..regularizer.hypothesis import attributes_kept, parameters_kept, set_parameters, trainable, twice_differentiable
from ..regularizer.snapshots import loss_and_reg
from ..sgd.job import Job, prepare
from ..sgd.noise import LabelNoise
from ..sgd.run import Run


def effective_flow(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    lr: float,
    noise_std: float,
    steps: int,
    batch_size: int | None = 1,
    record: int | Sequence[int] = 200,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_evaluations: int | None = None,
) -> Run:
    r"""Follow the flow that label-noise SGD follows on average, from the model's parameters, in place.

    ``d theta / d t = -lr grad [ (1/n) sum_i (h(x_i) - y_i)^2 + (lr noise_std^2 / batch_size) reg ]``, t counted in SGD steps.

    The two terms live on time scales ``1 / lr`` and ``1 / lr^2``, so the equation is stiff: scipy's LSODA solves it with
    steps that grow with the smoothness of the path, not with ``steps``. It costs a few hundred to a few thousand
    gradients of reg, and p of them, all at once, for each estimate of the p x p Jacobian of the field.

    The field has to be smooth. That of a ReLU network jumps where a kink crosses an example, and reg often drives a kink
    against such a jump from both sides: the solver then creeps along it and ends in the error below.

    Args:
        model: the hypothesis; its trainable parameters are changed in place to those at the end.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.
        lr: learning rate of the SGD to be followed, > 0.
        noise_std: standard deviation of its label noise, >= 0; 0 is gradient flow of the loss.
        steps: of SGD, how far to go, >= 1.
        batch_size: examples per step of SGD; None is all of them.
        record: how many log-spaced snapshots, or the step numbers themselves, as in :func:`train`.
        rtol: relative tolerance of a step of the solver.
        atol: absolute tolerance, in units of the parameters.
        max_evaluations: how often the field may be evaluated; None is ``100 (p + 50)``, several times what smooth models of
            the book need.

    Returns:
        A :class:`Run` whose engine is "flow"; its ``step`` counts SGD steps.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as in :func:`train`, or if the parameters are not float64.
        ArithmeticError: if the solver gives up or needs more evaluations than allowed; the model is left as it was.

    Source: the informal statement after Theorem 1, with the variance in place of the standard deviation.
    """
    noise, rtol, atol = LabelNoise(as_nonnegative("noise_std", noise_std)), as_positive("rtol", rtol), as_positive("atol", atol)
    job = prepare(model, x, y, lr=lr, steps=steps, noise=noise, batch_size=batch_size, record=record)
    parameters = list(trainable(model).values())
    for p in parameters:
        if p.dtype != torch.float64:
            raise ValueError(f"effective_flow needs a float64 model, got {p.dtype}: call model.double() first")
    coefficient = job.lr * noise_std**2 / (job.batch_size or len(job.x))
    template = copy.deepcopy(model)
    count = sum(p.numel() for p in parameters)
    limit = 100 * (count + 50) if max_evaluations is None else as_integer("max_evaluations", max_evaluations, 1)
    evaluations = itertools.count(1)

    fields = _fields(model, job, coefficient)

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
    theta = theta[np.isin(moments, job.record)]
    loss, reg = loss_and_reg(template, torch.from_numpy(theta), job.x, job.y)
    return Run(
        step=job.record,
        loss=loss.numpy(),
        reg=reg.numpy(),
        theta=theta,
        steps=steps,
        engine="flow",
        seconds=seconds,
        interrupted=False,
        model=template,
    )


def _fields(model: torch.nn.Module, job: Job, coefficient: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """The field at many parameter vectors, (k, p) to (k, p): in few passes where the model is small and runs under vmap."""
    parameters, n = trainable(model), len(job.x)
    sizes = [p.numel() for p in parameters.values()]
    at_once = NUMBERS_PER_CHUNK // (n * sum(sizes))

    def together(theta: torch.Tensor) -> torch.Tensor:
        return torch.cat([one_pass(part) for part in theta.split(at_once)])

    def one_pass(theta: torch.Tensor) -> torch.Tensor:
        theta = theta.detach().requires_grad_()
        with torch.enable_grad():
            # A row of its own for every theta with every example.
            copies = {
                name: part.view(-1, *p.shape).repeat_interleave(n, dim=0)
                for part, (name, p) in zip(theta.split(sizes, dim=1), parameters.items(), strict=True)
            }
            h, norms = h_and_sq_norms(model, copies, torch.cat([job.x] * len(theta)))
            errors = h.view(len(theta), -1) - job.y.reshape(-1)
            objectives = (errors.square().sum() + coefficient * sum(norms.values()).sum()) / n
            (slopes,) = torch.autograd.grad(objectives, theta, materialize_grads=True)
        return -job.lr * slopes

    def one_by_one(theta: torch.Tensor) -> torch.Tensor:
        rows = []
        for row in theta:
            set_parameters(model, row)
            with torch.enable_grad():
                objective = (model(job.x) - job.y).square().sum() / n
                if coefficient > 0:
                    objective = objective + coefficient * implicit_regularizer(model, job.x)
                slopes = torch.autograd.grad(objective, list(parameters.values()), materialize_grads=True)
            rows.append(-job.lr * torch.cat([slope.to_dense().reshape(-1) for slope in slopes]))
        return torch.stack(rows)

    if at_once == 0:
        return one_by_one
    try:
        with attributes_kept(model), twice_differentiable(model):
            one_pass(parameters_to_vector(parameters.values())[None])
    except (RuntimeError, NotCoveredError):
        return one_by_one
    return together
