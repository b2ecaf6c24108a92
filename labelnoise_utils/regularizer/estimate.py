"""Unbiased estimates of reg(theta), for networks for which the exact value costs too much."""

import contextlib
from collections.abc import Callable, Iterable

import torch

from ..arguments import as_integer
from .exact import Method, sq_norms
from .hypothesis import Hypothesis, Loss, attributes_kept, counted, first_call, gradients_possible, twice_differentiable
from .inputs import Examples, Inputs, batches
from .occasion import checked
from .rules import wide
from .signs import Draws, Estimate, SignedOutputs, estimate_of, generator_of, signs_like


def estimate_regularizer(
    model: torch.nn.Module,
    x: Inputs,
    *,
    draws: int = 1,
    seed: int | torch.Generator | None = None,
    tolerance: float | None = None,
    max_draws: int = 1000,
    h: object = None,
    chunk_size: int | None = None,
    parameters: Iterable[str | torch.Tensor] | str | torch.Tensor | None = None,
    loss: Loss = "squared",
    output: str | int | None = None,
    inputs: Callable | None = None,
) -> Estimate:
    r"""An unbiased estimate of reg from random signs, with its standard error.

    With independent signs s of the examples and outputs, ``E ||grad_theta sum_ik s_ik h_k(x_i)||^2`` is the sum of all
    ``||grad_theta h_k(x_i)||^2``, since the mixed products average out. So a draw costs one ordinary backward pass, whatever
    the layers and the number of outputs. It is for models whose exact reg costs too much: many outputs,
    layers without a ghost rule, or a penalty in every step of training::

        h = model(x)
        penalty = ln.estimate_regularizer(model, x, h=h).value
        (loss(h, y) + weight * penalty).backward()

    With K the matrix of the products of all these gradients, a draw over all examples has variance
    ``2 sum_{i != j} K_ij^2 / n^2``: of the order of reg^2 where the gradients point much the same way. Smaller chunks, each
    with a backward pass of its own, leave out the products between chunks.

    **What is checked.** Modes of the modules in every call. That the model draws nothing, keeps nothing, changes
    nothing of itself, and that h of the first and of the last example does not change with their batch, takes calls of
    the model: they are made the first time that a model is given with inputs of some shape and in some modes, then the
    second time, the fourth, the eighth and so on, so that a training loop does not pay for them.

    Args:
        model: as in :func:`implicit_regularizer`, but h may not read other examples even in a batch.
        x: as there.
        draws: how many times the signs are drawn.
        seed: of the signs: a number, or a generator, which moves on. By default fresh signs in every call; torch's global
            generator is left alone.
        tolerance: draw until the standard error is at most this times the value, at least 16 times. All batches are kept, and,
            where gradients are enabled, the graph of every draw.
        max_draws: with a tolerance, the most draws; if they do not do, there is a ``UserWarning``.
        h: what ``model(x)`` returned, with its graph, if it is at hand: spares a forward pass. Fused attention in it
            cannot be differentiated twice.
        chunk_size: examples per backward pass; by default all of a batch. With one example and one output it is exact.
        parameters: as in :func:`implicit_regularizer`.
        loss: as there.
        output: as there.
        inputs: as there.

    Returns:
        An :class:`Estimate` of two scalar tensors.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as in :func:`implicit_regularizer`, or if h of the first or of the last example changes with its batch; if
            draws or max_draws is too small or tolerance not positive; if h is given but has no graph, or together with
            chunks or batches.

    Source: Hutchinson (1989), applied to the matrix of the products of gradients whose trace is n reg.

    >>> from labelnoise_utils import Product
    >>> estimate_regularizer(Product(u=3.0, v=4.0), torch.zeros(1)).value.item()
    25.0
    """
    of = Hypothesis(model, counted(model, parameters), output, loss)
    return estimate_of(_shares(of, x, inputs, Draws(draws, tolerance, max_draws), seed, h, chunk_size).sum(dim=1))


