"""The modes that a model, and torch around it, are in while h is computed."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from .norms import ElementaryWeightNorm, has_weight_norm


@contextlib.contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Within the block the model is in eval mode; then every module of it gets back the mode that it had.

    ``model.train()`` in place of that would also wake the layers that were in eval mode before, as of a frozen backbone.

    Args:
        model: any module.

    Yields:
        The model.

    Raises:
        TypeError: if model is no module.

    Source: ours.

    >>> model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout().eval())
    >>> with evaluating(model):
    ...     [layer.training for layer in model]
    [False, False]
    >>> [layer.training for layer in model]
    [True, False]
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    with modes_kept(model):
        model.eval()
        yield model


@contextlib.contextmanager
def modes_kept(model: torch.nn.Module) -> Iterator[None]:
    """Give every module of the model back, at the end of the block, the mode that it had.

    Yields:
        Nothing.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def gradients_possible() -> Iterator[None]:
    """Within the block torch can take gradients, and keeps none of the result if inference mode was on.

    Autocast rounds the weights anew for every call: those that it keeps from a call without gradients give none (torch
    2.6), and those from before the parameters changed are wrong.

    Yields:
        Nothing.
    """
    cached = torch.is_autocast_cache_enabled()
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        stack.callback(torch.set_autocast_cache_enabled, cached)
        torch.set_autocast_cache_enabled(False)
        yield


class OfTheProcess:
    """A setting of the whole process: of all threads within, the first makes it, the last puts back what was before.

    Args:
        setting: gives the context in which it holds.
    """

    def __init__(self, setting: Callable[[], contextlib.AbstractContextManager]) -> None:
        self._setting, self._lock, self._within, self._made = setting, threading.Lock(), 0, contextlib.ExitStack()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Within the block the setting holds.

        Yields:
            Nothing.
        """
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._made.enter_context(self._setting())
        try:
            yield
        finally:
            with self._lock:
                self._within -= 1
                if not self._within:
                    self._made.close()


attention_in_steps = OfTheProcess(lambda: sdpa_kernel(SDPBackend.MATH))


@contextlib.contextmanager
def twice_differentiable(model: torch.nn.Module) -> Iterator[None]:
    """Within the block layers run in ways that torch can differentiate twice, as the gradient of reg needs.

    Fused attention and the recurrent layers of cuDNN can be differentiated only once, weight norms not twice without a fault.

    Yields:
        Nothing.
    """
    recurrent = any(isinstance(module, torch.nn.RNNBase) for module in model.modules())
    with contextlib.ExitStack() as stack:
        stack.enter_context(attention_in_steps())
        if recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if has_weight_norm(model):
            stack.enter_context(ElementaryWeightNorm())
        yield
