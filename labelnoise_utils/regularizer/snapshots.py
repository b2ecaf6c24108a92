"""Loss and reg at many parameter vectors at once, as the snapshots of a run need them."""

import torch

from .exact import implicit_regularizer
from .ghost import NotCoveredError
from .gradients import NUMBERS_PER_CHUNK, h_and_sq_norms
from .hypothesis import attributes_kept, is_as_built, parameters_kept, set_parameters, trainable


def loss_and_reg(
    model: torch.nn.Module, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error and reg at many parameter vectors at once.

    A class that has a shorter way defines a method ``loss_and_reg(theta, x, y)``, which then answers, if no parameter is
    frozen.

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
    if "loss_and_reg" in vars(type(model)) and is_as_built(model) and all(p.requires_grad for p in model.parameters()):
        with torch.no_grad():
            return model.loss_and_reg(theta, x, y)
    sizes = [p.numel() for p in parameters.values()]
    pairs = max(1, NUMBERS_PER_CHUNK // theta.shape[1])
    examples = min(len(x), pairs)
    loss, reg = theta.new_zeros(2, len(theta))
    with attributes_kept(model):
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
                        reg[rows] += sum(norms.values()).view(len(rows), -1).sum(dim=1)
            return loss / len(x), reg / len(x)
        except (RuntimeError, NotCoveredError):
            with parameters_kept(model):
                for k, theta_k in enumerate(theta):
                    set_parameters(model, theta_k)
                    with torch.no_grad():
                        loss[k] = (model(x) - y).square().sum() / len(x)
                        reg[k] = implicit_regularizer(model, x)
            return loss, reg
