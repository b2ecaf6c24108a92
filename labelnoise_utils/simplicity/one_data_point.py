"""Closed forms for two-layer tanh and logistic networks on one data point: equations (20) to (23), and R_o.

A unit has the value ``h = s(w . x)`` and the output ``o = c h``; the network's output is the sum of the o. For given outputs
reg has no slope where each h is what (21) or (23) says, and is then the sum of ``R_o(o)``, its least value. All functions here
take o as a number, an array or a tensor, are differentiable, and depend on x through its length, ``norm``.
"""

import numpy as np
import torch

from ..arguments import as_positive
from ..models import TwoLayerSigmoidal
from ..models.two_layer_sigmoidal import Sigmoid, check_activation

Outputs = float | np.ndarray | torch.Tensor


def unit(o: Outputs, activation: Sigmoid, *, norm: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Output weight c and value h of a unit with output o at a non-repellent point.

    With ``z = norm o``: ``h = z^2 / (1 + z^2)`` for the logistic, ``h = (z^2 / (1 + z^2))^(1/4)`` for tanh, and ``c = o / h``.
    For tanh ``(-c, -h)`` is the same unit.

    Args:
        o: the unit's output; not 0 for the logistic.
        activation: of the unit.
        norm: length of the data point, > 0.

    Returns:
        c and h, float64 tensors of o's shape.

    Raises:
        TypeError: if ``norm`` is no number.
        ValueError: if it is not positive, the activation is unknown, or an o is 0 for the logistic, whose h is never 0.

    Source: equations (21) and (23).

    >>> unit(1.0, "logistic")
    (tensor(2., dtype=torch.float64), tensor(0.5000, dtype=torch.float64))
    """
    z, norm = _scaled(o, activation, norm)
    if activation == "logistic":
        if (z == 0).any():
            raise ValueError("o must not be 0 for the logistic, whose units are never silent")
        return (1 + z**2) / (norm * z), z**2 / (1 + z**2)
    # o / h, written so that 0 / 0 does not occur.
    return z.sign() * z.abs().sqrt() * (1 + z**2) ** 0.25 / norm, (z**2 / (1 + z**2)) ** 0.25


def reg(o: Outputs, activation: Sigmoid, *, norm: float = 1.0) -> torch.Tensor:
    """A unit's share of reg at a non-repellent point, ``R_o``.

    ``z^2 / (1 + z^2)`` for the logistic, ``2 (sqrt(z^2 (z^2 + 1)) - z^2)`` for tanh, with ``z = norm o``.

    Args:
        o: the unit's output.
        activation: of the unit.
        norm: length of the data point, > 0.

    Returns:
        A float64 tensor of o's shape, between 0 and 1.

    Raises:
        TypeError: if ``norm`` is no number.
        ValueError: if it is not positive, or the activation is unknown.

    Source: Appendix C, Figures 6 and 7.

    >>> reg(1.0, "logistic")
    tensor(0.5000, dtype=torch.float64)
    """
    z, _ = _scaled(o, activation, norm)
    if activation == "logistic":
        return z**2 / (1 + z**2)
    # The same as above, without the difference of two large numbers.
    return 2 * z.abs() / ((z**2 + 1).sqrt() + z.abs())


def slope(o: Outputs, activation: Sigmoid, *, norm: float = 1.0) -> torch.Tensor:
    """The derivative of :func:`reg` in o; for tanh not defined at 0, where this function returns 0.

    ``norm 2 z / (1 + z^2)^2`` for the logistic, ``norm 4 z (z^2 + 1/2 - sqrt(z^4 + z^2)) / sqrt(z^4 + z^2)`` for tanh, twice
    what the paper has. For tanh it jumps from ``-2 norm`` to ``2 norm`` at 0.

    Args:
        o: the unit's output.
        activation: of the unit.
        norm: length of the data point, > 0.

    Returns:
        A float64 tensor of o's shape.

    Raises:
        TypeError: if ``norm`` is no number.
        ValueError: if it is not positive, or the activation is unknown.

    Source: Appendix C, Figures 6 and 7; the factor 2 for tanh is ours.

    >>> slope(1.0, "logistic")
    tensor(0.5000, dtype=torch.float64)
    """
    z, norm = _scaled(o, activation, norm)
    if activation == "logistic":
        return norm * 2 * z / (1 + z**2) ** 2
    root = (z**2 + 1).sqrt()
    return norm * 2 * z.sign() / ((root + z.abs()) ** 2 * root)


def curvature(o: Outputs, activation: Sigmoid, *, norm: float = 1.0) -> torch.Tensor:
    """The second derivative of :func:`reg` in o; for tanh that of one side at 0.

    ``norm^2 (2 - 6 z^2) / (1 + z^2)^3`` for the logistic: positive below ``o = 1 / (sqrt(3) norm)``, negative above.
    ``norm^2 (4 |z| (z^2 + 3/2) / (z^2 + 1)^(3/2) - 4)`` for tanh, twice what the paper has: negative everywhere.

    Args:
        o: the unit's output.
        activation: of the unit.
        norm: length of the data point, > 0.

    Returns:
        A float64 tensor of o's shape.

    Raises:
        TypeError: if ``norm`` is no number.
        ValueError: if it is not positive, or the activation is unknown.

    Source: Appendix C.2 for tanh, whose factor 2 is ours; the logistic's is ours.

    >>> curvature(1.0, "logistic")
    tensor(-0.5000, dtype=torch.float64)
    """
    z, norm = _scaled(o, activation, norm)
    if activation == "logistic":
        return norm**2 * (2 - 6 * z**2) / (1 + z**2) ** 3
    return norm**2 * (4 * z.abs() * (z**2 + 1.5) / (z**2 + 1) ** 1.5 - 4)


def network(o: Outputs, x: torch.Tensor, activation: Sigmoid) -> TwoLayerSigmoidal:
    """The network whose units have these outputs on x, and the values that :func:`unit` gives for them.

    Args:
        o: (m,), the units' outputs; their sum is the network's.
        x: (d,) or (1, d), the data point, not 0.
        activation: of the units.

    Returns:
        A new model; its weights w are multiples of x.

    Raises:
        ValueError: if a shape is another, x is 0, or as in :func:`unit`.

    Source: Appendix C.

    >>> model = network([0.5, 2.0], torch.tensor([[3.0, 4.0]]), "tanh")
    >>> round(model(torch.tensor([[3.0, 4.0]], dtype=torch.float64)).item(), 12)
    2.5
    """
    o, x = torch.as_tensor(o, dtype=torch.float64), torch.as_tensor(x, dtype=torch.float64)
    if o.dim() != 1 or not len(o):
        raise ValueError(f"o must have shape (m,), got {tuple(o.shape)}")
    if x.dim() not in (1, 2) or x[None].flatten(0, -2).shape[0] != 1:
        raise ValueError(f"x must be one data point of shape (d,) or (1, d), got {tuple(x.shape)}")
    x = x.flatten()
    c, h = unit(o, activation, norm=x.norm().item())
    z = torch.atanh(h) if activation == "tanh" else torch.logit(h)
    model = TwoLayerSigmoidal(len(o), len(x), activation)
    with torch.no_grad():
        model.w.copy_(torch.outer(z, x) / x.square().sum())
        model.c.copy_(c)
    return model


def _scaled(o: Outputs, activation: Sigmoid, norm: float) -> tuple[torch.Tensor, float]:
    check_activation(activation)
    norm = as_positive("norm", norm)
    return norm * torch.as_tensor(o, dtype=torch.float64), norm
