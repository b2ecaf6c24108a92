"""Unbiased estimates of reg(theta) and of its terms by parameter, for networks whose exact reg costs too much."""

import contextlib
import functools
from collections.abc import Callable, Iterable

import torch

from ..arguments import as_integer
from .hypothesis import (
    Hypothesis,
    Loss,
    attributes_kept,
    check_alone,
    check_examples,
    counted,
    gradients_possible,
    twice_differentiable,
)
from .inputs import Examples, Inputs, batches
from .occasion import Occasion, check_graph
from .rules import wide
from .signs import Draws, Estimate, estimate_of, generator_of, signs_like

# What to do about an h that the caller gave and the model would not give, and what is wrong with it.
NOT_OF_NOW = (
    "it was computed in another mode, by other parameters, from other inputs, or together with the other examples; leave h out",
    "is not what the model gives for this example alone",
)


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

    **What is checked.** That the model draws nothing, keeps nothing, changes nothing of itself, and that h of the first and
    of the last example does not change with their batch, takes calls of the model: they are made in the first call, the second,
    the fourth, the eighth and so on, so that a training loop does not pay for them. Calls with inputs of other shapes or
    types, or a module in another mode, as Dropout woken by ``model.train()``, are counted apart.

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
            draws or max_draws is too small or tolerance not positive; if h is given without its graph, or together with
            chunks or batches.

    Source: Hutchinson (1989), applied to the matrix of the products of gradients whose trace is n reg.

    >>> from labelnoise_utils import Product
    >>> estimate_regularizer(Product(u=3.0, v=4.0), torch.zeros(1)).value.item()
    25.0
    """
    of = Hypothesis(model, counted(model, parameters), output, loss)
    shares = _shares(of, x, inputs, Draws(draws, tolerance, max_draws), seed, h, chunk_size, apart=False)
    return estimate_of(shares)


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
    shares = _shares(of, x, inputs, Draws(draws, tolerance, max_draws), seed, h, chunk_size, apart=True)
    return {name: estimate_of(shares[:, k]) for k, name in enumerate(of.parameters)}


def _shares(
    of: Hypothesis,
    x: Inputs,
    inputs: Callable | None,
    plan: Draws,
    seed: int | torch.Generator | None,
    out: object,
    chunk_size: int | None,
    apart: bool,
) -> torch.Tensor:
    """||grad_p sum_ik s_ik h_k(x_i)||^2 / n for each draw of the signs, (draws, parameters), or (draws,) all in one."""
    if chunk_size is not None:
        chunk_size = as_integer("chunk_size", chunk_size, 1)
    generator = generator_of(seed)
    with gradients_possible():
        parts = batches(x, inputs, next(iter(of.parameters.values())))
        if plan.tolerance is not None or out is not None:
            parts = [*parts]
        if out is not None and (chunk_size is not None or len(parts) > 1):
            raise ValueError("h can be given for a single batch without chunk_size only")

        def draw(count: int) -> torch.Tensor:
            sums, n = [], 0
            for examples in parts:
                occasion = Occasion.of_call(of, examples, chunk_size, out is not None)
                if occasion.is_due():
                    check_examples(of, examples)
                for chunk in [examples] if chunk_size is None else examples.split(chunk_size):
                    h = _called(of, chunk) if out is None else _given(of, chunk, out)
                    if occasion.is_due():
                        if out is None:
                            check_alone(of, chunk, h, "use chunk_size=1")
                        else:
                            check_alone(of, chunk, h, *NOT_OF_NOW)
                            check_graph(of, h)
                    sums.append(_of_chunk(h, [*of.parameters.values()], count, generator, apart))
                n += len(examples)
                occasion.passed()
            return functools.reduce(torch.add, sums) / n

        return plan.made_by(draw)


def _called(of: Hypothesis, examples: Examples) -> torch.Tensor:
    """The outputs with their graph."""
    differentiable = twice_differentiable(of.model) if torch.is_grad_enabled() else contextlib.nullcontext()
    with differentiable, attributes_kept(of.model), torch.enable_grad():
        return of(examples)


def _given(of: Hypothesis, examples: Examples, out: object) -> torch.Tensor:
    """The same from what the model returned."""
    with torch.enable_grad():
        h = of.of_output(out, len(examples))
    if not h.requires_grad:
        raise ValueError("h has no graph of autograd: compute it with gradients enabled, and do not detach it")
    return h


def _of_chunk(
    h: torch.Tensor, parameters: list[torch.Tensor], draws: int, generator: torch.Generator, apart: bool
) -> torch.Tensor:
    """||grad_p sum_ik s_ik h_k(x_i)||^2, (draws, parameters), or (draws,) all in one."""
    if not h.requires_grad:
        return wide(h).new_zeros((draws, len(parameters)) if apart else draws)
    rows = []
    for _ in range(draws):
        signs, differentiable = signs_like(h, generator), torch.is_grad_enabled()
        gradients = torch.autograd.grad(
            h, parameters, signs, create_graph=differentiable, retain_graph=True, materialize_grads=True
        )
        # One tensor of all numbers, since a small one costs as much as a large one, forward and backward.
        flat = [wide(g.to_dense()).reshape(-1) for g in gradients]
        squared = torch.cat(flat).square()
        rows += [part.sum() for part in squared.split([len(g) for g in flat])] if apart else [squared.sum()]
    return torch.stack(rows).view(draws, -1) if apart else torch.stack(rows)
