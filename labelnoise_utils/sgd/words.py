"""What a run is made from, in words that are the same in every process, so that a file knows its run again."""

import argparse
import contextlib
import copyreg
import dataclasses
import dis
import enum
import functools
import hashlib
import numbers
import sys
import types
from collections.abc import Iterator, Mapping, Set

import numpy as np
import torch

from .law import ADDED

Code = types.CodeType

# Hooks, flags, and parameters, buffers and modules, which come in their turn.
OF_EVERY_MODULE = frozenset(vars(torch.nn.Module()))
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
HOOKS_OF_TENSORS = ("_backward_hooks", "_post_accumulate_grad_hooks")

# Where Numba and torch.compile keep what they compiled; beside it they hold numbers that are others in each process.
COMPILED = ("py_func", "_orig_mod", "_torchdynamo_orig_callable")

# What is told of the globals that a function reads and of what the classes of an object hold, except for dataclasses.
Namespace = types.SimpleNamespace | argparse.Namespace
PLAIN = numbers.Number | np.bool_ | str | bytes | None | enum.Enum | torch.dtype | torch.device | tuple | frozenset
PLAIN |= torch.Tensor | np.ndarray | Namespace
# Their globals and their classes are as they were written.
LIBRARIES = sys.stdlib_module_names | {"labelnoise_utils", "numpy", "torch"}


@dataclasses.dataclass
class Met:
    """What was met before.

    Attributes:
        things: by their address: their number, and themselves, lest another one gets their address.
        untold: addresses of memory; of a tensor that lies there only that is told.
        by_identity: whether a tensor that was replaced by an equal one is another one.
    """

    things: dict[int, tuple[int, object]] = dataclasses.field(default_factory=dict)
    untold: frozenset[int] = frozenset()
    by_identity: bool = False

    def add(self, thing: object) -> None:
        """Meet a thing."""
        self.things[id(thing)] = len(self.things), thing


def words(value: object) -> str:
    """A value, and all that it holds, in words: no address, no order of a set, no pickle.

    A function is its name, its code, its defaults, what it closes over, and the plain values among the globals that it reads;
    an object is what it holds, and the plain values that its classes hold; a class is its name alone. Of what cannot be taken
    apart, as a lock, there is the class.

    Args:
        value: anything.

    Returns:
        Words that are others for another value.
    """
    return _words(value, Met(), whole=True)


def words_of_callback(callback: object) -> str:
    """The same for a function that is called now and then and may keep what it has seen.

    Args:
        callback: a function, or any object that can be called.

    Returns:
        Words; of lists, dicts, sets and other objects in it, except for namespaces, dataclasses and those that can be called,
        there is the class alone.
    """
    return _words(callback, Met(), whole=False)


def words_of_attributes(model: torch.nn.Module, *, by_identity: bool = False, libraries: bool = True) -> dict[str, str]:
    """What a model holds beside its parameters and buffers, which are left out wherever they, or their memory, are met.

    Args:
        model: any module.
        by_identity: whether a tensor that was replaced by an equal one is another one.
        libraries: whether modules whose class is torch's or this package's count, too.

    Returns:
        Words by name, as ``"0.scale"``: the attributes of each module, which modules are in it, and the hooks on modules and
        tensors that have any; of hooks as of callbacks.
    """
    met, told = _met_in(model, by_identity=by_identity), {}
    count = len(met.things)
    for name, value in _held_by_modules(model, libraries):
        told[name] = _words(value, met, whole=not name.endswith("_hooks"))
        while len(met.things) > count:  # so that no name depends on what others hold
            met.things.popitem()
    return told


def modules_in(model: torch.nn.Module) -> list[torch.nn.Module]:
    """All modules that a model holds, also those that are not registered, as in a list or a closure.

    Args:
        model: any module.

    Returns:
        The modules, the model itself among them.
    """
    met = _met_in(model)
    for _, value in _held_by_modules(model, True):
        _words(value, met, whole=True)
    return [thing for _, thing in met.things.values() if isinstance(thing, torch.nn.Module)]


