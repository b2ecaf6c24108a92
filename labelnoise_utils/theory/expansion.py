"""One SGD step expanded around a zero-error point, equation (6), and SGD with some of its terms only."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch.func import functional_call, grad, jacfwd

from ..arguments import as_integer, as_positive
from ..models.compiled import jit
from ..regularizer.hypothesis import attributes_kept, gradients_possible, trainable, twice_differentiable
from ..regularizer.norms import ElementaryNorms
from ..sgd.noise import LabelNoise, sgd_draws
from .geometry import errors, linearize

# The terms of equation (6) by the number of derivatives along theta on e and on grad h, in the paper's order.
TERMS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
LARGEST_EXPANSION = 2**24


def update_terms(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, displacement: torch.Tensor, *, lr: float, order: int = 2
) -> dict[tuple[int, int], torch.Tensor]:
    r"""The terms of one SGD step at ``theta* + displacement``, expanded around ``theta*``, the model's parameters.

    The step on one example is ``-lr grad (e^2) = -2 lr e grad h`` with the error ``e = h - y``. With a derivatives along
    the displacement on e and b on grad h, the term is

    ``-2 lr e^(a) (grad h)^(b) / (a! b!)``,

    and the terms with ``a + b = k`` are the k-th order. So (0, 0) is ``-2 lr e h^j``, the noise; (1, 0) is
    ``-2 lr h^theta h^j``, which restores; (1, 1) is ``-2 lr h^{j,theta} h^theta``, which regularizes.

    Args:
        model: any module that torch.func can differentiate, at theta*.
        x: (1, ...), one example.
        y: its label with the noise of the step, of the shape of ``model(x)``, which must have one number.
        displacement: (p,), theta - theta*.
        lr: learning rate, > 0.
        order: the highest to keep, >= 0. The remainder is of size ``lr |displacement|^(order + 1)``.

    Returns:
        For each (a, b) with ``a + b <= order`` a vector (p,). With order 2 they are the six terms of equation (6).

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a shape is not as above, y or displacement is not finite, lr is not positive, torch.func cannot
            differentiate the model, or as in :func:`linearize`.

    Source: equation (6).
    """
    lr = as_positive("lr", lr)
    order = as_integer("order", order, 0)
    error = errors(model, x, y)
    if len(x) != 1 or len(error) != 1:
        raise ValueError(f"x and y must hold one example with one output, got {tuple(x.shape)} and {tuple(y.shape)}")
    if not isinstance(displacement, torch.Tensor):
        raise TypeError(f"displacement must be a torch.Tensor, got {type(displacement).__name__}")
    with _transforms(model):
        h, theta = _h_of_theta(model, x)
        if displacement.shape != theta.shape:
            raise ValueError(f"displacement must have shape ({len(theta)},), got {tuple(displacement.shape)}")
        if not displacement.isfinite().all():
            raise ValueError("displacement must be finite, got NaN or infinity")
        displacement = displacement.detach().to(theta)

        values, slopes, derivative = [error[0]], [], h
        for _ in range(order + 1):
            slopes.append(grad(derivative)(theta))
            values.append(slopes[-1] @ displacement)
            derivative = _along(displacement, derivative)
    _check_all_seen(slopes[0][None], linearize(model, x).jacobian)
    return {
        (a, b): (-2 * lr / (math.factorial(a) * math.factorial(b)) * values[a] * slopes[b]).detach()
        for k in range(order + 1)
        for a, b in ((k - b, b) for b in range(k + 1))
    }


def _along(direction: torch.Tensor, f: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The derivative of f along the direction, by reverse mode, which more modules have than forward mode."""
    return lambda theta: grad(f)(theta) @ direction


@contextlib.contextmanager
def _transforms(model: torch.nn.Module) -> Iterator[None]:
    """Within the block torch.func differentiates the model, and leaves nothing in it.

    Raises:
        ValueError: if torch.func cannot.
    """
    try:
        with (
            gradients_possible(),
            torch.enable_grad(),
            attributes_kept(model),
            twice_differentiable(model),
            ElementaryNorms(),
        ):
            yield
    except RuntimeError as error:
        raise ValueError(f"torch.func cannot differentiate the model: {error}") from error


def _h_of_theta(model: torch.nn.Module, x: torch.Tensor) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """H on one example as a function of the flat parameters, and these."""
    parameters = list(trainable(model).values())
    theta = torch.nn.utils.parameters_to_vector(parameters).detach()
    sizes = [p.numel() for p in parameters]
    numbers = {p: i for i, p in enumerate(parameters)}
    # Each module once: functional_call spoils a model where a module stands in two places (pytorch issue 164759).
    places = {
        f"{path}.{attribute}".lstrip("."): numbers[p]
        for path, module in model.named_modules()
        for attribute, p in module.named_parameters(recurse=False, remove_duplicate=False)
        if p in numbers
    }

    def h(vector: torch.Tensor) -> torch.Tensor:
        parts = [part.view_as(p) for p, part in zip(parameters, vector.split(sizes), strict=True)]
        here = {place: parts[i] for place, i in places.items()}
        return functional_call(model, here, (x,), tie_weights=False).reshape(())

    return h, theta


