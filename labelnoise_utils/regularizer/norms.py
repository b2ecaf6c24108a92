"""Normalisations of which torch's own higher derivatives are wrong, without a word, by elementary operations."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.overrides import TorchFunctionMode


class ElementaryWeightNorm(TorchFunctionMode):
    """Weight norms by elementary operations: torch's own second derivatives take the norm of a weight for a constant."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return (_weight_norm if function is torch._weight_norm else function)(*args, **(kwargs or {}))


def has_weight_norm(model: nn.Module) -> bool:
    """Whether a module has a weight norm, of either kind that torch offers."""
    return any(
        isinstance(module, _WeightNorm) or any(isinstance(hook, WeightNorm) for hook in module._forward_pre_hooks.values())
        for module in model.modules()
    )


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    if dim == -1:
        return v * (g / v.square().sum().sqrt())
    shape = [1] * v.dim()
    shape[dim] = v.shape[dim]
    # Not torch.norm_except_dim, for which vmap has no rule.
    return v * (g / v.transpose(0, dim).reshape(v.shape[dim], -1).square().sum(dim=1).sqrt().reshape(shape))


class ElementaryNorms(TorchFunctionMode):
    """Layer and instance norms by elementary operations: torch's own third derivatives of them are wrong."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        own = {F.layer_norm: _layer_norm, F.instance_norm: _instance_norm}.get(function, function)
        return own(*args, **(kwargs or {}))


def _layer_norm(
    input: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    z = _standardized(input, tuple(range(-len(normalized_shape), 0)), eps)
    z = z if weight is None else z * weight
    return z if bias is None else z + bias


def _instance_norm(
    input: torch.Tensor,
    running_mean: torch.Tensor | None = None,
    running_var: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    if not use_input_stats:
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    z = _standardized(input, tuple(range(2, input.dim())), eps)
    channels = (-1, *[1] * (input.dim() - 2))
    z = z if weight is None else z * weight.view(channels)
    return z if bias is None else z + bias.view(channels)


def _standardized(x: torch.Tensor, dims: tuple[int, ...], eps: float) -> torch.Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred / (centred.square().mean(dims, keepdim=True) + eps).sqrt()
