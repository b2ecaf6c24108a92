"""An unbiased estimate of reg(theta), for networks for which the exact value costs too much."""

import contextlib
from typing import NamedTuple

import torch

from ..arguments import as_integer
from .hypothesis import attributes_kept, check_per_example, gradients_possible, trainable, twice_differentiable
from .rules import squares, wide


class Estimate(NamedTuple):
    """What :func:`estimate_regularizer` returns.

    Attributes:
        value: scalar tensor, the unbiased estimate of reg, differentiable.
        standard_error: scalar tensor, the standard deviation of ``value`` over signs, as the draws tell it.
    """

    value: torch.Tensor
    standard_error: torch.Tensor


def estimate_regularizer(
    model: torch.nn.Module, x: torch.Tensor, *, draws: int = 32, chunk_size: int | None = None, seed: int = 0
) -> Estimate:
    r"""An unbiased estimate of reg from random signs, with its standard error.

    With independent signs s of the examples and outputs, ``E ||grad_theta sum_ik s_ik h_k(x_i)||^2`` is the sum of all
    ``||grad_theta h_k(x_i)||^2``, since the mixed products average out. So a draw costs one ordinary backward pass, whatever
    the layers and the number of outputs. It is for models whose exact reg costs too much: many outputs, or
    layers without a ghost rule.

    With K the matrix of the products of all these gradients, a draw over all examples has variance
    ``2 sum_{i != j} K_ij^2 / n^2``: of the order of reg^2 where the gradients point much the same way. Smaller chunks, each
    with a backward pass of its own, leave out the products between chunks.

    Args:
        model: as in :func:`implicit_regularizer`, but h may not read other examples even in a batch.
        x: (n, ...), the inputs.
        draws: how many times the signs are drawn, at least 2.
        chunk_size: examples per backward pass; by default all. With one example and one output the estimate is exact.
        seed: of the signs.

    Returns:
        An :class:`Estimate`.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: as in :func:`implicit_regularizer`, or if h of the first or of the last example changes with its batch.

    Source: Hutchinson (1989), applied to the matrix of the products of gradients whose trace is n reg.

    >>> from labelnoise_utils import Product
    >>> estimate_regularizer(Product(u=3.0, v=4.0), torch.zeros(1)).value.item()
    25.0
    """
    draws = as_integer("draws", draws, 2)
    seed = as_integer("seed", seed, 0)
    chunk_size = None if chunk_size is None else as_integer("chunk_size", chunk_size, 1)
    generator = torch.Generator().manual_seed(seed)
    with gradients_possible():
        parameters = list(trainable(model).values())
        with attributes_kept(model), twice_differentiable(model) if torch.is_grad_enabled() else contextlib.nullcontext():
            check_per_example(model, x)
            chunks = (x.clone() if x.is_inference() else x).split(chunk_size or len(x))
            totals = sum(_by_draw(model, parameters, chunk, draws, generator) for chunk in chunks) / len(x)
    return Estimate(totals.mean(), totals.detach().std() / draws**0.5)


def _by_draw(
    model: torch.nn.Module, parameters: list[torch.Tensor], x: torch.Tensor, draws: int, generator: torch.Generator
) -> torch.Tensor:
    """||grad sum_ik s_ik h_k(x_i)||^2 for each draw of the signs, (draws,)."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        h = model(x)
    atol = torch.finfo(h.dtype).eps ** 0.5 * h.detach().abs().max().item()
    for i, x_i in ((0, x[:1]), (-1, x[-1:])):
        with torch.no_grad():
            alone = model(x_i)[0]
        if not torch.allclose(alone, h[i], rtol=0, atol=atol):
            raise ValueError("h of an example changes with the other examples in its batch: use chunk_size=1")
    norms = []
    for _ in range(draws if h.requires_grad else 0):
        signs = (2 * torch.randint(2, h.shape, generator=generator) - 1).to(h)
        gradients = torch.autograd.grad(
            h, parameters, signs, create_graph=differentiable, retain_graph=True, materialize_grads=True
        )
        norms.append(sum(squares(g.to_dense()[None])[0] for g in gradients))
    return torch.stack(norms) if norms else wide(h).new_zeros(draws)
