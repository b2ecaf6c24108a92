"""What a module must be to have one gradient per example, and its trainable parameters."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters with ``requires_grad``, by name, each tensor once, in the order of ``parameters_to_vector``.

    Returns:
        The parameters themselves, not copies.

    Raises:
        TypeError: if model is no module.
        ValueError: if there is none, or a lazy layer has not made its own yet.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("model has no trainable parameter: all have requires_grad=False, or there are none")
    for name, p in parameters.items():
        if isinstance(p, torch.nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name!r} of the model has no shape yet: call the model once first")
        if p.is_inference():
            raise ValueError(f"parameter {name!r} was made in torch.inference_mode, and has no gradient")
    return parameters


def check_per_example(
    model: torch.nn.Module, x: torch.Tensor, within: contextlib.AbstractContextManager[None] | None = None
) -> None:
    """Refuse a model whose output for one example is not a real function of that example and of theta.

    Args:
        model: the hypothesis; it is called once, on the first example.
        x: (n, ...), the inputs.
        within: entered around that call.

    Raises:
        TypeError: if x or the output is no tensor.
        ValueError: if x is empty, not finite or not what the model takes, the output is not real or has no dimension for
            the examples, or the model has BatchNorm or Dropout in training mode, draws random numbers elsewhere, or changes x
            or a buffer of its own when it is called.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    if x.is_meta:
        raise ValueError("x must have values, got a tensor on the meta device")
    if x.dim() == 0 or x.shape[0] == 0:
        raise ValueError(f"x must hold at least one example along dimension 0, got shape {tuple(x.shape)}")
    # The sum is quick and, if finite, proof enough.
    if (x.is_floating_point() or x.is_complex()) and not x.sum().isfinite() and not x.isfinite().all():
        example = (~x.reshape(len(x), -1).isfinite()).any(dim=1).nonzero()[0].item()
        raise ValueError(f"x must be finite, got NaN or infinity in example {example}")
    _check_modules(model)
    h = _call_once(model, x, within or contextlib.nullcontext())
    if not isinstance(h, torch.Tensor):
        raise TypeError(f"model must return a torch.Tensor, got {type(h).__name__}")
    if not h.is_floating_point():
        raise ValueError(f"model must return real numbers, got {h.dtype}")
    if h.dim() == 0 or h.shape[0] != 1:
        raise ValueError(f"model must keep the examples along dimension 0, but h has shape {tuple(h.shape)} for one example")


CHANCE = nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d | nn.AlphaDropout | nn.FeatureAlphaDropout | nn.RReLU
UNDEFINED = "where the gradient of one example is not defined"


def _check_modules(model: torch.nn.Module) -> None:
    batch_norm = nn.modules.batchnorm._BatchNorm  # the base of other people's too
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


def _call_once(model: torch.nn.Module, x: torch.Tensor, within: contextlib.AbstractContextManager[None]) -> object:
    one = x[:1].clone()
    version = one._version
    devices = [x.device] if x.is_cuda else []
    with torch.no_grad(), attributes_kept(model), _buffers_kept(model), torch.random.fork_rng(devices=devices):
        rng_state = torch.cuda.get_rng_state if x.is_cuda else torch.get_rng_state
        before = rng_state()
        try:
            with within:
                h = model(one)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"x of shape {tuple(x.shape)} and {x.dtype} is not what model takes: {error}") from error
        if not torch.equal(rng_state(), before):
            raise ValueError(f"model draws random numbers, {UNDEFINED}: call model.eval() first")
    if one._version != version:
        raise ValueError("model changes x in place when it is called: let it work on a copy")
    return h