def _check_all_seen(slopes: torch.Tensor, jacobian: torch.Tensor) -> None:
    """Refuse if the model reads a parameter where torch.func has not put the one that it differentiates by.

    Raises:
        ValueError: if the two first derivatives differ by more than rounding.
    """
    if (slopes - jacobian).abs().max() > torch.finfo(jacobian.dtype).eps ** 0.5 * jacobian.abs().max():
        raise ValueError(
            "torch.func does not see every use of a parameter: the model keeps a reference to one that is no attribute of a"
            " module"
        )


def expanded_sgd(
    model: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    lr: float,
    noise: LabelNoise,
    steps: int,
    terms: Iterable[tuple[int, int]] = TERMS,
    copies: int = 1,
    record: int = 50,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Label-noise SGD on the expansion of the update around the model's parameters, with some of its terms only.

    Args:
        model: at theta*, the centre and the start; of at most some dozens of parameters, since all third derivatives
            are stored, ``n p^3`` numbers. It is left as it was.
        x: (n, ...), the inputs.
        y: (n,), the labels.
        lr: learning rate, > 0.
        noise: of the labels.
        steps: how many.
        terms: which of the six terms of equation (6) act, as in :func:`update_terms`; all of them by default.
        copies: how many independent runs.
        record: how many equally spaced snapshots besides the start.
        seed: of the draws; copy c reads those of ``train`` with seed ``seed + c``.

    Returns:
        The step numbers (k,), and theta - theta* (k, copies, p).

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a term is not one of the six, the derivatives would hold more than ``2^24`` numbers or are not finite, h
            has several outputs, a shape or a number is out of range, torch.func cannot differentiate the model, or as in
            :func:`linearize`.
        ArithmeticError: if a copy blows up.

    Source: equation (6).
    """
    lr, steps, copies = as_positive("lr", lr), as_integer("steps", steps, 1), as_integer("copies", copies, 1)
    record, seed = as_integer("record", record, 1), as_integer("seed", seed, 0)
    if isinstance(terms, str) or not isinstance(terms, Iterable):
        raise TypeError(f"terms must be a collection of pairs among {TERMS}, got {terms!r}")
    terms = list(terms)
    if not all(term in TERMS for term in terms):
        raise ValueError(f"terms must be among {TERMS}, got {terms}")
    if not isinstance(noise, LabelNoise):
        raise TypeError(f"noise must be a LabelNoise, got {noise!r}")
    error = errors(model, x, y)
    if y.shape != (len(x),):
        raise ValueError(f"y and model(x) must have shape ({len(x)},), got {tuple(y.shape)}")
    count = sum(p.numel() for p in trainable(model).values())
    if len(x) * count**3 > LARGEST_EXPANSION:
        raise ValueError(f"the third derivatives would hold {len(x)} x {count}^3 numbers, more than {LARGEST_EXPANSION:,}")
    derivatives = []
    with _transforms(model):
        for x_i in x.split(1):
            h, theta = _h_of_theta(model, x_i)
            first = grad(h)
            derivatives.append([f(theta).detach() for f in (first, jacfwd(first), jacfwd(jacfwd(first)))])
    tensors = [torch.stack(parts) for parts in zip(*derivatives, strict=True)]
    if not all(tensor.isfinite().all() for tensor in tensors):
        raise ValueError("the derivatives of the model are not finite at its parameters")
    _check_all_seen(tensors[0], linearize(model, x).jacobian)
    e, *tensors = (tensor.double().numpy(force=True) for tensor in (error, *tensors))
    on = np.array([term in terms for term in TERMS], dtype=np.float64)
    kept = np.unique(np.rint(np.linspace(0, steps, record + 1)).astype(np.int64))
    path = np.zeros((len(kept), copies, count))
    for copy in range(copies):
        displacement, done, k = np.zeros(count), 0, 1
        for indices, z in sgd_draws(len(x), steps, noise=noise, seed=seed + copy):
            begin = 0
            while begin < len(indices):
                end = min(len(indices), begin + kept[k] - done)
                _expanded(displacement, e, *tensors, indices[begin:end, 0], z[begin:end, 0], lr, on)
                done, begin = done + end - begin, end
                if done == kept[k]:
                    path[k, copy] = displacement
                    k += 1
        if not np.isfinite(path[:, copy]).all():
            worst = kept[~np.isfinite(path[:, copy]).all(axis=1)][0]
            raise ArithmeticError(f"copy {copy} blew up before step {worst}: try a smaller lr than {lr:g} or more terms")
    return kept, path


@jit
def _expanded(theta, e, first, second, third, indices, noise, lr, on):
    """Steps of equation (6) with the terms that are on, in place."""
    p = len(theta)
    step = np.empty(p)
    for t in range(len(indices)):
        i = indices[t]
        error = e[i] - noise[t]
        along = 0.0  # h^theta
        twice = 0.0  # h^{theta, theta}
        for j in range(p):
            along += first[i, j] * theta[j]
            for k in range(p):
                twice += second[i, j, k] * theta[j] * theta[k]
        for j in range(p):
            slope = 0.0  # h^{j, theta}
            bend = 0.0  # h^{j, theta, theta}
            for k in range(p):
                slope += second[i, j, k] * theta[k]
                for m in range(p):
                    bend += third[i, j, k, m] * theta[k] * theta[m]
            zeroth = on[0] * error * first[i, j]
            linear = on[1] * along * first[i, j] + on[2] * error * slope
            quadratic = on[3] * first[i, j] * twice / 2 + on[4] * slope * along + on[5] * error * bend / 2
            step[j] = zeroth + linear + quadratic
        for j in range(p):
            theta[j] -= 2 * lr * step[j]
