"""Minima of the mean squared error that have residuals: the loss to second order, and the way to such a point."""

from dataclasses import dataclass

import torch

from ..arguments import as_integer, as_positive, as_tensor
from ..regularizer.hypothesis import (
    Hypothesis,
    attributes_kept,
    gradients_possible,
    set_parameters,
    trainable,
    twice_differentiable,
)
from ..regularizer.inputs import Inputs, batches
from ..regularizer.norms import ElementaryNorms
from .geometry import errors, jacobian_of
from .solver import check_float64

# Curvatures up to so much of the largest are left alone.
FLAT = 1e-6
# Of the gradient at a minimum, relative to its parts by example.
AT_MINIMUM = 1e-7
# An error that counts as none, in units of the label: at zero error the gradient is what rounding leaves.
ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Loss:
    """Half the mean squared error at the parameters, ``f = (1/2n) sum_i |h_i - y_i|^2``, as autograd sees it.

    Attributes:
        value: f, without a graph.
        gradient: (p,), with its graph, if f has one that can be differentiated.
        parameters: of the model.
    """

    value: float
    gradient: torch.Tensor
    parameters: list[torch.Tensor]

    def hessian(self) -> torch.Tensor:
        """The Hessian of f, (p, p), by a backward pass for each parameter."""
        with torch.enable_grad():
            slopes = self.gradient.unbind()
        rows = torch.stack([self.derivative(slope) for slope in slopes])
        return (rows + rows.T) / 2

    def along(self, directions: torch.Tensor) -> torch.Tensor:
        """The third derivative of f along directions (p, r), twice each, summed: ``sum_c D^3 f[q_c, q_c, .]``, (p,)."""
        total = torch.zeros_like(self.gradient).detach()
        for q in directions.T:
            with torch.enable_grad():
                twice = self.derivative(self.gradient @ q, graph=True) @ q
            total = total + self.derivative(twice)
        return total

    def derivative(self, of: torch.Tensor, *, graph: bool = False) -> torch.Tensor:
        """The gradient of a scalar in the parameters, (p,), zeros where it has none."""
        if not of.requires_grad:
            return torch.zeros_like(self.gradient).detach()
        slopes = torch.autograd.grad(of, self.parameters, retain_graph=True, create_graph=graph, materialize_grads=True)
        with torch.set_grad_enabled(graph):
            return torch.cat([slope.to_dense().reshape(-1) for slope in slopes])


def loss_at(model: torch.nn.Module, x: Inputs, y: torch.Tensor) -> Loss:
    """The loss at the model's parameters; to be used within ``twice_differentiable``.

    Args:
        model: the hypothesis, its arguments checked before.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.

    Returns:
        The loss.
    """
    h = Hypothesis(model, trainable(model))
    parameters = [*h.parameters.values()]
    with gradients_possible(), torch.enable_grad(), attributes_kept(model), ElementaryNorms():
        examples = next(batches(x, None, parameters[0]))
        values = h(examples)
        f = (values - as_tensor("y", y, parameters[0]).to(values)).square().sum() / (2 * len(examples))
        if not f.requires_grad:
            return Loss(f.item(), torch.cat([torch.zeros_like(p).reshape(-1) for p in parameters]).detach(), parameters)
        slopes = torch.autograd.grad(f, parameters, create_graph=True, materialize_grads=True)
        return Loss(f.item(), torch.cat([slope.to_dense().reshape(-1) for slope in slopes]), parameters)


def forces(model: torch.nn.Module, x: Inputs, y: torch.Tensor) -> torch.Tensor:
    """What each example pulls with, ``sum_o r_io grad h_io`` with r the residual h - y, (n, p).

    Args:
        model: the hypothesis.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.

    Returns:
        (n, p); the mean is the gradient of half the mean squared error.
    """
    residuals = errors(model, x, y)
    jacobian, n = jacobian_of(Hypothesis(model, trainable(model)), x)
    return (residuals.to(jacobian)[:, None] * jacobian).reshape(n, -1, jacobian.shape[1]).sum(dim=1)


