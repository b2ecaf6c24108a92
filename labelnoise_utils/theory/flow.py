"""The path without noise: gradient flow of the loss plus the regularizer that label noise adds to it."""

from collections.abc import Sequence

import torch

from ..arguments import as_nonnegative, as_positive
from ..regularizer import implicit_regularizer
from ..regularizer.gradients import NUMBERS_PER_CHUNK, h_and_sq_norms
from ..regularizer.hypothesis import trainable
from ..sgd.job import Job, prepare
from ..sgd.noise import LabelNoise
from ..sgd.run import Run
from .noise_covariance import check_noise, equal_std
from .solver import Fields, check_float64, follow, one_after_the_other, together_where_possible
from .unequal_flow import unequal_fields


def effective_flow(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    lr: float,
    steps: int,
    noise_std: float | None = None,
    noise: LabelNoise | None = None,
    batch_size: int | None = 1,
    record: int | Sequence[int] = 200,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    max_evaluations: int | None = None,
) -> Run:
    r"""Follow the flow that label-noise SGD follows on average, from the model's parameters, in place.

    ``d theta / d t = -lr grad [ (1/n) sum_i (h(x_i) - y_i)^2 + (lr noise_std^2 / batch_size) reg ]``, t counted in SGD steps.

    Where the noise differs from label to label, the second term is ``-lr^2 (2 / n) sum_a H_a J^T (M K)_a``, which is the
    :func:`drift` before it is projected: the gradient of the :func:`weighted_regularizer`, and Lie brackets.

    The two terms live on time scales ``1 / lr`` and ``1 / lr^2``, so the equation is stiff: scipy's LSODA solves it with
    steps that grow with the smoothness of the path, not with ``steps``. It costs a few hundred to a few thousand
    gradients of reg, and p of them, all at once, for each estimate of the p x p Jacobian of the field.

    The field has to be smooth. That of a ReLU network jumps where a kink crosses an example, and reg often drives a kink
    against such a jump from both sides: the solver then creeps along it and ends in the error below.

    A hook on a parameter, such as a mask of its gradient, acts as in :func:`train`. What a backward hook of a module makes of
    the gradient of reg, which autograd takes in two passes, need not be what it makes of steps of SGD.

    Args:
        model: the hypothesis; its trainable parameters are changed in place to those at the end.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.
        lr: learning rate of the SGD to be followed, > 0.
        steps: of SGD, how far to go, >= 1.
        noise_std: standard deviation of its label noise, >= 0, equal for all labels; 0 is gradient flow of the loss.
        noise: in its place, any :class:`LabelNoise`.
        batch_size: examples per step of SGD; None is all of them.
        record: how many log-spaced snapshots, or the step numbers themselves, as in :func:`train`.
        rtol: relative tolerance of a step of the solver.
        atol: absolute tolerance, in units of the parameters.
        max_evaluations: how often the field may be evaluated; None is ``100 (p + 50)``, several times what smooth models of
            the book need.

    Returns:
        A :class:`Run` whose engine is "flow"; its ``step`` counts SGD steps.

    Raises:
        TypeError: if an argument has the wrong type, or not exactly one of ``noise_std`` and ``noise`` is given.
        ValueError: as in :func:`train`, or if the parameters are not float64.
        ArithmeticError: if the solver gives up or needs more evaluations than allowed; the model is left as it was.

    Source: the informal statement after Theorem 1, with the variance in place of the standard deviation.
    """
    if (noise_std is None) == (noise is None):
        raise TypeError("effective_flow needs exactly one of noise_std, a number, and noise, a LabelNoise")
    noise = LabelNoise(as_nonnegative("noise_std", noise_std)) if noise is None else noise
    check_noise(noise)
    rtol, atol = as_positive("rtol", rtol), as_positive("atol", atol)
    job = prepare(model, x, y, lr=lr, steps=steps, noise=noise, batch_size=batch_size, record=record)
    check_float64(model, "effective_flow")
    std = equal_std(noise)
    if std is None:
        fields = unequal_fields(model, job)
    else:
        fields = _fields(model, job, job.lr * std**2 / (job.batch_size or len(job.x)))
    return follow(job, fields, rtol=rtol, atol=atol, max_evaluations=max_evaluations)


def _fields(model: torch.nn.Module, job: Job, coefficient: float) -> Fields:
    """The field at many parameter vectors, (k, p) to (k, p): in few passes where the model is small and runs under vmap."""
    parameters, n = trainable(model), len(job.x)
    sizes = [p.numel() for p in parameters.values()]

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

    def here() -> torch.Tensor:
        with torch.enable_grad():
            objective = (model(job.x) - job.y).square().sum() / n
            if coefficient > 0:
                objective = objective + coefficient * implicit_regularizer(model, job.x)
            slopes = torch.autograd.grad(objective, list(parameters.values()), materialize_grads=True)
        return -job.lr * torch.cat([slope.to_dense().reshape(-1) for slope in slopes])

    at_once = NUMBERS_PER_CHUNK // (n * sum(sizes))
    return together_where_possible(job, one_pass, one_after_the_other(model, here), at_once)
