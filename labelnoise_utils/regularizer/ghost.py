"""Per-example squared gradient norms by the rules of the layers: no per-example gradient is formed.

The model runs once on many examples; that the rules of :mod:`labelnoise_utils.regularizer.rules` cover every way from a
parameter to h is proved from the graph of that run.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn
from torch.func import vmap

from .rules import RULES, wide

NUMBERS_PER_CHUNK = 2**21

# Where torch keeps the hooks on all modules; it has no public way to ask whether there are any.
GLOBAL_HOOKS = tuple(f"_global_{when}_hooks" for when in ("forward_pre", "forward", "backward_pre", "backward"))


class NotCoveredError(ValueError):
    """Some trainable parameter reaches h by more ways than through one call of a layer that has a rule."""


class LayerCalls:
    """The layers with a rule, and what one call of the model on one example shows of them.

    What speaks against the ghost norms is kept, and raised when they are asked for.

    Args:
        model: the hypothesis.
        parameters: its trainable parameters by name.
    """

    def __init__(self, model: nn.Module, parameters: Mapping[str, torch.Tensor]) -> None:
        self._calls: list[tuple[nn.Module, torch.Tensor, int, torch.Tensor]] = []
        self._refusal: NotCoveredError | None = None
        self.layers: dict[nn.Module, dict[str, str]] = {}
        try:
            self.layers = _layers(model, parameters)
        except NotCoveredError as error:
            self._refusal = error

    def watched(self) -> contextlib.AbstractContextManager[None]:
        """Within the block the model is called on one example."""

        def leave(layer: nn.Module, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            self._calls.append((layer, a, a._version, z))
            return z

        return _watched(self.layers, leave, {})

    def input_sizes_and_outputs(self) -> dict[nn.Module, tuple[int, torch.Tensor]]:
        """What went into each layer that was called, and what came out.

        Returns:
            For each of them a number of numbers, and a tensor.

        Raises:
            NotCoveredError: naming the parameter and the reason.
        """
        if self._refusal is not None:
            raise self._refusal
        seen: dict[nn.Module, tuple[int, torch.Tensor]] = {}
        for layer, a, version, z in self._calls:
            name = next(iter(self.layers[layer].values()))
            if layer in seen:
                raise NotCoveredError(f"parameter {name!r} belongs to a layer that is called more than once")
            if a._version != version:
                raise NotCoveredError(f"parameter {name!r} belongs to a layer whose input is changed in place later")
            seen[layer] = a.numel(), z
        return seen


def ghost_sq_norms(
    model: nn.Module,
    parameters: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    chunk_size: int | None,
    calls: LayerCalls,
) -> Iterator[dict[str, torch.Tensor]]:
    """``||dh(x_i)/dp||^2`` for each trainable parameter p and each example, summed over outputs, chunk by chunk.

    The model runs under ``torch.vmap``, so that h(x_i) can depend on nothing but x_i and theta. That every parameter is
    covered is read off the graph of h: within its own layer's call it stands as an alias, so a path
    from h to a parameter that passes no alias is another use of it.

    Args:
        model: the hypothesis.
        parameters: its trainable parameters by name.
        x: (n, ...).
        chunk_size: examples per chunk, by default as many as have ``2^21`` numbers going into and coming out of layers.
        calls: what one call of the model has shown.

    Yields:
        For each name the norms of one chunk, differentiable where gradients are enabled.

    Raises:
        NotCoveredError: naming the parameter and the reason.

    Source: equation (3); the norms of linear layers are those of Goodfellow (arXiv 1510.01799), of sequences those of
    Li, Tramer, Liang and Hashimoto (arXiv 2110.05679).
    """
    layers, one = calls.layers, calls.input_sizes_and_outputs()
    if chunk_size is None:
        chunks = math.ceil(len(x) * sum(a + z.numel() for a, z in one.values()) / NUMBERS_PER_CHUNK)
        chunk_size = math.ceil(len(x) / max(1, chunks))
    # On a processor torch convolves and pools pictures faster with the channels of a pixel side by side.
    pictures = x.dim() == 4 and x.device.type == "cpu" and any(isinstance(layer, nn.Conv2d) for layer in one)
    for chunk in x.split(chunk_size):
        chunk = chunk.contiguous(memory_format=torch.channels_last) if pictures else chunk
        taps = {layer: z.new_zeros(()).expand(len(chunk), *z.shape).requires_grad_() for layer, (_, z) in one.items()}
        yield _chunk(model, parameters, layers, chunk, taps)


def _layers(model: nn.Module, parameters: Mapping[str, torch.Tensor]) -> dict[nn.Module, dict[str, str]]:
    """Each layer with a rule, and the names of its trainable parameters by attribute."""
    names = {p: name for name, p in parameters.items()}
    layers: dict[nn.Module, dict[str, str]] = {}
    places: dict[str, str] = {}
    # A torch that keeps them elsewhere counts as one that has some.
    if any(getattr(nn.modules.module, name, True) for name in GLOBAL_HOOKS):
        raise NotCoveredError("there are hooks on all modules (register_module_forward_hook and its like)")
    for path, module in model.named_modules():
        for attribute, p in module.named_parameters(recurse=False, remove_duplicate=False):
            if p not in names:
                continue
            name, place = names[p], f"{path}.{attribute}".lstrip(".")
            if name in places:
                raise NotCoveredError(f"parameter {name!r} is shared: it is {place!r} too")
            if type(module) not in RULES or attribute not in ("weight", "bias") or "forward" in vars(module):
                raise NotCoveredError(f"parameter {name!r} belongs to {type(module).__name__}, which has no rule")
            if p.is_complex():
                raise NotCoveredError(f"parameter {name!r} is complex")
            places[name] = place
            layers.setdefault(module, {})[attribute] = name
    return layers


def _chunk(
    model: nn.Module,
    parameters: Mapping[str, torch.Tensor],
    layers: Mapping[nn.Module, Mapping[str, str]],
    x: torch.Tensor,
    taps: Mapping[nn.Module, torch.Tensor],
) -> dict[str, torch.Tensor]:
    """The norms for the examples x. A tap is a zero that is added to what comes out of a layer: dh/dtap is dh/dz."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        # The gradient of an embedding can be sparse, which views have no rule for.
        aliases = {name: p.expand_as(p) if differentiable else p.detach() for name, p in parameters.items()}

        def h_of_one(x_i: torch.Tensor, taps_i: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
            tap_of, inputs = dict(zip(taps, taps_i, strict=True)), {}

            def leave(layer: nn.Module, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
                inputs[layer] = a
                return z + tap_of[layer]

            with _watched(layers, leave, aliases):
                h_i = model(x_i[None])[0].reshape(-1)
            return h_i, [inputs[layer] for layer in taps]

        h, inputs = vmap(h_of_one)(x, list(taps.values()))
        check_reached_through(aliases, h, parameters, "outside the call of its layer")
        sums = h.sum(dim=0)
    norms = {name: torch.zeros(len(x), dtype=wide(h).dtype, device=h.device) for name in parameters}
    for k in range(len(sums) if sums.requires_grad else 0):
        with torch.enable_grad():
            output = sums[k]
        keep = differentiable or k + 1 < len(sums)
        slopes = torch.autograd.grad(
            output, list(taps.values()), create_graph=differentiable, retain_graph=keep, materialize_grads=True
        )
        for layer, a, g in zip(taps, inputs, slopes, strict=True):
            a = a if differentiable else a.detach()
            of = RULES[type(layer)](layer, wide(a), wide(g))
            for attribute, name in layers[layer].items():
                norms[name] = norms[name] + of[attribute]
    return norms


@contextlib.contextmanager
def _watched(
    layers: Mapping[nn.Module, Mapping[str, str]],
    leave: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor],
    aliases: Mapping[str, torch.Tensor],
) -> Iterator[None]:
    """Within the block each layer computes with aliases of its parameters, and what comes out passes through ``leave``."""

    def before(layer: nn.Module, args: tuple) -> None:
        # A module looks for a parameter only where it has no attribute of that name.
        vars(layer).update({attribute: aliases[name] for attribute, name in layers[layer].items() if name in aliases})

    def uncover(layer: nn.Module) -> None:
        for attribute in layers[layer]:
            vars(layer).pop(attribute, None)

    def after(layer: nn.Module, args: tuple, kwargs: dict, z: torch.Tensor | None) -> torch.Tensor | None:
        uncover(layer)
        return None if z is None else leave(layer, *args, *kwargs.values(), z)  # None after an error in the layer

    hooks = []
    try:
        for layer in layers:
            hooks.append(layer.register_forward_pre_hook(before))
            hooks.append(layer.register_forward_hook(after, prepend=True, with_kwargs=True, always_call=True))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            uncover(layer)


def check_reached_through(
    aliases: Mapping[str, torch.Tensor], h: torch.Tensor, parameters: Mapping[str, torch.Tensor], otherwise: str
) -> None:
    """Refuse if the graph of h reaches a parameter on a path that passes through no alias of it.

    Raises:
        NotCoveredError: naming the parameter, and saying ``otherwise`` in which way it is used.
    """
    names = {p: name for name, p in parameters.items()}
    nodes, seen = [h.grad_fn], {alias.grad_fn for alias in aliases.values()}
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = names.get(getattr(node, "variable", None))
        if name is not None:
            raise NotCoveredError(f"parameter {name!r} is used {otherwise}")
        nodes.extend(following for following, _ in node.next_functions)
