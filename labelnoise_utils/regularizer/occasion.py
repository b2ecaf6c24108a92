"""When the checks of a model are made that take calls of it: seldom enough to cost a training loop nothing."""

import contextlib
import weakref
from collections.abc import Callable, Iterator

import torch

from .hypothesis import Hypothesis, check_examples, check_modules
from .inputs import Examples
from .state import nodes_of

Check = Callable[[Examples, torch.Tensor], None]

# For each model what it was last given, and how often without a break.
_given: weakref.WeakKeyDictionary[torch.nn.Module, tuple[tuple, int]] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def checked(of: Hypothesis, examples: Examples, chunk_size: int | None) -> Iterator[Check]:
    """Check the modes of a model, and now and then its calls: the first, second, fourth, eighth and so on with like inputs.

    Args:
        of: the hypothesis.
        examples: a batch.
        chunk_size: how many of them the model gets at a time; None is all.

    Yields:
        A function that checks, on an occasion, that h of the first and of the last example of a chunk do not change with the
        others. If it or the block fails, the next call is an occasion again.

    Raises:
        TypeError: as in :func:`check_per_example`.
        ValueError: as there.
    """
    kind = _kind(of, examples, chunk_size)
    last, times = _given.pop(of.model, (None, 0))
    times = times + 1 if last == kind else 1
    occasion = times & (times - 1) == 0
    if occasion:
        check_examples(of, examples)
    else:
        check_modules(of.model)

    def check(chunk: Examples, h: torch.Tensor) -> None:
        if occasion:
            _check_chunk(of, chunk, h)

    yield check
    _given[of.model] = kind, times


def _kind(of: Hypothesis, examples: Examples, chunk_size: int | None) -> tuple:
    """What has to be the same for the checks to say the same."""
    modes = tuple((id(module), module.training) for module in of.model.modules())
    tensors = tuple((key, t.shape[1:], t.dtype, t.device) for key, t in examples.tensors.items())
    alone = min(len(examples), chunk_size or len(examples)) == 1
    return modes, tensors, tuple(examples.constants), of.output, of.loss, alone, torch.is_grad_enabled()


def _check_chunk(of: Hypothesis, chunk: Examples, h: torch.Tensor) -> None:
    if torch.is_grad_enabled() and h.requires_grad:
        fused = next((node.name() for node in nodes_of(h) if node.name().startswith(_ONCE)), None)
        if fused is not None:
            raise ValueError(
                f"h was computed by fused attention ({fused}), which cannot be differentiated twice: leave h out, or"
                " compute it within torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
            )
    atol = torch.finfo(h.dtype).eps ** 0.5 * h.detach().abs().max().item() if h.numel() else 0.0
    for i in (0, -1):
        with torch.no_grad():
            alone = of(chunk.map(lambda tensor, i=i: tensor[i:][:1]))[0]
        if not torch.allclose(alone, h[i], rtol=0, atol=atol, equal_nan=True):
            raise ValueError("h of an example changes with the other examples in its batch: use chunk_size=1")


_ONCE = ("ScaledDotProductFlash", "ScaledDotProductEfficient", "ScaledDotProductCudnn", "ScaledDotProductFused")
