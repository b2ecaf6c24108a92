"""What a call changes of a model beside its parameters and buffers: attributes that modules set, as their activations."""

import torch

from ..regularizer.hypothesis import attributes_kept, gradients_possible, trainable
from .words import words_of_attributes


def changed_by_call(model: torch.nn.Module, x: torch.Tensor, *, of: torch.nn.Module | None = None) -> set[str]:
    """Names of what a call of the model, and a gradient, change of it; attributes are put back.

    Args:
        model: the hypothesis.
        x: (n, ...), of which the first is used.
        of: a module that the model holds, in place of the whole.

    Returns:
        Names as in :func:`words_of_attributes`.
    """
    of = model if of is None else of
    with gradients_possible(), attributes_kept(model), attributes_kept(of), torch.enable_grad():
        before = words_of_attributes(of, by_identity=True)
        h = model(x[:1])
        if h.requires_grad:
            torch.autograd.grad(h.sum(), [*trainable(model).values()], allow_unused=True)
        return different(before, words_of_attributes(of, by_identity=True))


def different(one: dict[str, str], other: dict[str, str]) -> set[str]:
    """Names of what is in one only, or other in both."""
    return {name for name in one | other if one.get(name) != other.get(name)}