def _met_in(model: torch.nn.Module, *, by_identity: bool = False) -> Met:
    """Its modules, parameters and buffers."""
    modules = [*model.modules()]
    tensors = [each for m in modules for held in (m._parameters, m._buffers) for each in held.values() if each is not None]
    met = Met(by_identity=by_identity)
    for each in [*modules, *tensors]:
        met.things.setdefault(id(each), (len(met.things), each))
    met.untold = frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors)
    return met


def _held_by_modules(model: torch.nn.Module, libraries: bool) -> Iterator[tuple[str, object]]:
    """What modules hold beside parameters and buffers, and what hangs on those, by name."""
    for path, module in model.named_modules():
        if not libraries and not _classes(type(module)):
            continue
        prefix = f"{path}." if path else ""
        if module._modules:
            yield f"{prefix}_modules", tuple((name, _class(part), part) for name, part in module._modules.items())
        for name, value in [*_of_classes(module), *_attributes(module)]:
            yield f"{prefix}{name}", value
        on = [(prefix, module, HOOKS)]
        tensors = [*module._parameters.items(), *module._buffers.items()]
        on += [(f"{prefix}{name}.", tensor, HOOKS_OF_TENSORS) for name, tensor in tensors if tensor is not None]
        for where, thing, kinds in on:
            for kind in kinds:
                if hooks := getattr(thing, kind, None):
                    yield f"{where}{kind}", tuple(hooks.values())


def words_of_tensor(tensor: torch.Tensor) -> str:
    """A tensor: type, shape and a digest of its numbers.

    Args:
        tensor: anywhere.

    Returns:
        Words.
    """
    layout = "" if tensor.layout is torch.strided else f"{tensor.layout} "
    values = tensor.detach().cpu().to_dense().resolve_conj().resolve_neg()
    octets = values.contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"tensor {layout}{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(octets).hexdigest()}"


def _words(value: object, met: Met, *, whole: bool) -> str:
    if type(value) in (str, bool, types.NoneType):  # as most are; what follows takes its time
        return repr(value)
    match value:
        case enum.Enum():
            return f"{_class(value)} {value.name}"
        case None | bool() | str() | bytes():
            return repr(value)
        case np.bool_():
            return repr(bool(value))
        case numbers.Real():
            with contextlib.suppress(OverflowError):
                if float(value) == value:
                    return repr(float(value))
            return str(value)
        case torch.dtype() | torch.device() | complex():
            return f"{_class(value)} {value}"
        case type():
            return f"{value.__module__}.{value.__qualname__}"
        case Code():
            of_it = [value.co_code, value.co_names, value.co_varnames, value.co_freevars, value.co_consts]
            return f"code {_words(of_it, met, whole=True)}"
        case tuple() | frozenset() if not dataclasses.is_dataclass(value):
            return _contents(value, met, whole)
    if id(value) in met.things:  # a ring, or a thing in two places
        return f"again {met.things[id(value)][0]}"
    met.add(value)
    for compiled in COMPILED:
        if (plain := getattr(value, compiled, None)) is not None:
            return f"compiled {_words(plain, met, whole=whole)}"
    match value:
        case torch.nn.Module():
            return _module(value, met)
        case torch.Tensor():
            return _tensor(value, met, whole)
        case np.ndarray() if value.dtype != object:
            return f"array {value.dtype.str} {value.shape} {hashlib.sha256(np.ascontiguousarray(value)).hexdigest()}"
        case types.FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
            parts = (value.__code__, value.__defaults__, tuple((value.__kwdefaults__ or {}).items()), *cells, *_globals(value))
            return f"{value.__module__}.{value.__qualname__} {_contents(parts, met, whole)}"
        case types.MethodType():
            return _contents((value.__func__, _held(value.__self__, met, whole)), met, whole)
        case functools.partial():
            return f"partial {_contents((value.func, *value.args, *value.keywords.items()), met, whole)}"
    if dataclasses.is_dataclass(value):
        held = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        later = {field.name: field.default for field in dataclasses.fields(value) if field.metadata == ADDED}
        held = [(name, each) for name, each in held if name not in later or each is not later[name]]
        return f"{_class(value)} {_contents(held + _of_classes(value), met, whole)}"
    if not whole and not callable(value) and not isinstance(value, Namespace):
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
    held += _of_classes(value)
    met.add(parts)
    return f"{_class(value)} {_contents(held, met, whole)}"


