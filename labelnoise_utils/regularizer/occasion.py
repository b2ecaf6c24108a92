"""When the checks of a model are made that take calls of it: seldom enough to cost a training loop nothing."""

import dataclasses
import weakref

import torch

from .hypothesis import Hypothesis
from .inputs import Examples
from .state import nodes_of

# Nodes of autograd without a second derivative.
FUSED_ATTENTION = ("ScaledDotProductFlash", "ScaledDotProductEfficient", "ScaledDotProductCudnn", "ScaledDotProductFused")

# For each model how many calls of each kind there have been.
_calls: weakref.WeakKeyDictionary[torch.nn.Module, dict[int, int]] = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class Occasion:
    """One call of an estimate, and whether the model is checked in it: in the first, second, fourth, eighth call and so on.

    Counted are calls with the same modules in the same modes, and with inputs of the same shapes and types.

    Attributes:
        model: the hypothesis.
        kind: a hash of what has to be the same, which is short and keeps nothing alive.
        times: how many calls there have been, this one included.
    """

    model: torch.nn.Module
    kind: int
    times: int

    @classmethod
    def of_call(cls, of: Hypothesis, examples: Examples, chunk_size: int | None, given: bool) -> "Occasion":
        """That of a hypothesis that gets these examples, ``chunk_size`` at a time, or whose outputs for them are given."""
        modes = tuple((id(module), module.training) for module in of.model.modules())
        tensors = tuple((key, t.shape[1:], t.dtype, t.device) for key, t in examples.tensors.items())
        alone = min(len(examples), chunk_size or len(examples)) == 1
        how = (*examples.constants, of.output, of.loss, torch.is_grad_enabled(), given, alone)
        kind = hash((modes, tensors, how))
        return cls(of.model, kind, _calls.setdefault(of.model, {}).pop(kind, 0) + 1)

    def is_due(self) -> bool:
        """Whether the model is checked."""
        return self.times & (self.times - 1) == 0

    def passed(self) -> None:
        """Count the call. One that fails is not counted, so that the next is like the first."""
        _calls[self.model][self.kind] = self.times


def check_graph(of: Hypothesis, h: torch.Tensor) -> None:
    """Refuse outputs that the caller computed in a way that has no gradient of the penalty.

    Args:
        of: the hypothesis.
        h: (n, ...), outputs with a graph.

    Raises:
        ValueError: if the graph reaches none of the parameters, or cannot be differentiated twice but has to be.
    """
    nodes = [*nodes_of(h)]
    if not {getattr(node, "variable", None) for node in nodes} & {*of.parameters.values()}:
        raise ValueError("h has a graph of autograd that does not reach the parameters of the model")
    fused = [node.name() for node in nodes if node.name().startswith(FUSED_ATTENTION)]
    if fused and torch.is_grad_enabled():
        raise ValueError(
            f"h was computed by fused attention ({fused[0]}), which cannot be differentiated twice: leave h out, or compute it"
            " within torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
        )
