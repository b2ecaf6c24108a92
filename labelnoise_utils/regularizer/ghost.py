"""Per-example squared gradient norms by the rules of the layers: for them no per-example gradient is formed.

The model runs once on many examples; that the rules of :mod:`labelnoise_utils.regularizer.rules` cover every way from a
parameter to h is proved from the graph of that run.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn
from torch.func import vmap

from .hypothesis import Call, Hypothesis, is_close
from .inputs import Examples
from .padding import PaddingHeld
from .rules import RULES, covered_attributes, squares, wide
from .skeleton import skeleton
from .state import nodes_of

NUMBERS_PER_CHUNK = 2**21  # that go into layers and come out
GRADIENTS_PER_CHUNK = 2**19  # numbers of the per-example gradients that are formed


class NotCoveredError(ValueError):
    """A method does not cover the model: the error names the parameter, and the reason.

    For "ghost" mostly that a trainable parameter reaches h by more ways than through one call of a layer that has a rule.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Cover:
    """Which parameters reach h only through one call of a layer that has a rule.

    Attributes:
        layers: each such layer that is called, and the names of those of its parameters by attribute.
        sizes: for each the number of numbers that go into it for one example, and what comes out.
        covered: the names of all such parameters, also of layers that are never called.
        rest: the names of the others, each with the reason.
    """

    layers: Mapping[nn.Module, Mapping[str, str]]
    sizes: Mapping[nn.Module, tuple[int, torch.Tensor]]
    covered: frozenset[str]
    rest: Mapping[str, str]


