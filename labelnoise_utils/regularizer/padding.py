"""Embeddings whose weights differ from example to example."""

import torch
from torch.overrides import TorchFunctionMode


class PaddingHeld(TorchFunctionMode):
    """Keeps the row ``padding_idx`` of an embedding out of the gradient, which vmap's rule forgets for per-example rows."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        rows = function(*args, **(kwargs or {}))
        if function is not torch.nn.functional.embedding:
            return rows
        tokens, weight, padding_idx = _arguments(*args, **(kwargs or {}))
        if padding_idx is None:
            return rows
        padding = tokens == padding_idx % weight.shape[-2]
        return torch.where(padding[..., None], rows.detach(), rows)


def _arguments(
    input: torch.Tensor, weight: torch.Tensor, padding_idx: int | None = None, *args: object, **kwargs: object
) -> tuple[torch.Tensor, torch.Tensor, int | None]:
    return input, weight, padding_idx