def estimate_regularizer_by_parameter(
    model: torch.nn.Module,
    x: Inputs,
    *,
    draws: int = 1,
    seed: int | torch.Generator | None = None,
    tolerance: float | None = None,
    max_draws: int = 1000,
    h: object = None,
    chunk_size: int | None = None,
    parameters: Iterable[str | torch.Tensor] | str | torch.Tensor | None = None,
    loss: Loss = "squared",
    output: str | int | None = None,
    inputs: Callable | None = None,
) -> dict[str, Estimate]:
    """Unbiased estimates of the terms of reg by parameter, which :func:`regularizer_by_parameter` gives exactly.

    Args:
        model: as in :func:`estimate_regularizer`.
        x: as there.
        draws: as there.
        seed: as there.
        tolerance: as there, for the sum.
        max_draws: as there.
        h: as there.
        chunk_size: as there.
        parameters: as there.
        loss: as there.
        output: as there.
        inputs: as there.

    Returns:
        For each name in ``model.named_parameters()`` that counts an :class:`Estimate` of two scalar tensors. The values
        sum to that of :func:`estimate_regularizer` with the same seed; their errors are not independent.

    Raises:
        TypeError: as there.
        ValueError: as there.

    Source: as there.

    >>> from labelnoise_utils import Product
    >>> {name: of.value.item() for name, of in estimate_regularizer_by_parameter(Product(3.0, 4.0), torch.zeros(1)).items()}
    {'u': 16.0, 'v': 9.0}
    """
    of = Hypothesis(model, counted(model, parameters), output, loss)
    shares = _shares(of, x, inputs, Draws(draws, tolerance, max_draws), seed, h, chunk_size)
    return {name: estimate_of(shares[:, k]) for k, name in enumerate(of.parameters)}


def estimate_per_example_sq_norms(
    model: torch.nn.Module,
    x: Inputs,
    *,
    draws: int = 1,
    seed: int | torch.Generator | None = None,
    tolerance: float | None = None,
    max_draws: int = 1000,
    method: Method = "auto",
    chunk_size: int | None = None,
    parameters: Iterable[str | torch.Tensor] | str | torch.Tensor | None = None,
    loss: Loss = "squared",
    output: str | int | None = None,
    inputs: Callable | None = None,
) -> Estimate:
    """Unbiased estimates of the terms of reg by example, for models with many outputs.

    With signs of the outputs alone, ``E ||grad_theta sum_k s_k h_k(x_i)||^2 = ||grad_theta h(x_i)||^2``, summed over
    outputs. So a draw costs what :func:`per_example_sq_norms` costs for a single output, however many there are. No products
    between examples come in, so the mean over examples is a better estimate of reg than that of
    :func:`estimate_regularizer`, and dearer. With one output it is exact.

    Args:
        model: as in :func:`per_example_sq_norms`.
        x: as there.
        draws: how many times the signs are drawn.
        seed: as in :func:`estimate_regularizer`.
        tolerance: as there, for the mean over examples.
        max_draws: as there.
        method: as in :func:`implicit_regularizer`.
        chunk_size: as there.
        parameters: as there.
        loss: as there.
        output: as there.
        inputs: as there.

    Returns:
        An :class:`Estimate` of two tensors (n,).

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as in :func:`implicit_regularizer`, or if draws or max_draws is too small or tolerance not positive.

    Source: Hutchinson (1989), applied for each example to the matrix of the products of its outputs' gradients.

    >>> model = torch.nn.Linear(2, 100)
    >>> estimate_per_example_sq_norms(model, torch.tensor([[0.0, 0.0], [3.0, 4.0]])).value.detach()
    tensor([ 100., 2600.])
    """
    of = Hypothesis(model, counted(model, parameters), output, loss)
    plan, generator = Draws(draws, tolerance, max_draws), generator_of(seed)
    signed = Hypothesis(SignedOutputs(of), of.parameters)
    parts = _parts(of, x, inputs, keep=tolerance is not None)

    def norms_of(examples: Examples, count: int) -> torch.Tensor:
        with gradients_possible(), attributes_kept(model):
            outputs = first_call(of, examples).h.detach().expand(len(examples), -1)
        rows = []
        for _ in range(count):
            given = examples.tensors | examples.constants
            shifted = {key + 1 if isinstance(key, int) else key: value for key, value in given.items()}
            with_signs = {0: signs_like(outputs, generator), **shifted}
            rows.append(torch.cat(sq_norms(signed, with_signs, None, method, chunk_size, lambda norms: sum(norms.values()))))
        return torch.stack(rows)

    def draw(count: int) -> torch.Tensor:
        norms = torch.cat([norms_of(examples, count) for examples in parts], dim=1)
        return norms / norms.shape[1]

    shares = plan.made_by(draw)
    return estimate_of(shares * shares.shape[1])


