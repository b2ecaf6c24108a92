"""The implicit regularizer reg(theta) = (1/n) sum_i ||grad_theta h(x_i, theta)||^2 of any ``nn.Module``."""

import contextlib
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch.func import functional_call, vmap

from .arguments import as_integer

Method = Literal["auto", "vmap", "loop"]

NUMBERS_PER_CHUNK = 2**19


def implicit_regularizer(
    model: torch.nn.Module, x: torch.Tensor, *, method: Method = "auto", chunk_size: int | None = None
) -> torch.Tensor:
    r"""The implicit regularizer, ``reg(theta) = (1/n) sum_i ||grad_theta h(x_i, theta)||^2``.

    For several outputs the squared norms are summed over them. Only parameters with ``requires_grad`` count. The result is
    differentiable: ``implicit_regularizer(model, x).backward()`` gives grad reg.

    Args:
        model: the hypothesis h. It takes x with the examples along dimension 0, and treats them one by one.
        x: (n, ...), the inputs.
        method: ``"vmap"`` computes per-example gradients with ``torch.vmap``, chunk by chunk; ``"loop"`` with one backward
            pass per example and output; ``"auto"`` is vmap, or the loop where it has no rule for an operation.
        chunk_size: examples per chunk, by default so many that the per-example gradients of a chunk hold ``2^21`` numbers.

    Returns:
        Scalar tensor, in squared units of h over squared units of theta.

    Raises:
        TypeError: if model is no module, x no tensor or chunk_size no integer.
        ValueError: if x is empty or not what the model takes, the method is unknown, chunk_size is below 1, no parameter is
            trainable, or h(x_i) depends on more than x_i and theta, as with BatchNorm or Dropout in training mode.

    Source: equations (1) and (3).

    >>> from labelnoise_utils import Product
    >>> implicit_regularizer(Product(u=3.0, v=4.0), torch.zeros(1)).item()
    25.0
    """
    return per_example_sq_norms(model, x, method=method, chunk_size=chunk_size).mean()


def per_example_sq_norms(
    model: torch.nn.Module, x: torch.Tensor, *, method: Method = "auto", chunk_size: int | None = None
) -> torch.Tensor:
    """The terms of reg: ``||grad_theta h(x_i, theta)||^2`` for each example.

    Args:
        model: as in :func:`implicit_regularizer`.
        x: as there.
        method: as there.
        chunk_size: as there.

    Returns:
        (n,), differentiable.

    Raises:
        TypeError: as there.
        ValueError: as there.
        RuntimeError: from torch, if the method is "vmap" and torch.func has no rule for an operation.

    Source: equations (1) and (3).
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if chunk_size is not None:
        chunk_size = as_integer("chunk_size", chunk_size, 1)
    parameters = trainable(model)
    check_per_example(model, x)
    if method == "loop":
        return _loop(model, parameters, x)
    count = sum(p.numel() for p in parameters.values())
    chunk_size = chunk_size or max(1, NUMBERS_PER_CHUNK // count)
    try:
        return torch.cat([_vmap(model, parameters, chunk) for chunk in x.split(chunk_size)])
    except RuntimeError:
        if method == "vmap":
            raise
        return _loop(model, parameters, x)


def _vmap(model: torch.nn.Module, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        copies = {name: p.expand(len(x), *p.shape) for name, p in parameters.items()}
    return h_and_sq_norms(model, copies, x)[1]


def h_and_sq_norms(
    model: torch.nn.Module, copies: dict[str, torch.Tensor], x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """H and ||grad_theta h||^2 for every row of x, each row with a copy of the parameters of its own.

    Row j of h reads copy j alone, so one backward pass from the sum over the rows gives all their
    gradients. (The obvious ``vmap`` of ``vjp`` gives the same norms. But its rule for LayerNorm takes
    the mean and the variance of x for constants, so their gradient would be wrong without a word.)

    Args:
        model: as in :func:`implicit_regularizer`.
        copies: for each parameter a tensor (m, ...) that requires a gradient.
        x: (m, ...).

    Returns:
        h (m, outputs), and the squared norms (m,), differentiable where gradients are enabled.
    """

    def h_of_one(parameters: dict[str, torch.Tensor], x_i: torch.Tensor) -> torch.Tensor:
        # Ties are in _places: functional_call's own would leave a model that holds a module twice
        # with the copies for its parameters (pytorch issue 164759).
        return functional_call(model, parameters, (x_i[None],), tie_weights=False)[0].reshape(-1)

    with torch.enable_grad():
        h = vmap(h_of_one)({place: copies[name] for place, name in _places(model).items()}, x)
        sums = h.sum(dim=0)
    gradients = _gradients(sums, list(copies.values()))
    norms = sum((g.reshape(len(x), -1).square().sum(dim=1) for g in gradients), h.new_zeros(len(x)))
    return h, norms


def _places(model: torch.nn.Module) -> dict[str, str]:
    """Every place in the model that holds a trainable parameter, and the parameter's name: one name if tied."""
    names = {p: name for name, p in trainable(model).items()}
    return {
        f"{path}.{attribute}".lstrip("."): names[p]
        for path, module in model.named_modules()
        for attribute, p in module.named_parameters(recurse=False, remove_duplicate=False)
        if p in names
    }


