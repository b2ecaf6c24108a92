"""What a call of a model leaves behind: in its attributes, in its tensors, in what numbers are drawn from."""

import contextlib
import functools
import inspect
import operator
import random
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

UNDEFINED = "where the gradient of one example is not defined"

# What torch keeps in every module, except for what a module may come to hold when it is called.
_OF_EVERY_MODULE = vars(nn.Module()).keys() - {"_parameters", "_buffers", "_modules"}


@contextlib.contextmanager
def attributes_kept(model: nn.Module) -> Iterator[Callable[[], bool]]:
    """Put back, at the end of the block, the attributes that modules set when they are called.

    Recurrent layers keep a list of their weights there, pruned ones the weight itself, some models their activations: under
    ``torch.no_grad`` tensors that are of no use later. Also what lists, dicts, sets and deques among the attributes hold.
    What did not change is not touched, so that other threads may go on reading.

    Yields:
        A function that tells whether any has changed so far.
    """
    kept = [(vars(module), dict(vars(module))) for module in model.modules()]
    kept += [
        held
        for _, then in kept.copy()
        for key, value in then.items()
        if key not in _OF_EVERY_MODULE
        for held in _contents(value)
    ]
    try:
        yield lambda: any(_differs(now, then) for now, then in kept)
    finally:
        for now, then in kept:
            if _differs(now, then):
                now.clear() if not isinstance(now, dict) else [now.pop(key) for key in now.keys() - then.keys()]
                (now.extend if isinstance(now, list | deque) else now.update)(then)


def _differs(now: Container, then: Container) -> bool:
    """Whether a container holds other things: the very things count, not what they are equal to."""
    if len(now) != len(then):
        return True
    if not isinstance(now, dict):
        return not all(map(operator.is_, now, then))
    if all(map(operator.is_, now.values(), then.values())) and all(map(operator.eq, now, then)):
        return False  # as mostly, and in the same order
    return now.keys() != then.keys() or any(now[key] is not value for key, value in then.items())


def _contents(value: object) -> Iterator[tuple]:
    """Each container that can change, however deep within others, with a copy of it."""
    if type(value) in (dict, OrderedDict):
        yield value, dict(value)
        value = value.values()
    elif type(value) in (list, set, deque):
        yield value, type(value)(value)
    elif type(value) is not tuple:
        return
    for held in value:
        yield from _contents(held)


class RandomDraw(Exception):  # noqa: N818, it is no error before someone says so
    """Raised in place of a random draw, so that no generator moves on."""


class Watched(TorchDispatchMode):
    """Within the block what a call of the model does beyond computing its output.

    The mode sees every operation of torch in this thread: a random draw is stopped before it happens, and a tensor of the model
    is copied before an operation writes into it.

    Args:
        model: the hypothesis.

    Attributes:
        draws: the type of the module that wanted to draw, if one did.
        eps: the machine epsilon of the coarsest floating-point type that an operation gave.
        numbers: how many numbers operations gave.
    """

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.draws: str | None = None
        self.eps, self.numbers = 0.0, 0
        # With an alias, which keeps the memory if the tensor is given other memory.
        self._held = {name: (t, t.detach()) for name, t in _tensors(model).items()}
        self._samples = self._sampled()
        self._name_at = {t.untyped_storage().data_ptr(): name for name, (t, *_) in self._held.items()}
        self._before: dict[str, torch.Tensor] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        can_draw, writes, views = _kind(func)
        if can_draw and _is_random(func, args, kwargs):
            self.draws = _running_module()
            raise RandomDraw
        for k, key in writes:
            self._keep(args[k] if k < len(args) else kwargs.get(key))
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            self.eps = max(self.eps, _eps(result.dtype))
            self.numbers += 0 if views else result.numel()
        return result

    def _keep(self, written: object) -> None:
        for tensor in written if isinstance(written, list | tuple) else [written]:
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                name = self._name_at.get(tensor.untyped_storage().data_ptr())
                if name is not None and name not in self._before:
                    self._before[name] = self._held[name][1].clone()

    def _sampled(self) -> dict[tuple[torch.dtype, torch.device], torch.Tensor]:
        """The samples of all tensors of a type one after the other, since a small operation costs as much as a large one."""
        kinds: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
        for _, alias in self._held.values():
            kinds.setdefault((alias.dtype, alias.device), []).append(_sample(alias))
        return {kind: torch.cat(samples) for kind, samples in kinds.items()}

    def _by_name(self) -> dict[str, torch.Tensor]:
        """The samples that were taken at first."""
        sizes: dict[tuple[torch.dtype, torch.device], dict[str, int]] = {}
        for name, (_, alias) in self._held.items():
            sizes.setdefault((alias.dtype, alias.device), {})[name] = len(_sample(alias))
        return {
            name: sample
            for kind, of in sizes.items()
            for name, sample in zip(of, self._samples[kind].split([*of.values()]), strict=True)
        }

    def put_back(self, model: nn.Module) -> str | None:
        """Put the tensors of the model back to what they were.

        A write that torch does not see, as through an array of NumPy, is found by the values of a sample, and undone where the
        sample is the whole.

        Returns:
            The name of one that had changed, if any had.
        """
        changed, now = None, _tensors(model)
        alike = not self._before and all(map(torch.equal, self._samples.values(), self._sampled().values()))
        samples = {} if alike else self._by_name()
        for name, (tensor, alias) in self._held.items():
            elsewhere = now.get(name) is not tensor or tensor.data_ptr() != alias.data_ptr()
            if alike and not elsewhere:
                continue
            sample = samples[name] if samples else _sample(alias)
            before = self._before.get(name, sample.view_as(alias) if sample.numel() == alias.numel() else None)
            other = not same(_sample(alias), sample) or (name in self._before and not same(alias, before))
            if not elsewhere and not other:
                continue
            changed = changed or name
            if other and before is not None:
                alias.copy_(before)
            if tensor.data_ptr() != alias.data_ptr():
                tensor.data = alias
        return changed


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers that lie in memory entry by entry."""
    parameters, buffers = {}, {}
    for path, module in model.named_modules():
        for found, own in ((parameters, module._parameters), (buffers, module._buffers)):
            for key, t in own.items():
                if t is not None and t.layout is torch.strided and not t.is_meta:
                    found.setdefault(t, f"{path}.{key}" if path else key)  # a shared one counts once
    return {name: t for t, name in (*parameters.items(), *buffers.items())}


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """Every entry of a small tensor, about a thousand of a large one."""
    return tensor.detach().reshape(-1)[:: 1 + tensor.numel() // 2**10]


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Entry by entry, NaN being the same as NaN."""
    return torch.equal(one, other) or (one.is_floating_point() and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True))


