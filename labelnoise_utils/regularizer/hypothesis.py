"""What a module must be to have one gradient per example, and what its hypothesis h is."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

import torch

from .inputs import Examples, Inputs, batches
from .modes import evaluating, gradients_possible, twice_differentiable
from .parameters import counted, is_as_built, parameters_kept, set_parameters, trainable
from .state import UNDEFINED, HooksMade, RandomDraw, Watched, attributes_kept, comparable, generators, same

__all__ = [
    "Call",
    "Hypothesis",
    "Loss",
    "attributes_kept",
    "check_alone",
    "check_examples",
    "check_per_example",
    "counted",
    "evaluating",
    "is_as_built",
    "gradients_possible",
    "parameters_kept",
    "set_parameters",
    "trainable",
    "twice_differentiable",
]

Loss = Literal["squared", "cross_entropy"]


@dataclasses.dataclass(frozen=True, eq=False)
class Hypothesis:
    """The function h of examples and theta: a module, which of its parameters count, and what of its output.

    Attributes:
        model: the module.
        parameters: those that count, by name.
        output: the field of the output that counts, by name or position; None if the output is a tensor.
        loss: "squared", or "cross_entropy", for which ``2 sqrt(p)`` stands in place of the logits.

    Raises:
        TypeError: if ``output`` is neither a name nor a position.
        ValueError: if the loss is unknown.
    """

    model: torch.nn.Module
    parameters: Mapping[str, torch.Tensor]
    output: str | int | None = None
    loss: Loss = "squared"

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            raise ValueError(f"loss must be one of {', '.join(get_args(Loss))}, got {self.loss!r}")
        if self.output is not None and not isinstance(self.output, str | int):
            raise TypeError(f"output must be the name or the position of a field, got {self.output!r}")

    def __call__(self, examples: Examples, model: torch.nn.Module | None = None) -> torch.Tensor:
        """The outputs for examples, (n, ...), by the module or by another that stands for it."""
        return self.of_output(examples.passed_to(model or self.model), len(examples))

    def of_one(self, example: Examples, model: torch.nn.Module | None = None) -> torch.Tensor:
        """The outputs for one example side by side, (outputs,)."""
        return self(example, model)[0].reshape(-1)

    def of_output(self, out: object, n: int) -> torch.Tensor:
        """What counts of the output of the module for n examples.

        Returns:
            (n, ...).

        Raises:
            TypeError: if it is no tensor.
            ValueError: if the field is missing, or h is not real or has no dimension for the examples.
        """
        h = out if self.output is None else _field(out, self.output)
        if not isinstance(h, torch.Tensor):
            hint = ": output= says which field of it counts" if self.output is None else ""
            raise TypeError(f"model must return a torch.Tensor, got {type(h).__name__}{hint}")
        if not h.is_floating_point():
            raise ValueError(f"model must return real numbers, got {h.dtype}")
        if h.dim() == 0 or h.shape[0] != n:
            many = "one example" if n == 1 else f"{n} examples"
            raise ValueError(f"model must keep the examples along dimension 0, but h has shape {tuple(h.shape)} for {many}")
        if self.loss == "squared":
            return h
        if h.dim() == 1:
            raise ValueError(f"loss='cross_entropy' needs classes along dimension 1 of h, got shape {tuple(h.shape)}")
        if h.shape[1] == 1:
            raise ValueError(
                "loss='cross_entropy' needs two classes or more along dimension 1 of h, got 1; a single logit z of two classes"
                " is the logits 0 and z: let the model give both"
            )
        # The root of softmax itself has no slope where a probability underflows.
        return 2 * (torch.log_softmax(h.float() if h.dtype in (torch.float16, torch.bfloat16) else h, dim=1) / 2).exp()


def _field(out: object, field: str | int) -> object:
    try:
        return out[field] if isinstance(field, int) or isinstance(out, Mapping) else getattr(out, field)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"model returns {type(out).__name__}, which has no field {field!r}") from error


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """What a call of the user's own model on one example has shown.

    Attributes:
        one: the example, a copy.
        h: (outputs,), with the graph of autograd.
        eps: the machine epsilon of the coarsest type that the model computes in.
        numbers: how many numbers its operations gave.
        hooks: why torch.vmap would not do as autograd does, or None.
    """

    one: Examples
    h: torch.Tensor
    eps: float
    numbers: int
    hooks: str | None


def first_call(h: Hypothesis, examples: Examples) -> Call:
    """Call the model on the first example, with gradients, and refuse what has no gradient of one example.

    What the model changes of itself is put back, except for attributes.

    Args:
        h: the hypothesis.
        examples: at least one.

    Returns:
        What was seen.

    Raises:
        TypeError: as in :class:`Hypothesis`.
        ValueError: as there, or if the example is not what the model takes, or the model has BatchNorm or Dropout in
            training mode, draws random numbers elsewhere, or changes its input or a tensor of its own.
    """
    _check_modules(h.model)
    drawn_from = generators(h.model)
    start = before = [get() for get, _ in drawn_from]
    for _ in range(3):
        call = _watched_call(h, examples)
        after = [get() for get, _ in drawn_from]
        if all(comparable(one) == comparable(other) for one, other in zip(after, before, strict=True)):
            return call
        before = after  # perhaps it was another thread that drew: then not each time
    for (_, put), state in zip(drawn_from, start, strict=True):
        put(state)
    raise ValueError(f"model draws random numbers, {UNDEFINED}: call model.eval() first")


def _watched_call(h: Hypothesis, examples: Examples) -> Call:
    one = examples.map(lambda tensor: tensor.detach()[:1].clone())
    versions = [tensor._version for tensor in one.tensors.values()]
    watched, hooks, failed = Watched(h.model), HooksMade(), None
    with torch.enable_grad():
        try:
            with watched, hooks:
                out = one.passed_to(h.model)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError, RandomDraw) as error:
            failed = error
        finally:
            changed = watched.put_back(h.model)
        if watched.draws is not None:
            raise ValueError(f"model draws random numbers in {watched.draws}, {UNDEFINED}: call model.eval() first")
        if failed is not None:
            raise ValueError(f"{examples} is not what model takes: {failed}") from failed
        if changed is not None:
            kind = "parameter" if changed in dict(h.model.named_parameters()) else "buffer"
            raise ValueError(
                f"model changes its {kind} {changed!r} when it is called, {UNDEFINED}: call model.eval() first, if that ends it"
            )
        for (key, tensor), version in zip(one.tensors.items(), versions, strict=True):
            if tensor._version != version or not same(tensor, examples.tensors[key][:1]):
                raise ValueError("model changes x in place when it is called: let it work on a copy")
        row = h.of_output(out, 1)[0].reshape(-1)
    return Call(one, row, watched.eps, watched.numbers, hooks.seen(h.model, h.parameters, row))


class StateError(ValueError):
    """What h is changes from call to call."""


def check_again(h: Hypothesis, call: Call) -> None:
    """Refuse a model that gives another output when it is called once more.

    Args:
        h: the hypothesis.
        call: the first call.

    Raises:
        StateError: if the outputs are not the same up to the order of a sum.
    """
    with torch.enable_grad(), attributes_kept(h.model):
        again = h.of_one(call.one)
    if not is_close(call.h, again, call.eps):
        raise StateError(
            f"model gives another output when it is called once more, {UNDEFINED}: it keeps something from call to call, or"
            " draws random numbers"
        )


def is_close(h: torch.Tensor, again: torch.Tensor, eps: float) -> bool:
    """Whether outputs are the same up to the order of a sum.

    Returns:
        True or False.
    """
    h, again = h.detach(), again.detach().to(h)  # under autocast torch.vmap can give another type
    atol = 64 * eps * h.abs().nan_to_num(0, 0, 0).max().item() if h.numel() else 0.0
    return h.shape == again.shape and torch.allclose(h, again, rtol=0, atol=atol, equal_nan=True)


def check_per_example(model: torch.nn.Module, x: Inputs) -> None:
    """Refuse a model whose output for one example is not a real function of that example and of theta.

    Args:
        model: the hypothesis; it is called twice, on the first example.
        x: (n, ...), the inputs.

    Raises:
        TypeError: if x or the output is no tensor.
        ValueError: if x is empty, not finite or not what the model takes, the output is not real or has no dimension for
            the examples, or the model has BatchNorm or Dropout in training mode, draws random numbers elsewhere, changes x
            or a tensor of its own when it is called, or gives another output when it is called once more.
    """
    h = Hypothesis(model, trainable(model))
    check_examples(h, next(batches(x, None, next(iter(h.parameters.values())))))


def check_examples(h: Hypothesis, examples: Examples) -> None:
    """The same for a hypothesis and examples.

    Args:
        h: the hypothesis.
        examples: at least one.

    Raises:
        TypeError: as there.
        ValueError: as there.
    """
    with attributes_kept(h.model):
        check_again(h, first_call(h, examples))


CHANGES = "changes with the other examples in its batch"


def check_alone(h: Hypothesis, examples: Examples, together: torch.Tensor, hint: str, what: str = CHANGES) -> None:
    """Refuse h of which the first or the last example is another than alone.

    Args:
        h: the hypothesis; it is called on each of the two alone.
        examples: m of them.
        together: (m, ...), the outputs for all in one call, with or without a graph.
        hint: what to do about it, for the message.
        what: what is wrong then, for the message.

    Raises:
        ValueError: if it is so.
    """
    together = together.detach()
    atol = torch.finfo(together.dtype).eps ** 0.5 * together.abs().max().item() if together.numel() else 0.0
    for i in sorted({0, len(examples) - 1}):
        # With gradients enabled, as the others were: some layers compute something else without.
        with torch.enable_grad(), attributes_kept(h.model):
            alone = h(examples.map(lambda tensor, i=i: tensor[i : i + 1])).detach()[0]
        if not torch.allclose(alone, together[i], rtol=0, atol=atol, equal_nan=True):
            raise ValueError(f"h of example {i} {what}: {hint}")


CHANCE = (
    torch.nn.Dropout
    | torch.nn.Dropout1d
    | torch.nn.Dropout2d
    | torch.nn.Dropout3d
    | torch.nn.AlphaDropout
    | torch.nn.FeatureAlphaDropout
    | torch.nn.RReLU
)


def _check_modules(model: torch.nn.Module) -> None:
    batch_norm = torch.nn.modules.batchnorm._BatchNorm
    for name, module in model.named_modules():
        what = f"{type(module).__name__} {name or 'model'!r}"
        if module.training and isinstance(module, batch_norm | CHANCE):
            raise ValueError(f"{what} is in training mode, {UNDEFINED}: call model.eval() first")
        if isinstance(module, batch_norm) and module.running_mean is None:
            raise ValueError(f"{what} keeps no running statistics and reads the batch, {UNDEFINED}")
        if isinstance(module, torch.nn.Embedding | torch.nn.EmbeddingBag):
            if module.max_norm is not None:
                raise ValueError(f"{what} has max_norm, and rescales its own weight when it is called")
            if module.scale_grad_by_freq:
                raise ValueError(f"{what} has scale_grad_by_freq, so what it calls its gradient is another vector")
