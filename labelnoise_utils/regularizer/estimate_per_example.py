"""Unbiased estimates of the terms of reg(theta) by example, for models with many outputs."""

from collections.abc import Callable, Iterable

import torch

from .exact import Method, sq_norms
from .hypothesis import Hypothesis, Loss, attributes_kept, counted, first_call, gradients_possible
from .inputs import Examples, Inputs, batches
from .signs import Draws, Estimate, estimate_of, generator_of, signs_like


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
    parts = batches(x, inputs, next(iter(of.parameters.values())))
    parts = parts if tolerance is None else [*parts]

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


class SignedOutputs(torch.nn.Module):
    """The model with one output for each example: the sum of the outputs of h, each times a sign that comes with the example.

    Args:
        h: the hypothesis.
    """

    def __init__(self, h: Hypothesis) -> None:
        super().__init__()
        self.model, self.of_output = h.model, h.of_output

    def forward(self, signs: torch.Tensor, /, *args: object, **kwargs: object) -> torch.Tensor:
        """From the signs (n, outputs) and the inputs of the model, (n,)."""
        n = len(signs)
        return (self.of_output(self.model(*args, **kwargs), n).reshape(n, -1) * signs).sum(dim=1)