def _loop(model: torch.nn.Module, parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    norms = []
    for x_i in x:
        with torch.enable_grad():
            h = model(x_i[None])[0].reshape(-1)
        gradients = _gradients(h, list(parameters.values()))
        norms.append(sum((g.square().sum() for g in gradients), h.new_zeros(())))
    return torch.stack(norms)


def _gradients(h: torch.Tensor, inputs: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Of each entry of h by each input; none where h depends on no input."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        outputs = h.unbind() if h.requires_grad else ()
    for output in outputs:
        yield from torch.autograd.grad(output, inputs, create_graph=differentiable, retain_graph=True, materialize_grads=True)


def trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters with ``requires_grad``, by name, each tensor once, in the order of ``parameters_to_vector``.

    Returns:
        The parameters themselves, not copies.

    Raises:
        TypeError: if model is no module.
        ValueError: if there is none.
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("model has no trainable parameter: all have requires_grad=False, or there are none")
    return parameters


def check_per_example(model: torch.nn.Module, x: torch.Tensor) -> None:
    """Refuse a model whose output for one example is not a function of that example and of theta.

    Raises:
        TypeError: if x is no tensor.
        ValueError: if x is empty or not what the model takes, the output has no dimension for the examples, or the model
            has BatchNorm or Dropout in training mode, or draws random numbers elsewhere.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    if x.dim() == 0 or x.shape[0] == 0:
        raise ValueError(f"x must hold at least one example along dimension 0, got shape {tuple(x.shape)}")
    undefined = "where the gradient of one example is not defined"
    batch_norm = torch.nn.modules.batchnorm._BatchNorm
    chance = torch.nn.modules.dropout._DropoutNd | torch.nn.RReLU
    for name, module in model.named_modules():
        what = f"{type(module).__name__} {name or 'model'!r}"
        if module.training and isinstance(module, batch_norm | chance):
            raise ValueError(f"{what} is in training mode, {undefined}: call model.eval() first")
        if isinstance(module, batch_norm) and module.running_mean is None:
            raise ValueError(f"{what} keeps no running statistics and reads the batch, {undefined}")
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        state = torch.cuda.get_rng_state if x.is_cuda else torch.get_rng_state
        before = state()
        try:
            h = model(x[:1])
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"x of shape {tuple(x.shape)} and {x.dtype} is not what model takes: {error}") from error
        if not torch.equal(state(), before):
            raise ValueError(f"model draws random numbers, {undefined}: call model.eval() first")
    if h.dim() == 0 or h.shape[0] != 1:
        raise ValueError(f"model must keep the examples along dimension 0, but h has shape {tuple(h.shape)} for one example")


def loss_and_reg(
    model: torch.nn.Module, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error and reg at many parameter vectors at once.

    Args:
        model: the hypothesis; its own parameters stay as they are.
        theta: (k, p), trainable parameters, flattened in the order of ``parameters_to_vector``.
        x: (n, ...).
        y: (n, ...), of the shape of ``model(x)``.

    Returns:
        loss (k,), the mean over examples of the squared error (summed over outputs), and reg (k,).

    Source: equation (4), divided by n, and equation (3).
    """
    parameters = trainable(model)
    sizes = [p.numel() for p in parameters.values()]
    pairs = max(1, NUMBERS_PER_CHUNK // theta.shape[1])
    examples = min(len(x), pairs)
    loss, reg = theta.new_zeros(2, len(theta))
    try:
        for rows in torch.arange(len(theta)).split(max(1, pairs // examples)):
            parts = theta[rows].split(sizes, dim=1)
            for x_part, y_part in zip(x.split(examples), y.split(examples), strict=True):
                # Every theta of these rows with every example of this part.
                n = len(x_part)
                copies = {
                    name: part.view(-1, *p.shape).repeat_interleave(n, dim=0).requires_grad_()
                    for part, (name, p) in zip(parts, parameters.items(), strict=True)
                }
                with torch.no_grad():
                    h, norms = h_and_sq_norms(model, copies, torch.cat([x_part] * len(rows)))
                    errors = h.view(len(rows), -1) - y_part.reshape(-1)
                    loss[rows] += errors.square().sum(dim=1)
                    reg[rows] += norms.view(len(rows), -1).sum(dim=1)
        return loss / len(x), reg / len(x)
    except RuntimeError:
        with parameters_kept(model):
            for k, theta_k in enumerate(theta):
                set_parameters(model, theta_k)
                with torch.no_grad():
                    loss[k] = (model(x) - y).square().sum() / len(x)
                    reg[k] = implicit_regularizer(model, x)
        return loss, reg


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