def find_cover(h: Hypothesis, call: Call, whole: bool) -> Cover:
    """Find out by a second call, which runs a copy of the modules.

    Args:
        h: the hypothesis.
        call: of the user's own model.
        whole: whether there may be no rest.

    Returns:
        The cover.

    Raises:
        NotCoveredError: naming a parameter and the reason if there is a rest and may be none; or if torch.vmap cannot do what
            autograd does, or the copy gives another output than the model.
    """
    layers, rest = _layers(h)
    _check_rest(rest if whole else {})
    if call.hooks is not None:
        raise NotCoveredError(f"{call.hooks}, which torch.vmap does not call")
    twins = skeleton(h.model, {})
    calls: list[tuple[nn.Module, torch.Tensor, int, torch.Tensor]] = []

    def leave(layer: nn.Module, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        calls.append((layer, a, a._version, z))
        return z

    with torch.enable_grad():
        aliases = {name: h.parameters[name].expand_as(h.parameters[name]) for name in h.parameters.keys() - rest.keys()}
        _tap(twins, layers, aliases, leave)
        again = h.of_one(call.one.map(torch.clone), twins[h.model])
    sizes: dict[nn.Module, tuple[int, torch.Tensor]] = {}
    for layer, a, version, z in calls:
        for name in layers[layer].values():
            if layer in sizes:
                rest.setdefault(name, "belongs to a layer that is called more than once")
            elif a._version != version:
                rest.setdefault(name, "belongs to a layer whose input is changed in place later")
        sizes[layer] = a.numel(), z.detach()
    for name in reached_past(aliases, again, h.parameters):
        rest.setdefault(name, "is used outside the call of its layer")
    layers = {
        layer: kept
        for layer, names in layers.items()
        if layer in sizes and (kept := {attribute: name for attribute, name in names.items() if name not in rest})
    }
    rest = {name: rest[name] for name in h.parameters if name in rest}
    _check_rest(rest if whole else {})
    if not is_close(call.h, again, call.eps):
        raise NotCoveredError("model gives another output when a copy of its modules is called: its forward function was"
                              " wrapped, or it keeps something from call to call")  # fmt: skip
    return Cover(layers, sizes, frozenset(h.parameters.keys() - rest.keys()), rest)


def _check_rest(rest: Mapping[str, str]) -> None:
    for name, reason in rest.items():
        raise NotCoveredError(f"parameter {name!r} {reason}")


def ghost_sq_norms(
    h: Hypothesis, examples: Examples, chunk_size: int | None, cover: Cover
) -> Iterator[dict[str, torch.Tensor]]:
    """``||dh(x_i)/dp||^2`` for each parameter p that counts and each example, summed over outputs, chunk by chunk.

    The model runs under ``torch.vmap``, so that h(x_i) can depend on nothing but x_i and theta. Covered parameters go by the
    rules; of the others each example has a copy of its own. That the parameters are covered is read off
    the graph of h: within its own layer's call a parameter stands as an alias, so a path from h to it that passes
    no alias is another use.

    Args:
        h: the hypothesis.
        examples: n of them.
        chunk_size: examples per chunk, by default as many as have ``2^21`` numbers going into and coming out of layers, and
            ``2^19`` in gradients that are formed.
        cover: which parameters are covered.

    Yields:
        For each name the norms of one chunk, differentiable where gradients are enabled.

    Raises:
        NotCoveredError: naming the parameter and the reason.

    Source: equation (3); the norms of linear layers are those of Goodfellow (arXiv 1510.01799), of sequences those of
    Li, Tramer, Liang and Hashimoto (arXiv 2110.05679).
    """
    if chunk_size is None:
        numbers = sum(cover.sizes[layer][0] + cover.sizes[layer][1].numel() for layer in cover.layers)
        gradients = sum(h.parameters[name].numel() for name in cover.rest)
        chunks = max(len(examples) * numbers / NUMBERS_PER_CHUNK, len(examples) * gradients / GRADIENTS_PER_CHUNK)
        chunk_size = math.ceil(len(examples) / max(1, math.ceil(chunks)))
    # On a processor torch convolves and pools pictures faster with the channels of a pixel side by side.
    pictures = any(isinstance(layer, nn.Conv2d) for layer in cover.layers)
    for chunk in examples.split(chunk_size):
        chunk = chunk.map(_channels_last) if pictures else chunk
        with torch.enable_grad():
            copies = {name: h.parameters[name].expand(len(chunk), *h.parameters[name].shape) for name in cover.rest}
        yield h_and_norms(h, chunk, cover, copies)[1]


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 and x.device.type == "cpu" else x


def h_and_norms(
    h: Hypothesis, examples: Examples, cover: Cover, copies: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """H of m examples and the norms, from one run of the model and a backward pass for each output.

    A tap is a zero that is added to what comes out of a covered layer, so dh/dtap is dh/dz. Row j of h reads tap j and copy j
    alone, so one backward pass from the sum over the rows gives the slopes of all.
    (The obvious ``vmap`` of ``vjp`` gives the same norms. But its rule for LayerNorm takes the mean and the variance of x
    for constants, so their gradient would be wrong without a word.)

    Args:
        h: the hypothesis.
        examples: m of them.
        cover: whose layers go by rules.
        copies: for each other parameter (m, ...), with a gradient.

    Returns:
        h (m, outputs), and for each name the squared norms (m,), differentiable where gradients are enabled.

    Raises:
        NotCoveredError: naming the parameter and the reason.
    """
    differentiable = torch.is_grad_enabled()
    m = len(examples)
    with torch.enable_grad():
        # The gradient of an embedding can be sparse, which views have no rule for.
        named = ((name, h.parameters[name]) for name in cover.covered)
        aliases = {name: p.expand_as(p) if differentiable else p.detach() for name, p in named}
        zeros = {layer: cover.sizes[layer][1].new_zeros(()).expand(m, *cover.sizes[layer][1].shape) for layer in cover.layers}
        taps = {layer: zero.requires_grad_() for layer, zero in zeros.items()}

        def of_one(
            x_i: list[torch.Tensor], taps_i: list[torch.Tensor], copies_i: dict[str, torch.Tensor]
        ) -> tuple[torch.Tensor, list[torch.Tensor]]:
            one = Examples(dict(zip(examples.tensors, (t[None] for t in x_i), strict=True)), examples.constants)
            twins = skeleton(h.model, {h.parameters[name]: copy for name, copy in copies_i.items()})
            tap_of, inputs = dict(zip(taps, taps_i, strict=True)), {}

            def leave(layer: nn.Module, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
                inputs[layer] = a
                return z + tap_of[layer]

            _tap(twins, cover.layers, aliases, leave)
            with PaddingHeld() if copies_i else contextlib.nullcontext():
                row = h.of_one(one, twins[h.model])
            return row, [inputs[layer] for layer in taps]

        rows, inputs = vmap(of_one)([*examples.tensors.values()], [*taps.values()], dict(copies))
        past = reached_past(aliases | copies, rows, h.parameters)
        if past:
            how = "outside the call of its layer" if aliases else "through a reference that is no attribute of a module"
            raise NotCoveredError(f"parameter {past[0]!r} is used {how}")
        sums = rows.sum(dim=0)
    norms = {name: torch.zeros(m, dtype=wide(rows).dtype, device=rows.device) for name in h.parameters}
    leaves = [*taps.values(), *copies.values()]
    for k in range(len(sums) if sums.requires_grad else 0):
        with torch.enable_grad():
            output = sums[k]
        keep = differentiable or k + 1 < len(sums)
        slopes = torch.autograd.grad(output, leaves, create_graph=differentiable, retain_graph=keep, materialize_grads=True)
        for layer, a, g in zip(taps, inputs, slopes[: len(taps)], strict=True):
            a = a if differentiable else a.detach()
            of = RULES[type(layer)](layer, wide(a), wide(g))
            for attribute, name in cover.layers[layer].items():
                norms[name] = norms[name] + of[attribute]
        for name, g in zip(copies, slopes[len(taps) :], strict=True):
            norms[name] = norms[name] + squares(g)
    return rows, norms


def _layers(h: Hypothesis) -> tuple[dict[nn.Module, dict[str, str]], dict[str, str]]:
    """Each layer with a rule and the names of its parameters by attribute; the other parameters and the reasons."""
    names = {p: name for name, p in h.parameters.items()}
    layers: dict[nn.Module, dict[str, str]] = {}
    rest: dict[str, str] = {}
    places: dict[str, str] = {}
    for path, module in h.model.named_modules():
        for attribute, p in module._parameters.items():
            if p is None or p not in names:
                continue
            name, place = names[p], f"{path}.{attribute}".lstrip(".")
            if name in places:
                rest.setdefault(name, f"is shared: it is {place!r} too")
            elif attribute not in covered_attributes(module) or "forward" in vars(module):
                rest[name] = f"belongs to {type(module).__name__}, which has no rule"
            elif p.is_complex():
                rest[name] = "is complex"
            places.setdefault(name, place)
            layers.setdefault(module, {})[attribute] = name
    layers = {
        layer: kept
        for layer, of in layers.items()
        if (kept := {attribute: name for attribute, name in of.items() if name not in rest})
    }
    return layers, rest


def _tap(
    twins: Mapping[nn.Module, nn.Module],
    layers: Mapping[nn.Module, Mapping[str, str]],
    aliases: Mapping[str, torch.Tensor],
    leave: Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor],
) -> None:
    """In the copy each layer computes with aliases of its parameters, and what comes out passes through ``leave``.

    In place of its forward function, so that all hooks come before and after.
    """

    def tapped(layer: nn.Module) -> Callable[..., torch.Tensor]:
        twin, forward = twins[layer], twins[layer].forward
        inside = {attribute: aliases[name] for attribute, name in layers[layer].items()}

        def run(*args: torch.Tensor, **kwargs: torch.Tensor) -> torch.Tensor:
            own = dict(twin._parameters)
            twin._parameters.update(inside)
            try:
                z = forward(*args, **kwargs)
            finally:
                twin._parameters.update(own)
            return leave(layer, *args, *kwargs.values(), z)

        return run

    for layer in layers:
        vars(twins[layer])["forward"] = tapped(layer)


def reached_past(aliases: Mapping[str, torch.Tensor], h: torch.Tensor, parameters: Mapping[str, torch.Tensor]) -> list[str]:
    """The parameters that the graph of h reaches on a path that passes through no alias of it."""
    names = {p: name for name, p in parameters.items()}
    reached = {names.get(getattr(node, "variable", None)) for node in nodes_of(h, {a.grad_fn for a in aliases.values()})}
    return [name for name in parameters if name in reached]
