"""The geometry at a zero-error point: the Jacobian, the directions that restore, and the way to such a point."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from ..arguments import as_integer, as_number, as_positive, as_tensor
from ..regularizer.hypothesis import (
    Hypothesis,
    attributes_kept,
    check_examples,
    gradients_possible,
    set_parameters,
    trainable,
)
from ..regularizer.inputs import Examples, Inputs, batches

LARGEST_JACOBIAN = 2**27


@dataclass(frozen=True, eq=False)
class Linearization:
    """The model to first order in theta, at the parameters it had.

    Attributes:
        jacobian: (n, p), dh(x_i)/dtheta; with k outputs (n k, p), the outputs of an example one after the other.
        gamma: (r,), the positive eigenvalues of ``(1/n) jacobian^T jacobian``, largest first; their sum is reg.
        normal: (p, r), their orthonormal eigenvectors. All directions orthogonal to them are tangent: h does not change along
            them, to first order.
        examples: n; the Jacobian has n k rows.
    """

    jacobian: torch.Tensor
    gamma: torch.Tensor
    normal: torch.Tensor
    examples: int

    def project_tangent(self, vector: torch.Tensor) -> torch.Tensor:
        """The part of a vector (p,), or of each row of (m, p), that lies in the tangent space.

        Returns:
            A tensor of the same shape.

        Raises:
            TypeError: if vector is no tensor.
            ValueError: if its shape or dtype is another.
        """
        if not isinstance(vector, torch.Tensor):
            raise TypeError(f"vector must be a torch.Tensor, got {type(vector).__name__}")
        count, dtype = len(self.normal), self.normal.dtype
        if vector.dim() not in (1, 2) or vector.shape[-1] != count or vector.dtype != dtype:
            raise ValueError(
                f"vector must have shape ({count},) or (m, {count}) and {dtype}, got {tuple(vector.shape)} and {vector.dtype}"
            )
        return vector - vector @ self.normal @ self.normal.T


def linearize(
    model: torch.nn.Module,
    x: Inputs,
    *,
    tol: float | None = None,
    output: str | int | None = None,
    inputs: Callable | None = None,
) -> Linearization:
    """The Jacobian of the model and the directions in which it restores.

    By one backward pass for each example and output, and a singular value decomposition: ``n p`` numbers of memory and about
    ``n^2 p`` operations.

    Args:
        model: any module whose Jacobian fits.
        x: (n, ...), the inputs, in any form that :func:`implicit_regularizer` takes.
        tol: singular values of the Jacobian up to ``tol`` times the largest count as zero; by default
            ``max(n, p)`` times the machine epsilon.
        output: as in :func:`implicit_regularizer`.
        inputs: as there.

    Returns:
        A :class:`Linearization`; nothing in it is differentiable.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the Jacobian would hold more than ``2^27`` numbers, h or the Jacobian is not finite, a parameter is
            neither float32 nor float64, tol is not in [0, 1), or as in :func:`implicit_regularizer`.

    Source: section 3.2; gamma is its diagonal matrix E[h_i^j h_i^k] in the basis of its eigenvectors.
    """
    if tol is not None:
        tol = as_number("tol", tol)
        if not 0 <= tol < 1:
            raise ValueError(f"tol must be in [0, 1), got {tol:g}")
    jacobian, n = jacobian_of(Hypothesis(model, trainable(model), output), x, inputs)
    _, sizes, directions = torch.linalg.svd(jacobian, full_matrices=False)
    tol = max(jacobian.shape) * torch.finfo(jacobian.dtype).eps if tol is None else tol
    rank = int((sizes > tol * sizes[:1]).sum())
    return Linearization(jacobian, sizes[:rank].square() / n, directions[:rank].T, n)


def jacobian_of(h: Hypothesis, x: Inputs, inputs: Callable | None = None, *, graph: bool = False) -> tuple[torch.Tensor, int]:
    """The Jacobian dh/dtheta, by one backward pass for each example and output.

    Args:
        h: the hypothesis.
        x: as in :func:`linearize`.
        inputs: as there.
        graph: keep the graph of autograd, so that the Jacobian can be differentiated.

    Returns:
        (n k, p), and n.

    Raises:
        ValueError: as in :func:`linearize`.
    """
    with gradients_possible():
        parts = [*batches(x, inputs, next(iter(h.parameters.values())))]
        for part in parts:
            check_examples(h, part)
    for name, p in h.parameters.items():
        if p.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"parameter {name!r} must be float32 or float64 for a Jacobian, got {p.dtype}")
    n, count = sum(map(len, parts)), sum(p.numel() for p in h.parameters.values())
    rows = []
    with gradients_possible():
        for one in (one for part in parts for one in part.split(1)):
            with torch.enable_grad(), attributes_kept(h.model):
                h_i = h.of_one(one)
                outputs = h_i.unbind()
            if n * len(h_i) * count > LARGEST_JACOBIAN:
                raise ValueError(
                    f"the Jacobian would hold {n} x {len(h_i)} x {count:,} numbers (examples, outputs, parameters), more"
                    f" than {LARGEST_JACOBIAN:,}: pass fewer examples or freeze parameters"
                )
            check_finite(h_i)
            if not h_i.requires_grad:
                rows.append(h_i.new_zeros(len(h_i), count))
                continue
            for output in outputs:
                slopes = torch.autograd.grad(
                    output, [*h.parameters.values()], retain_graph=True, create_graph=graph, materialize_grads=True
                )
                with torch.set_grad_enabled(graph):
                    rows.append(torch.cat([slope.to_dense().reshape(-1) for slope in slopes])[None])
    with torch.set_grad_enabled(graph):
        jacobian = torch.cat(rows)
    if not jacobian.isfinite().all():
        raise ValueError("the Jacobian of the model is not finite: h has an infinite slope at these parameters")
    return jacobian, n


def check_finite(h: torch.Tensor) -> None:
    """Refuse outputs that are NaN or infinite.

    Raises:
        ValueError: if one is.
    """
    if not h.isfinite().all():
        raise ValueError("model(x) is not finite: the parameters hold NaN or infinity, or are too large")


def project_to_zero_error(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, *, tol: float | None = None, max_steps: int = 100
) -> int:
    """Move the parameters to a nearby point with zero training error, by Newton's method with the shortest steps.

    ``theta <- theta - J^+ (h - y)``, with the pseudo-inverse of the Jacobian J. A step that does not lower the error is
    halved, up to thirty times.

    Args:
        model: changed in place.
        x: (n, ...), the inputs: a tensor or an array, a tuple or a dict of them.
        y: of the shape of ``model(x)``, the labels, a tensor or an array.
        tol: the largest ``|h - y|`` allowed at the end, in units of y; by default 1e-12, and 1e-6 where a parameter is
            float32.
        max_steps: of Newton's method.

    Returns:
        How many steps it took.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if y has another shape, tol is not positive, or as in :func:`linearize`.
        ArithmeticError: if there is no such point near by; the model is back where it was.

    Source: ours; it makes the points theta* of section 3.
    """
    tol, max_steps = None if tol is None else as_positive("tol", tol), as_integer("max_steps", max_steps, 1)
    error = errors(model, x, y)
    h = Hypothesis(model, trainable(model))
    double = all(p.dtype == torch.float64 for p in h.parameters.values())
    if tol is None:
        tol = 1e-12 if double else 1e-6
    like = next(iter(h.parameters.values()))
    examples, y = next(batches(x, None, like)), as_tensor("y", y, like).to(error)
    start = torch.nn.utils.parameters_to_vector(trainable(model).values()).detach().clone()
    for step in range(max_steps + 1):
        size = error.abs().max()
        if size <= tol:
            return step
        jacobian, _ = jacobian_of(h, x)
        theta = torch.nn.utils.parameters_to_vector(trainable(model).values()).detach()
        move = torch.linalg.pinv(jacobian) @ error
        before = error.norm()
        for halvings in range(31):
            set_parameters(model, theta - move / 2**halvings)
            error = (_values(h, examples) - y).reshape(-1)
            if error.norm() < before:
                break
        else:
            break
    set_parameters(model, start)
    hint = "" if double else "; the parameters are not float64, whose rounding is finer: model.double()"
    raise ArithmeticError(
        f"no point with an error below {tol:g} was found near by; the error got down to {size.item():.3g}{hint}"
    )


def errors(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The errors h - y, from arguments that are checked first.

    Returns:
        (n k,), the outputs of an example one after the other.

    Raises:
        TypeError: if x or y is no tensor or array, or model no module.
        ValueError: if y has another shape than ``model(x)``, one of the two is not finite, or as in
            :func:`implicit_regularizer`.
    """
    h = Hypothesis(model, trainable(model))
    if isinstance(x, DataLoader):
        raise TypeError("x must be a tensor or an array, a tuple or a dict of them, beside y, got a DataLoader")
    like = next(iter(h.parameters.values()))
    with gradients_possible():
        examples = next(batches(x, None, like))
        check_examples(h, examples)
        values, y = _values(h, examples), as_tensor("y", y, like)
    if values.shape != y.shape:
        raise ValueError(f"y must have the shape of model(x), {tuple(values.shape)}, got {tuple(y.shape)}")
    if not y.isfinite().all():
        raise ValueError(f"y must be finite, got NaN or infinity in example {(~y.isfinite()).nonzero()[0, 0].item()}")
    check_finite(values)
    return (values - y.to(values)).reshape(-1)


def _values(h: Hypothesis, examples: Examples) -> torch.Tensor:
    """H of the examples; with gradients enabled, since fused layers that torch takes without them compute something else."""
    with gradients_possible(), torch.enable_grad(), attributes_kept(h.model):
        return h(examples).detach()
