"""What a run is made from, in words that are the same in every process, so that a file knows its run again."""

import copyreg
import dataclasses
import enum
import functools
import hashlib
import numbers
import types
from collections.abc import Mapping, Set

import numpy as np
import torch

from .law import ADDED

Code = types.CodeType

# Hooks, flags, and parameters, buffers and modules, which come in their turn.
OF_EVERY_MODULE = frozenset(vars(torch.nn.Module()))
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")

# Where Numba and torch.compile keep what they compiled; beside it they hold numbers that are others in each process.
COMPILED = ("py_func", "_orig_mod", "_torchdynamo_orig_callable")

# Things that were met before, by their address: their number, and themselves, lest another one gets their address.
Met = dict[int, tuple[int, object]]


def words(value: object) -> str:
    """A value, and all that it holds, in words: no address, no order of a set, no pickle.

    A function is its name, its code, its defaults and what it closes over; a class is its name alone. Of what cannot be taken
    apart, as a lock, there is the class.

    Args:
        value: anything.

    Returns:
        Words that are others for another value.
    """
    return _words(value, {}, whole=True)


def words_of_callback(callback: object) -> str:
    """The same for a function that is called now and then and may keep what it has seen.

    Args:
        callback: a function, or any object that can be called.

    Returns:
        Words; of lists, dicts, sets and other objects in it, except for those that can be called, there is the class alone.
    """
    return _words(callback, {}, whole=False)


def words_of_tensor(tensor: torch.Tensor) -> str:
    """A tensor: type, shape and a digest of its numbers.

    Args:
        tensor: anywhere.

    Returns:
        Words.
    """
    octets = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"tensor {tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(octets).hexdigest()}"


def _words(value: object, met: Met, *, whole: bool) -> str:
    match value:
        case enum.Enum():
            return f"{_class(value)} {value.name}"
        case None | bool() | str() | bytes():
            return repr(value)
        case np.bool_():
            return repr(bool(value))
        case numbers.Real():
            return repr(float(value)) if float(value) == value else str(value)
        case torch.dtype() | torch.device() | complex():
            return f"{_class(value)} {value}"
        case type():
            return f"{value.__module__}.{value.__qualname__}"
        case Code():
            of_it = [value.co_code, value.co_names, value.co_varnames, value.co_freevars, value.co_consts]
            return f"code {_words(of_it, met, whole=True)}"
        case tuple() | frozenset() if not dataclasses.is_dataclass(value):
            return _contents(value, met, whole)
    if id(value) in met:  # a ring, or a thing in two places
        return f"again {met[id(value)][0]}"
    met[id(value)] = len(met), value
    for compiled in COMPILED:
        if (plain := getattr(value, compiled, None)) is not None:
            return f"compiled {_words(plain, met, whole=whole)}"
    match value:
        case torch.nn.Module():
            return _module(value, met)
        case torch.Tensor():
            return f"{value.requires_grad} {words_of_tensor(value)}"
        case np.ndarray() if value.dtype != object:
            return f"array {value.dtype.str} {value.shape} {hashlib.sha256(np.ascontiguousarray(value)).hexdigest()}"
        case types.FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
            parts = (value.__code__, value.__defaults__, tuple((value.__kwdefaults__ or {}).items()), *cells)
            return f"{value.__module__}.{value.__qualname__} {_contents(parts, met, whole)}"
        case types.MethodType():
            return _contents((value.__func__, _held(value.__self__, met, whole)), met, whole)
        case functools.partial():
            return f"partial {_contents((value.func, *value.args, *value.keywords.items()), met, whole)}"
    if dataclasses.is_dataclass(value):
        held = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        later = {field.name: field.default for field in dataclasses.fields(value) if field.metadata == ADDED}
        held = [(name, each) for name, each in held if name not in later or each is not later[name]]
        return f"{_class(value)} {_contents(held, met, whole)}"
    if not whole and not callable(value):
        return _class(value)
    if type(value) in (list, dict) or isinstance(value, Set | types.MappingProxyType):
        return _contents(value, met, whole)
    return _held(value, met, whole)


def _contents(value: object, met: Met, whole: bool) -> str:
    match value:
        case Mapping():
            return _contents([(key, each) for key, each in value.items()], met, whole)
        case Set():
            return f"set {sorted(_words(each, met, whole=whole) for each in value)}"
    return f"[{', '.join(_words(each, met, whole=whole) for each in value)}]"


def _held(value: object, met: Met, whole: bool) -> str:
    """An object by what copying it would copy; by its name if it is one that a module holds, as a built-in function."""
    try:
        parts = copyreg.dispatch_table[type(value)](value) if type(value) in copyreg.dispatch_table else value.__reduce_ex__(2)
    except Exception:  # whatever an object does that is not to be copied
        return f"{_class(value)} {getattr(value, '__qualname__', getattr(value, '__name__', ''))}"
    if isinstance(parts, str):
        return f"{_class(value)} {getattr(value, '__module__', '')} {parts}"
    made, arguments, state, items, pairs = (*parts, None, None, None)[:5]
    held = [made, arguments, tuple(items or ()), tuple(pairs or ())]
    for each in state if isinstance(state, tuple) else (state,):  # attributes, and slots
        held += each.items() if isinstance(each, dict) else [each]
    met[id(parts)] = len(met), parts
    return f"{_class(value)} {_contents(held, met, whole)}"


def _class(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _module(module: torch.nn.Module, met: Met) -> str:
    """A module with what it was built with, its mode, its hooks and its tensors, and those in it."""
    plain = [(key, value) for key, value in vars(module).items() if key not in OF_EVERY_MODULE]
    hooks = [[*getattr(module, kind).values()] for kind in HOOKS]
    tensors = [*module._parameters.items(), *module._buffers.items()]
    if isinstance(module, torch.jit.ScriptModule):  # all of one class
        plain = [module.original_name, getattr(module, "code", "")]
    parts = [module.training, plain, hooks, tensors, [*module._modules.items()]]
    return f"{_class(module)} {_contents(parts, met, whole=True)}"
