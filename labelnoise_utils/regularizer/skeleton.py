"""A copy of a tree of modules that shares all tensors, in which parameters and forward functions can be put in place of others.

The model itself stays as it is, so that any number of threads may read it at once.
"""

import types
from collections import OrderedDict, deque
from collections.abc import Mapping

import torch
from torch import nn

# Types of what holds no module: most attributes.
_WHOLE = {bool, float, int, str, type(None), torch.Tensor, nn.Parameter}


def skeleton(model: nn.Module, replaced: Mapping[torch.Tensor, torch.Tensor]) -> dict[nn.Module, nn.Module]:
    """New modules in place of all modules of the model, with the same attributes.

    What a module reaches by other ways than its attributes and the lists and dicts among them, as by a closure, is still the
    original.

    Args:
        model: the original.
        replaced: what stands in the copy for some of its parameters.

    Returns:
        For each module of the model the new one.

    Raises:
        RuntimeError: if a module is compiled by TorchScript, whose attributes are not Python's.
    """
    twins: dict[nn.Module, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise RuntimeError("The stateless API can't be used with Jitted modules")
        twins[module] = object.__new__(type(module))
    # What torch.compile makes of a module calls the original in ways of its own, so here it is run as it was written.
    compiled = [module for module in twins if type(module).__name__ == "OptimizedModule"]
    twins |= {module: twins[module._orig_mod] for module in compiled}

    def copied(value: object) -> object:
        if type(value) in _WHOLE:
            return value
        if isinstance(value, nn.Module):
            return twins.get(value, value)
        if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
            return types.MethodType(value.__func__, copied(value.__self__))
        if type(value) in (dict, OrderedDict):
            return type(value)([(key, copied(held)) for key, held in value.items()]) if value else type(value)()
        if type(value) in (list, tuple, set):
            return type(value)(copied(held) for held in value)
        return deque(map(copied, value), value.maxlen) if type(value) is deque else value

    for module in twins.keys() - {*compiled}:
        own = twins[module]
        vars(own).update({key: copied(value) for key, value in vars(module).items()})
        own._parameters.update({key: replaced[p] for key, p in module._parameters.items() if p in replaced})
    return twins