def _class(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _module(module: torch.nn.Module, met: Met) -> str:
    """A module with what it was built with, its mode, its hooks and its tensors, and those in it."""
    plain = _attributes(module) + _of_classes(module)
    hooks = [[*getattr(module, kind).values()] for kind in HOOKS]
    tensors = [*module._parameters.items(), *module._buffers.items()]
    if isinstance(module, torch.jit.ScriptModule):  # all of one class
        plain = [module.original_name, getattr(module, "code", "")]
    parts = [module.training, plain, hooks, tensors, [*module._modules.items()]]
    return f"{_class(module)} {_contents(parts, met, whole=True)}"


def _attributes(module: torch.nn.Module) -> list[tuple[str, object]]:
    return [(key, value) for key, value in vars(module).items() if key not in OF_EVERY_MODULE]


def _tensor(tensor: torch.Tensor, met: Met, whole: bool) -> str:
    if tensor.layout is torch.strided and tensor.untyped_storage().data_ptr() in met.untold:
        return "untold"
    hooks = [getattr(tensor, kind, None) for kind in HOOKS_OF_TENSORS]
    more = f" {_contents([[*(held or {}).values()] for held in hooks], met, whole)}" if any(hooks) else ""
    return f"{id(tensor) if met.by_identity else ''}{tensor.requires_grad} {words_of_tensor(tensor)}{more}"


def _globals(function: types.FunctionType) -> list[tuple[str, object]]:
    """Plain values among the globals that a function reads, by name, except for those that it sets."""
    if function.__module__ is None or function.__module__.partition(".")[0] in LIBRARIES:
        return []
    there = [(name, function.__globals__[name]) for name in _read(function.__code__) if name in function.__globals__]
    return [(name, value) for name, value in there if _is_plain(value)]


@functools.lru_cache(maxsize=256)
def _read(code: Code) -> list[str]:
    """Names of globals that a code, and those within it, read and do not set."""
    names: dict[str, set[str]] = {"LOAD_GLOBAL": set(), "STORE_GLOBAL": set()}
    ahead = [code]
    while ahead:
        code = ahead.pop()
        for each in dis.get_instructions(code):
            if each.opname in names:
                names[each.opname].add(each.argval)
        ahead += [each for each in code.co_consts if isinstance(each, Code)]
    return sorted(names["LOAD_GLOBAL"] - names["STORE_GLOBAL"])


def _of_classes(value: object) -> list[tuple[str, object]]:
    """Plain values that the classes of an object hold, where it holds none of its own, by name."""
    found: dict[str, object] = {}
    for kind in _classes(type(value)):
        found = dict(vars(kind)) | found
    if not found:
        return []
    names = sorted(found.keys() - getattr(value, "__dict__", {}).keys())
    return [(name, found[name]) for name in names if not name.startswith("_") and _is_plain(found[name])]


@functools.lru_cache(maxsize=256)
def _classes(kind: type) -> list[type]:
    """A class and those that it inherits from, without those of libraries."""
    return [each for each in kind.__mro__ if each.__module__.partition(".")[0] not in LIBRARIES]


def _is_plain(value: object) -> bool:
    return isinstance(value, PLAIN) or (dataclasses.is_dataclass(value) and not isinstance(value, type))