@contextlib.contextmanager
def _buffers_kept(model: torch.nn.Module) -> Iterator[None]:
    """Refuse a change of a buffer in the block, and undo it."""
    before = {name: (buffer, buffer._version, buffer.clone()) for name, buffer in model.named_buffers()}
    changed = []
    try:
        yield
    finally:
        now = dict(model.named_buffers())
        for name, (buffer, version, values) in before.items():
            # An old torch counts a version where InstanceNorm in eval mode only reads its buffers.
            if now.get(name) is not buffer or (buffer._version != version and not torch.equal(buffer, values)):
                buffer.copy_(values)
                path, _, attribute = name.rpartition(".")
                setattr(model.get_submodule(path), attribute, buffer)
                changed.append(name)
    if changed:
        raise ValueError(f"model changes its buffer {changed[0]!r} when it is called, {UNDEFINED}: call model.eval() first")


@contextlib.contextmanager
def gradients_possible() -> Iterator[None]:
    """Within the block torch can take gradients, and keeps none of the result if inference mode was on.

    Autocast rounds the weights anew for every call: those that it keeps from a call without gradients give none (torch
    2.6), and those from before the parameters changed are wrong.

    Yields:
        Nothing.
    """
    cached = torch.is_autocast_cache_enabled()
    with contextlib.ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        stack.callback(torch.set_autocast_cache_enabled, cached)
        torch.set_autocast_cache_enabled(False)
        yield


@contextlib.contextmanager
def attributes_kept(model: torch.nn.Module) -> Iterator[None]:
    """Put back, at the end of the block, the attributes that modules set when they are called.

    Recurrent layers keep a list of their weights there, pruned ones the weight itself, some models their activations: under
    ``torch.vmap`` and under ``torch.no_grad`` all tensors that are of no use later.

    Yields:
        Nothing.
    """
    before = [(vars(module), dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for now, then in before:
            now.clear()
            now.update(then)


@contextlib.contextmanager
def twice_differentiable(model: torch.nn.Module) -> Iterator[None]:
    """Within the block layers run in ways that torch can differentiate twice, as the gradient of reg needs.

    Fused attention and the recurrent layers of cuDNN can be differentiated only once.

    Yields:
        Nothing.
    """
    recurrent = any(isinstance(module, torch.nn.RNNBase) for module in model.modules())
    with contextlib.ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


def set_parameters(model: torch.nn.Module, theta: torch.Tensor) -> None:
    """Write a flat vector into the trainable parameters, in the order of ``parameters_to_vector``.

    The memory, type and device of the parameters stay as they are.

    Raises:
        ValueError: if the model has another number of trainable parameters.
    """
    parameters = trainable(model).values()
    sizes = [p.numel() for p in parameters]
    if theta.shape != (sum(sizes),):
        raise ValueError(f"theta has shape {tuple(theta.shape)}, while the model has {sum(sizes)} trainable parameters")
    with torch.no_grad():
        for p, part in zip(parameters, theta.split(sizes), strict=True):
            p.copy_(part.view_as(p))


def is_as_built(model: torch.nn.Module) -> bool:
    """Whether it is one of the book's models as its ``config`` builds it.

    One whose parameters were tied, added, replaced or moved to another device is not, nor one with hooks or with a
    ``forward`` of its own.

    Returns:
        True if its compiled step does what autograd on the model does.
    """
    if "compiled_sgd" not in vars(type(model)):
        return False

    def layout(model: torch.nn.Module) -> list[tuple]:
        return [(name, p.shape, p.dtype, p.device) for name, p in model.named_parameters()]

    def is_plain(module: torch.nn.Module) -> bool:
        hooks = (attribute for name, attribute in vars(module).items() if name.endswith("_hooks"))
        return "forward" not in vars(module) and not any(hooks)

    if not all(map(is_plain, model.modules())) or any(p._backward_hooks for p in model.parameters()):
        return False
    dtype = next(model.parameters()).dtype
    return layout(model) == layout(type(model)(**model.config, dtype=dtype))


@contextlib.contextmanager
def parameters_kept(model: torch.nn.Module) -> Iterator[None]:
    """Put the trainable parameters back at the end of the block.

    Yields:
        Nothing.
    """
    theta = torch.nn.utils.parameters_to_vector(trainable(model).values()).detach().clone()
    try:
        yield
    finally:
        set_parameters(model, theta)
