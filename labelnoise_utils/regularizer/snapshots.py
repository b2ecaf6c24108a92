"""Loss and reg at many parameter vectors, as the snapshots of a run need them."""

import functools

import torch

from .exact import implicit_regularizer
from .gradients import NUMBERS_PER_CHUNK, h_and_sq_norms
from .hypothesis import attributes_kept, gradients_possible, is_as_built, parameters_kept, set_parameters, trainable

# Examples times parameters of a theta, above which whole gradients take longer than one theta after the other (measured).
WHOLE_GRADIENTS = 2**18


def loss_and_reg(
    model: torch.nn.Module, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor, *, reg_on: torch.Tensor | bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error and reg at many parameter vectors.

    The model itself is evaluated, with each theta in place of its parameters, and by :func:`implicit_regularizer`; the
    book's models answer for many theta at once: those that have a closed form, and no parameter frozen, by a method
    ``loss_and_reg(theta, x, y)``, small ones else by whole gradients.

    Args:
        model: the hypothesis; its own parameters stay as they are.
        theta: (k, p), trainable parameters, flattened in the order of ``parameters_to_vector``.
        x: (n, ...).
        y: (n, ...), of the shape of ``model(x)``.
        reg_on: the inputs over which reg is the mean, by default x; False leaves reg out.

    Returns:
        loss (k,), the mean over examples of the squared error (summed over outputs), and reg (k,), NaN where it is left out.

    Source: equation (4), divided by n, and equation (3).
    """
    loss, reg = theta.new_full((2, len(theta)), torch.nan)
    probe = x if reg_on is True else reg_on
    if answers_at_once(model, x, reg_on=reg_on):
        at_once = model.loss_and_reg if _has_closed_form(model) else functools.partial(_at_once, model)
        with torch.no_grad():
            loss, of_x = at_once(theta, x, y)
            if probe is not False:
                reg = of_x if probe is x else at_once(theta, probe, model(probe))[1]
        return loss, reg
    with parameters_kept(model):
        for k, theta_k in enumerate(theta):
            set_parameters(model, theta_k)
            loss[k] = mean_squared_error(model, x, y)
            if probe is not False:
                with torch.no_grad():
                    reg[k] = implicit_regularizer(model, probe)
    return loss, reg


def answers_at_once(model: torch.nn.Module, x: torch.Tensor, *, reg_on: torch.Tensor | bool = True) -> bool:
    """Whether :func:`loss_and_reg` takes many theta together; else one after the other, each as if it were alone.

    Args:
        model: the hypothesis.
        x: (n, ...).
        reg_on: as there.

    Returns:
        True where the last digits for a theta may depend on those beside it.
    """
    if not is_as_built(model):
        return False
    most = len(x) if isinstance(reg_on, bool) else max(len(x), len(reg_on))
    return _has_closed_form(model) or most * sum(p.numel() for p in trainable(model).values()) <= WHOLE_GRADIENTS


def _has_closed_form(model: torch.nn.Module) -> bool:
    return "loss_and_reg" in vars(type(model)) and all(p.requires_grad for p in model.parameters())


def mean_squared_error(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The training error, ``(1/n) sum_i |h(x_i) - y_i|^2``.

    Args:
        model: the hypothesis.
        x: (n, ...).
        y: (n, ...), of the shape of ``model(x)``.

    Returns:
        A scalar tensor without a gradient.

    Source: equation (4), divided by n.
    """
    # With gradients enabled, as SGD calls the model: some layers compute something else without.
    with gradients_possible(), attributes_kept(model), torch.enable_grad():
        h = model(x).detach()
    return (h.to(torch.promote_types(h.dtype, y.dtype)) - y).square().sum() / len(x)


def _at_once(
    model: torch.nn.Module, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and reg by ``torch.vmap`` over pairs of a theta and an example."""
    parameters = trainable(model)
    sizes = [p.numel() for p in parameters.values()]
    pairs = max(1, NUMBERS_PER_CHUNK // theta.shape[1])
    examples = min(len(x), pairs)
    loss, reg = theta.new_zeros(2, len(theta))
    for rows in torch.arange(len(theta)).split(max(1, pairs // examples)):
        parts = theta[rows].split(sizes, dim=1)
        for x_part, y_part in zip(x.split(examples), y.split(examples), strict=True):
            # Every theta of these rows with every example of this part.
            n = len(x_part)
            copies = {
                name: part.view(-1, *p.shape).repeat_interleave(n, dim=0).requires_grad_()
                for part, (name, p) in zip(parts, parameters.items(), strict=True)
            }
            h, norms = h_and_sq_norms(model, copies, torch.cat([x_part] * len(rows)))
            errors = h.view(len(rows), -1) - y_part.reshape(-1)
            loss[rows] += errors.square().sum(dim=1)
            reg[rows] += sum(norms.values()).view(len(rows), -1).sum(dim=1)
    return loss / len(x), reg / len(x)
