"""Per-example squared gradient norms by the rules of the layers: for them no per-example gradient is formed.

The model runs once on many examples; that the rules of :mod:`labelnoise_utils.regularizer.rules` cover every way from a
parameter to h is proved from the graph of that run.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import nn
from torch.autograd.graph import Node, get_gradient_edge
from torch.func import vmap

from .hypothesis import Call, Hypothesis, check_again, is_close
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
    """Which parameters reach h only through one call of a layer that has a rule, as far as is known.

    Attributes:
        layers: each such layer, and the names of those of its parameters by attribute.
        rest: the names of the other parameters, each with the reason.
    """

    layers: Mapping[nn.Module, Mapping[str, str]]
    rest: Mapping[str, str]

    @classmethod
    def of(cls, h: Hypothesis) -> "Cover":
        """By the classes of the layers alone."""
        layers, rest = _layers(h)
        return cls(layers, {name: rest[name] for name in h.parameters if name in rest}).without({})

    @classmethod
    def none(cls, h: Hypothesis) -> "Cover":
        """A cover of nothing."""
        return cls({}, dict.fromkeys(h.parameters, "is not asked for"))

    @property
    def names(self) -> list[str]:
        """The names of the parameters that are covered."""
        return [name for of in self.layers.values() for name in of.values()]

    def without(self, reasons: Mapping[str, str]) -> "Cover":
        """Less the parameters named, for these reasons."""
        rest = {**self.rest, **{name: reason for name, reason in reasons.items() if name not in self.rest}}
        kept = {layer: {a: name for a, name in of.items() if name not in rest} for layer, of in self.layers.items()}
        return Cover({layer: of for layer, of in kept.items() if of}, rest)

    def check_whole(self) -> None:
        """Refuse a rest.

        Raises:
            NotCoveredError: naming its first parameter, and the reason.
        """
        for name, reason in self.rest.items():
            raise NotCoveredError(f"parameter {name!r} {reason}")


def ghost_sq_norms(
    h: Hypothesis, examples: Examples, chunk_size: int | None, cover: Cover, call: Call, whole: bool = False
) -> Iterator[tuple[dict[str, torch.Tensor], Cover]]:
    """``||dh(x_i)/dp||^2`` for each parameter p that counts and each example, summed over outputs, chunk by chunk.

    The model runs under ``torch.vmap``, so that h(x_i) can depend on nothing but x_i and theta. Covered parameters go by the
    rules; of the others each example has a copy of its own. That the parameters are covered is read off
    the graph of h: within its own layer's call a parameter stands as an alias, so a path from h to it that passes
    no alias is another use. A parameter that turns out not to be covered joins the others.

    Args:
        h: the hypothesis.
        examples: n of them.
        chunk_size: examples per chunk, by default as many as have ``2^21`` numbers in the operations of the model, and
            ``2^19`` in gradients that are formed.
        cover: which parameters are covered, by their layers.
        call: of the user's own model, on the first example.
        whole: whether there may be no rest.

    Yields:
        For each name the norms of one chunk, differentiable where gradients are enabled; and the cover.

    Raises:
        NotCoveredError: naming the parameter and the reason.
        StateError: if what h is changes from call to call.

    Source: equation (3); the norms of linear layers are those of Goodfellow (arXiv 1510.01799), of sequences those of
    Li, Tramer, Liang and Hashimoto (arXiv 2110.05679).
    """
    if call.hooks is not None:
        raise NotCoveredError(f"{call.hooks}, which torch.vmap does not call")
    # On a processor torch convolves and pools pictures faster with the channels of a pixel side by side.
    pictures = any(isinstance(layer, nn.Conv2d) for layer in cover.layers)
    done = 0
    while done < len(examples):
        if whole:
            cover.check_whole()
        size = chunk_size or _chunk_size(h, len(examples), cover, call)
        chunk = examples.map(lambda tensor, start=done, stop=done + size: tensor[start:stop])
        chunk = chunk.map(_channels_last) if pictures else chunk
        with torch.enable_grad():
            copies = {name: h.parameters[name].expand(len(chunk), *h.parameters[name].shape) for name in cover.rest}
        rows, norms, reasons = h_and_norms(h, chunk, cover, copies)
        if reasons:
            cover = cover.without(reasons)
            continue
        if not done and not is_close(call.h, rows[0], call.eps):
            check_again(h, call)
            if not is_close(call.h, rows[0], call.eps**0.5 / 16):
                raise NotCoveredError("model gives another output when a copy of its modules is called")
        yield norms, cover
        done += size


def _chunk_size(h: Hypothesis, n: int, cover: Cover, call: Call) -> int:
    gradients = sum(h.parameters[name].numel() for name in cover.rest)
    numbers = call.numbers if cover.layers else 0
    return math.ceil(n / max(1, math.ceil(n * numbers / NUMBERS_PER_CHUNK), math.ceil(n * gradients / GRADIENTS_PER_CHUNK)))


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 and x.device.type == "cpu" else x


def h_and_norms(
    h: Hypothesis, examples: Examples, cover: Cover, copies: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, str]]:
    """H of m examples and the norms, from one run of the model and a backward pass for each output.

    Row j of h reads what comes out of layers for example j and copy j alone, so one backward pass from the sum over the rows
    gives the slopes of all.
    (The obvious ``vmap`` of ``vjp`` gives the same norms. But its rule for LayerNorm takes the mean and the variance of x
    for constants, so their gradient would be wrong without a word.)

    Args:
        h: the hypothesis.
        examples: m of them.
        cover: whose layers go by rules.
        copies: for each other parameter (m, ...), with a gradient.

    Returns:
        h (m, outputs), and for each name the squared norms (m,), differentiable where gradients are enabled. Instead of norms
        why parameters are not covered after all, by name, if any are not.

    Raises:
        NotCoveredError: if h reaches a parameter in a way that a copy does not change.
    """
    differentiable = torch.is_grad_enabled()
    m, layers = len(examples), [*cover.layers]
    places = {layer: k for k, layer in enumerate(layers)}
    with torch.enable_grad():
        # The gradient of an embedding can be sparse, which views have no rule for.
        named = ((name, h.parameters[name]) for name in cover.names)
        aliases = {name: p.expand_as(p) if differentiable else p.detach() for name, p in named}
        like = next(iter(h.parameters.values())).detach().real
        # Each is 0, and taken from what comes out of its layer: so a backward pass to it comes by that place.
        roots = [like.new_zeros(m).requires_grad_() for _ in layers]
        versions: dict[int, int] = {}
        reasons: dict[str, str] = {}

        def of_one(
            x_i: list[torch.Tensor], roots_i: list[torch.Tensor], copies_i: dict[str, torch.Tensor]
        ) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
            one = Examples(dict(zip(examples.tensors, (t[None] for t in x_i), strict=True)), examples.constants)
            twins = skeleton(h.model, {h.parameters[name]: copy for name, copy in copies_i.items()})
            inputs: dict[int, torch.Tensor] = {}

            def leave(layer: nn.Module, a: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
                k, base = places[layer], unwrapped(a)
                if k in inputs:
                    reason = "belongs to a layer that is called more than once"
                    reasons.update(dict.fromkeys(cover.layers[layer].values(), reason))
                elif base is not unwrapped(base):
                    reason = "belongs to a layer that is called within a transform of torch.func"
                    reasons.update(dict.fromkeys(cover.layers[layer].values(), reason))
                else:
                    inputs[k], versions[k] = a, base._version
                return z - roots_i[k]  # not plus, which would turn -0 into 0

            _tap(twins, cover.layers, aliases, leave)
            try:
                with PaddingHeld() if copies_i else contextlib.nullcontext():
                    return h.of_one(one, twins[h.model]), inputs
            finally:
                # A module that holds a function that holds the module, and activations, would wait for the garbage collector.
                for layer in layers:
                    del vars(twins[layer])["forward"]

        rows, inputs = vmap(of_one)([*examples.tensors.values()], roots, dict(copies))
        for k, a in inputs.items():
            if a._version != versions[k]:
                reason = "belongs to a layer whose input is modified by an inplace operation later"
                reasons.update(dict.fromkeys(cover.layers[layers[k]].values(), reason))
        nodes = [*nodes_of(rows, {alias.grad_fn for alias in (aliases | copies).values()})]
        above = {below: node for node in nodes for below, _ in node.next_functions}
        for name in reached_by(nodes, h.parameters):
            if name in copies:
                raise NotCoveredError(f"parameter {name!r} is used through a reference that is no attribute of a module")
            reasons.setdefault(name, "is used outside the call of its layer")
        sums = rows.sum(dim=0)
    if reasons:
        return rows, {}, reasons
    norms: dict[str, torch.Tensor] = {}

    def add(of: Mapping[str, torch.Tensor]) -> None:
        norms.update({name: norms[name] + share if name in norms else share for name, share in of.items()})

    def on_the_way_back(k: int) -> Callable[[tuple[torch.Tensor, ...]], None]:
        layer, a = layers[k], wide(inputs[k] if differentiable else inputs[k].detach())

        def arrive(slopes: tuple[torch.Tensor, ...]) -> None:
            of = RULES[type(layer)](layer, a, wide(slopes[0]))
            add({name: of[attribute] for attribute, name in cover.layers[layer].items()})

        return arrive

    leaves, handles = [*copies.values()], []
    for k in inputs:
        if (node := _meeting(get_gradient_edge(roots[k]).node, above)) is not None:
            leaves.append(roots[k])
            handles.append(node.register_prehook(on_the_way_back(k)))
    try:
        for k in range(len(sums) if sums.requires_grad and leaves else 0):
            with torch.enable_grad():
                output = sums[k]
            keep = differentiable or k + 1 < len(sums)
            slopes = torch.autograd.grad(output, leaves, create_graph=differentiable, retain_graph=keep, materialize_grads=True)
            add({name: squares(g) for name, g in zip(copies, slopes, strict=False)})
    finally:
        for handle in handles:  # the graph may be passed through again, for the gradient of reg
            handle.remove()
    none = torch.zeros(m, dtype=wide(rows).dtype, device=rows.device)
    return rows, {name: norms[name].to(none) if name in norms else none for name in h.parameters}, {}


def unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """What a tensor within torch.vmap stands for, one level down; outside it is the tensor itself."""
    if hasattr(torch.func, "debug_unwrap"):
        return torch.func.debug_unwrap(tensor, recurse=False)
    functorch = torch._C._functorch  # of torch 2.6
    return functorch.get_unwrapped(tensor) if functorch.is_functorch_wrapped_tensor(tensor) else tensor


def _meeting(leaf: Node, above: Mapping[Node, Node]) -> Node | None:
    """The first node above a leaf that has another input, too."""
    node = above.get(leaf)
    while node is not None and len(node.next_functions) < 2:
        node = above.get(node)
    return node


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
    return reached_by(nodes_of(h, {a.grad_fn for a in aliases.values()}), parameters)


def reached_by(nodes: Iterable[Node], parameters: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of the parameters that some of these nodes of a graph lead to."""
    reached = {getattr(node, "variable", None) for node in nodes}
    return [name for name, p in parameters.items() if p in reached]