def _parts(of: Hypothesis, x: Inputs, inputs: Callable | None, keep: bool) -> Iterable[Examples]:
    """The batches of x, to be gone through once, or as often as one likes."""
    parts = batches(x, inputs, next(iter(of.parameters.values())))
    return [*parts] if keep else parts


def _shares(
    of: Hypothesis,
    x: Inputs,
    inputs: Callable | None,
    plan: Draws,
    seed: int | torch.Generator | None,
    out: object,
    chunk_size: int | None,
) -> torch.Tensor:
    """||grad_p sum_ik s_ik h_k(x_i)||^2 / n for each draw of the signs and each parameter p, (draws, parameters)."""
    if chunk_size is not None:
        chunk_size = as_integer("chunk_size", chunk_size, 1)
    generator = generator_of(seed)
    with gradients_possible(), attributes_kept(of.model), _differentiable(of.model):
        parts = _parts(of, x, inputs, keep=plan.tolerance is not None or out is not None)
        if out is not None and (chunk_size is not None or len(parts) > 1):
            raise ValueError("h can be given for a single batch without chunk_size only")

        def draw(count: int) -> torch.Tensor:
            sums, n = 0, 0
            for examples in parts:
                with checked(of, examples, chunk_size) as check:
                    for chunk in examples.split(chunk_size or len(examples)):
                        h = _outputs(of, chunk, out)
                        check(chunk, h)
                        sums = sums + _of_chunk(h, [*of.parameters.values()], count, generator)
                n += len(examples)
            return sums / n

        return plan.made_by(draw)


def _differentiable(model: torch.nn.Module) -> contextlib.AbstractContextManager:
    return twice_differentiable(model) if torch.is_grad_enabled() else contextlib.nullcontext()


def _outputs(of: Hypothesis, examples: Examples, out: object) -> torch.Tensor:
    """The outputs with their graph, from a call of the model unless it has been made."""
    if out is None:
        with torch.enable_grad():
            return of(examples)
    with torch.enable_grad():
        h = of.of_output(out, len(examples))
    if not h.requires_grad:
        raise ValueError("h has no graph of autograd: compute it with gradients enabled, and do not detach it")
    return h


def _of_chunk(h: torch.Tensor, parameters: list[torch.Tensor], draws: int, generator: torch.Generator) -> torch.Tensor:
    """||grad_p sum_ik s_ik h_k(x_i)||^2, (draws, parameters)."""
    if not h.requires_grad:
        return wide(h).new_zeros(draws, len(parameters))
    rows = []
    for _ in range(draws):
        signs = signs_like(h, generator)
        gradients = torch.autograd.grad(
            h, parameters, signs, create_graph=torch.is_grad_enabled(), retain_graph=True, materialize_grads=True
        )
        rows.append(torch.stack([wide(g.to_dense()).square().sum() for g in gradients]))
    return torch.stack(rows)