def project_to_minimum(model: torch.nn.Module, x: Inputs, y: torch.Tensor, *, tol: float = 1e-10, max_steps: int = 200) -> int:
    """Move the parameters to a nearby minimum of the mean squared error, with or without residuals, by Newton's method.

    ``theta <- theta - |H|^+ grad f`` with f half the mean squared error and H its Hessian, of which directions whose
    eigenvalues are below 1e-6 of the largest are left alone, and negative ones taken as positive. A step that does not lower f
    is halved, up to thirty times. By a backward pass for each parameter, so for small models.

    Args:
        model: changed in place.
        x: (n, ...), the inputs.
        y: of the shape of ``model(x)``, the labels.
        tol: the length of the next step at the end, at most, relative to that of theta or, where that is below 1, to 1.
        max_steps: of Newton's method.

    Returns:
        How many steps it took.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if y has another shape, tol is not positive, the parameters are not float64, or as in :func:`linearize`.
        ArithmeticError: if there is no such point near by, or none that second derivatives tell from a saddle: where all of
            them are 0 and residuals are left. The model is back where it was.

    A saddle where the loss falls only in third order or beyond, so that no eigenvalue of H is negative, is refused only where
    H is 0.

    Source: ours; it makes the points that :func:`residual_drift` is about, as :func:`project_to_zero_error` those of section 3.
    """
    tol, max_steps = as_positive("tol", tol), as_integer("max_steps", max_steps, 1)
    check_float64(model, "project_to_minimum")
    errors(model, x, y)
    start = torch.nn.utils.parameters_to_vector(trainable(model).values()).detach().clone()
    with gradients_possible(), twice_differentiable(model):
        loss = loss_at(model, x, y)
        for step in range(max_steps + 1):
            theta = torch.nn.utils.parameters_to_vector(trainable(model).values()).detach().clone()
            curvatures, directions = torch.linalg.eigh(loss.hessian())
            steep = curvatures.abs() > FLAT * curvatures.abs().max()
            slopes = directions.T @ loss.gradient.detach()
            move = directions @ torch.where(steep, slopes / torch.where(steep, curvatures.abs(), 1), 0)
            if move.norm() <= tol * max(1, theta.norm()):
                wrong = _what_is_no_minimum(loss, curvatures, slopes[~steep], forces(model, x, y))
                if wrong is None:
                    return step
                set_parameters(model, start)
                raise ArithmeticError(f"no minimum was found near by: Newton's method stays at {wrong}")
            for halvings in range(31):
                set_parameters(model, theta - move / 2**halvings)
                last, loss = loss, loss_at(model, x, y)
                # Near the end the value itself no longer shows in its last digits that the gradient falls.
                if loss.value < last.value or loss.gradient.norm() < last.gradient.norm() / 2:
                    break
                loss = last
            else:
                break
    set_parameters(model, start)
    raise ArithmeticError(f"no minimum was found near by: {step} steps of Newton's method ended at one of {move.norm():.3g}")


def is_undecided(loss: Loss, curvatures: torch.Tensor) -> bool:
    """Whether a point of no slope is one of no curvature either, with residuals: a saddle of a deep network, say."""
    return not curvatures.any() and 2 * loss.value > ROUNDING**2


def _what_is_no_minimum(loss: Loss, curvatures: torch.Tensor, flat_slopes: torch.Tensor, pulls: torch.Tensor) -> str | None:
    largest = curvatures.abs().max()
    if curvatures[0] < -FLAT * largest:
        return f"a saddle, whose Hessian has the eigenvalue {curvatures[0]:.3g}"
    slope, scale = flat_slopes.norm(), pulls.square().sum(dim=1).mean().sqrt()
    if slope > AT_MINIMUM * scale + ROUNDING * largest.sqrt():
        return f"a slope of {slope:.3g} along directions without curvature"
    if is_undecided(loss, curvatures):
        return f"a point whose Hessian is 0, with a mean squared error of {2 * loss.value:.3g}, which may be a saddle"
    return None
