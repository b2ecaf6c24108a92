"""What label noise pushes down where it differs from label to label, and the brackets that turn the push aside."""

import torch

from ..arguments import as_integer
from ..regularizer import implicit_regularizer, per_example_sq_norms
from ..regularizer.hypothesis import Hypothesis, attributes_kept, gradients_possible, trainable, twice_differentiable
from ..regularizer.inputs import Inputs, batches
from ..sgd.noise import LabelNoise
from .geometry import jacobian_of, linearize
from .noise_covariance import check_in_order, check_noise, equal_std, noise_covariance, variances
from .unequal import balanced


def weighted_regularizer(model: torch.nn.Module, x: Inputs, noise: LabelNoise, *, batch_size: int | None = 1) -> torch.Tensor:
    r"""The regularizer that weighs every label by its noise: ``(1/n) sum_ab S_ab <grad h_a, grad h_b>``.

    a and b run over the n k labels, and S is the covariance of their noise as a step feels it. For independent noise
    it is ``(1/(n B)) sum_i sigma_i^2 ||grad h_i||^2``; for equal noise ``sigma^2 / B`` times reg. Label-noise SGD
    follows ``-lr^2`` times its gradient only in part: see :func:`drift`.

    Args:
        model: any module that :func:`implicit_regularizer` takes.
        x: (n, ...), the inputs.
        noise: of the labels, equal or not, independent or not.
        batch_size: examples per step, B; None is the full batch.

    Returns:
        Scalar tensor, differentiable like :func:`implicit_regularizer`.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the noise has another shape than the labels, the batch size is below 1, or as in
            :func:`implicit_regularizer` and :func:`linearize`.

    Source: ours; equation (1) is the case of equal noise.

    >>> from labelnoise_utils import LabelNoise, Product
    >>> weighted_regularizer(Product(3.0, 4.0), torch.zeros(1), LabelNoise(2.0), batch_size=5).item()
    20.0
    """
    check_noise(noise)
    if equal_std(noise) is None:
        check_in_order(x)
    h = Hypothesis(model, trainable(model))
    with gradients_possible():
        parts = [*batches(x, None, next(iter(h.parameters.values())))]
        with attributes_kept(model), torch.enable_grad():
            outputs = h.of_one(next(iter(parts[0].split(1)))).numel()
    n = sum(map(len, parts))
    if noise.covariance is not None:
        s = noise_covariance(noise, n, outputs, batch_size)
        with twice_differentiable(model):
            jacobian, _ = jacobian_of(h, x, graph=torch.is_grad_enabled())
        return ((s.to(jacobian) @ jacobian) * jacobian).sum() / n
    # Without S, which holds (n k)^2 numbers.
    read = n if batch_size is None else as_integer("batch_size", batch_size, 1)
    weights = torch.tensor(variances(noise.std, n, outputs) / read)
    if not (weights == weights[:, :1]).all():
        with twice_differentiable(model):
            jacobian, _ = jacobian_of(h, x, graph=torch.is_grad_enabled())
        return weights.reshape(-1).to(jacobian) @ jacobian.square().sum(dim=1) / n
    if (weights == weights[0, 0]).all():
        return weights[0, 0].item() * implicit_regularizer(model, x)
    norms = per_example_sq_norms(model, x)
    return weights[:, 0].to(norms) @ norms / n


def bracket_drift(
    model: torch.nn.Module, x: Inputs, lr: float, noise: LabelNoise, batch_size: int | None, tol: float | None
) -> torch.Tensor:
    """The drift per step under unequal noise, :func:`labelnoise_utils.drift`: ``-(2 lr^2 / n) P sum_i H_i J^T (M K)_i``.

    The displacement has the covariance ``lr J^T M J``, and ``H_i`` is the Hessian of label i: where it is displaced by
    delta, SGD moves by ``-(2 lr / n) sum_i (g_i . delta) H_i delta`` along the manifold, and this is the mean. Only
    directional derivatives of the gradients ``g_i`` are taken, one for each label.

    Args:
        model: at a point with zero training error.
        x: (n, ...), the inputs.
        lr: learning rate.
        noise: of the labels.
        batch_size: examples per step, or None.
        tol: of the rank.

    Returns:
        (p,).
    """
    check_in_order(x)
    line = linearize(model, x, tol=tol)
    s = noise_covariance(noise, line.examples, len(line.jacobian) // line.examples, batch_size).to(line.jacobian)
    aims = directions(line.jacobian @ line.normal @ line.normal.T, s)
    return -2 * lr**2 / line.examples * line.project_tangent(bend(model, x, aims))


def directions(jacobian: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Along which the gradient of each label is to be differentiated: row a is ``J^T (M K)_a``.

    Args:
        jacobian: (n k, p).
        s: (n k, n k), the covariance of the noise.

    Returns:
        (n k, p); the cloud over lr times the gradient of each label.
    """
    labels, sizes, parameters = torch.linalg.svd(jacobian, full_matrices=False)
    return (labels * sizes) @ balanced(sizes, labels.T @ s @ labels) @ parameters


def bend(model: torch.nn.Module, x: Inputs, aims: torch.Tensor) -> torch.Tensor:
    """``sum_i H_i w_i``: the derivative of each label's gradient along a direction of its own, summed.

    Args:
        model: the hypothesis.
        x: (n, ...), the inputs.
        aims: (n k, p), w.

    Returns:
        (p,).
    """
    h = Hypothesis(model, trainable(model))
    with gradients_possible(), torch.enable_grad(), twice_differentiable(model):
        jacobian, _ = jacobian_of(h, x, graph=True)
        if not jacobian.requires_grad:
            return torch.zeros_like(aims[0])
        slopes = torch.autograd.grad((jacobian * aims.clone()).sum(), [*h.parameters.values()], materialize_grads=True)
    return torch.cat([slope.to_dense().reshape(-1) for slope in slopes])