@functools.cache
def _eps(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


@functools.cache
def _kind(func: Callable) -> tuple[bool, list[tuple[int, str]], bool]:
    """Whether an operation can draw, the position and name of each argument that it writes into, whether it gives a view."""
    arguments = [(k, one) for k, one in enumerate(func._schema.arguments) if one.alias_info] if hasattr(func, "_schema") else []
    writes = [(k, one.name) for k, one in arguments if one.alias_info.is_write]
    return torch.Tag.nondeterministic_seeded in getattr(func, "tags", ()), writes, len(arguments) > len(writes)


def _is_random(func: Callable, args: tuple, kwargs: Mapping) -> bool:
    """Whether an operation that can draw does, with these arguments: attention can drop entries out, and mostly does not."""
    names = [argument.name for argument in func._schema.arguments]
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    chances = [given.get(name, 0) for name in ("dropout_p", "dropout") if name in names]
    modes = [given.get(name, False) for name in ("train", "training") if name in names]
    return (any(chances) if chances else True) and (any(modes) if modes else True)


class HooksMade(TorchFunctionMode):
    """Within the block whether a model asks autograd to call it back, which torch.vmap does not do."""

    def __init__(self) -> None:
        super().__init__()
        self._by: str | None = None

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in _CALLS_BACK and self._by is None:
            self._by = _running_module()
        return function(*args, **(kwargs or {}))

    def seen(self, model: nn.Module, parameters: Mapping[str, torch.Tensor], h: torch.Tensor) -> str | None:
        """What autograd would call back in a backward pass from h.

        Returns:
            A sentence that names it, or None.
        """
        for name, p in parameters.items():
            if getattr(p, "_backward_hooks", None):
                return f"parameter {name!r} has a hook (register_hook)"
        if any(node.name() == "BackwardHookFunctionBackward" for node in nodes_of(h)):
            hooked = (name for name, module in model.named_modules() if getattr(module, "_backward_hooks", None))
            return f"{next(hooked, 'every module')!r} has a backward hook (register_full_backward_hook)"
        if self._by is not None:
            return f"{self._by} puts a hook on a tensor when it is called"
        return None


def nodes_of(h: torch.Tensor, until: Iterable[torch.autograd.graph.Node] = ()) -> Iterator[torch.autograd.graph.Node]:
    """The graph of autograd behind h, each node once, and nothing behind the nodes ``until``."""
    ahead, seen = [h.grad_fn], {None, *until}
    while ahead:
        node = ahead.pop()
        if node not in seen:
            seen.add(node)
            yield node
            ahead.extend(following for following, _ in node.next_functions)


# Through grad_fn hooks come to single operations.
_CALLS_BACK = {torch.Tensor.register_hook, torch.Tensor.grad_fn.__get__}


def _running_module() -> str:
    """The type of the innermost module of those that are being called."""
    frame = inspect.currentframe()
    while frame is not None:
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module):
            return type(module).__name__
        frame = frame.f_back
    return "the model"


def generators(model: nn.Module) -> list[tuple[Callable[[], object], Callable[[object], None]]]:
    """How to read and to set what is drawn from without torch: ``random``, ``numpy.random``, and what modules hold.

    Returns:
        For each of them two functions.
    """
    whole = functools.partial(np.random.get_state, legacy=False)  # noqa: NPY002
    found = [(random.getstate, random.setstate), (whole, np.random.set_state)]  # noqa: NPY002
    kinds = random.Random, np.random.RandomState, np.random.Generator
    for value in [value for module in model.modules() for value in vars(module).values() if isinstance(value, kinds)]:
        if isinstance(value, random.Random):
            found.append((value.getstate, value.setstate))
        elif isinstance(value, np.random.RandomState):
            found.append((functools.partial(value.get_state, legacy=False), value.set_state))
        else:
            bits = value.bit_generator
            found.append((functools.partial(getattr, bits, "state"), functools.partial(setattr, bits, "state")))
    return found


def comparable(state: object) -> object:
    """The state of a generator with arrays of NumPy, deep within it, as bytes."""
    if isinstance(state, dict):
        return {key: comparable(value) for key, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state
