"""Networks of one shape side by side: a product of matrices does for all of them at once."""

import copy

import torch
import torch.nn.functional as F
from torch import nn


class Stacked:
    """Several ``nn.Sequential`` of Conv1d, Linear, ReLU and Flatten with the same shapes.

    Args:
        models: the networks, R of them; they are copied.

    Attributes:
        parameters: the parameters, each (R, ...), in the order of ``models[0].parameters()``.
    """

    def __init__(self, models: list[nn.Sequential]) -> None:
        self.layers = models[0]
        of_each = zip(*(model.parameters() for model in models), strict=True)
        self.parameters = [torch.stack([p.detach() for p in same]).requires_grad_() for same in of_each]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the outputs (R, n, outputs) for inputs (R, n, ...)."""
        parameters = iter(self.parameters)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                weight, bias = next(parameters), next(parameters)
                x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
            elif isinstance(layer, nn.Conv1d):
                x = _convolution(x, next(parameters), next(parameters), layer)
            else:
                x = x.relu() if isinstance(layer, nn.ReLU) else x.flatten(2)
        return x

    def models(self) -> list[nn.Sequential]:
        """The networks as they are now, one by one."""
        found = []
        for values in zip(*self.parameters, strict=True):
            model = copy.deepcopy(self.layers)
            with torch.no_grad():
                for p, value in zip(model.parameters(), values, strict=True):
                    p.copy_(value)
            found.append(model)
        return found


def _convolution(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, layer: nn.Conv1d) -> torch.Tensor:
    """Windows of the signals as rows of a matrix: (R, n, channels, length) to the same."""
    runs, n = x.shape[:2]
    (kernel,), (stride,), (padding,) = layer.kernel_size, layer.stride, layer.padding
    windows = F.pad(x, (padding, padding)).unfold(-1, kernel, stride).permute(0, 1, 3, 2, 4)
    length = windows.shape[2]
    rows = windows.reshape(runs, n * length, -1)
    out = torch.baddbmm(bias[:, None], rows, weight.flatten(2).transpose(1, 2))
    return out.view(runs, n, length, -1).transpose(2, 3)
