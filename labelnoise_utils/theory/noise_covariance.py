"""How the noise of all labels together is felt by a step of SGD: the covariance S, from the law of the noise and the batch."""

import numpy as np
import torch
from torch.utils.data import DataLoader, SequentialSampler

from ..arguments import as_integer
from ..sgd.noise import LabelNoise


def noise_covariance(noise: LabelNoise, n: int, outputs: int, batch_size: int | None) -> torch.Tensor:
    r"""The covariance S of the label noise, as a step of SGD feels it.

    A step moves theta by ``2 lr`` times the force ``(1/B) sum_i Z_i grad h_i``, summed over its batch. With J the Jacobian
    (n k, p), the covariance of the force is ``(1/n) J^T S J``, where

    ==================================  =======================================================
    noise                               S
    ==================================  =======================================================
    of each example by itself           ``V / B``
    one vector of covariance C a step   ``blocks(C) / B + (1 - 1/B) C / n``
    either, on the full batch           ``V / n``, ``C / n``
    ==================================  =======================================================

    V is diagonal where ``noise.std`` is given, and has the same block (k, k) for each example where ``noise.covariance`` is
    across outputs: (1, 1) is one variance for all labels, also for labels (n,), where :func:`train` asks for (n, n). C is a
    covariance across examples, of which ``blocks(C)`` keeps the blocks (k, k) of one example with itself: a batch reads the
    labels of its B examples, drawn independently, from the same vector Z, and two places of the batch are two examples i and
    j with probability 1/n^2 each, and give ``C_ij``.

    Args:
        noise: the law.
        n: number of examples.
        outputs: k, numbers in a label.
        batch_size: examples per step, B; None is the full batch, each example once.

    Returns:
        (n k, n k), float64, in squared units of the label; the outputs of an example one after the other.

    Raises:
        TypeError: if noise is no :class:`LabelNoise`, or the batch size no integer.
        ValueError: if the noise has another shape than the labels, or the batch size is below 1.

    Source: ours; equation (5) with B examples a step.
    """
    check_noise(noise)
    if batch_size is not None:
        batch_size = as_integer("batch_size", batch_size, 1)
    given, rows = noise.covariance, n * outputs
    if given is None:
        whole, one_vector = np.diag(variances(noise.std, n, outputs).reshape(rows)), False
    else:
        whole, one_vector = _whole(given, n, outputs)
    whole = torch.tensor(whole)
    if batch_size is None:
        return whole / n
    if not one_vector:
        return whole / batch_size
    blocks = whole * torch.block_diag(*[torch.ones(outputs, outputs, dtype=whole.dtype)] * n)
    return blocks / batch_size + (1 - 1 / batch_size) * whole / n


def check_noise(noise: object) -> None:
    """Refuse what is no label noise.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(noise, LabelNoise):
        raise TypeError(f"noise must be a LabelNoise, got {noise!r}; a standard deviation s is written LabelNoise(s)")


def check_in_order(x: object) -> None:
    """Refuse a loader that shuffles, of which nobody knows which example a number of the noise is for.

    Raises:
        ValueError: if x is one.
    """
    if not isinstance(x, DataLoader):
        return
    sampler = x.sampler if x.batch_sampler is None else getattr(x.batch_sampler, "sampler", None)
    if not isinstance(sampler, SequentialSampler):
        raise ValueError(
            "x must give its examples in the same order each time, as the noise does: a DataLoader without shuffle"
        )


def equal_std(noise: LabelNoise) -> float | None:
    """The one standard deviation of all labels, or None where they may differ or depend on each other."""
    if noise.covariance is None and np.ndim(noise.std) == 0:
        return float(noise.std)
    return None


def variances(std: float | np.ndarray, n: int, outputs: int) -> np.ndarray:
    """Of every label, (n, outputs), from one standard deviation, or one for each.

    Returns:
        float64.

    Raises:
        ValueError: if there are as many for other labels.
    """
    std = np.asarray(std, dtype=np.float64)
    if std.shape in ((), (n,)):
        return np.broadcast_to(std.reshape(-1, 1), (n, outputs)) ** 2
    if len(std) != n or std.size != n * outputs:
        raise ValueError(
            f"noise.std must be a number or have shape ({n},) or ({n}, {outputs}) for {n} labels of {outputs} numbers, got"
            f" shape {std.shape}"
        )
    return std.reshape(n, outputs) ** 2


def _whole(given: np.ndarray, n: int, outputs: int) -> tuple[np.ndarray, bool]:
    """The covariance of all labels together, (n k, n k), and whether a step draws them as one vector."""
    given = np.asarray(given, dtype=np.float64)
    if given.shape == (n, outputs, n, outputs):
        return given.reshape(n * outputs, -1), True
    if outputs == 1 and given.shape == (n, n):
        return given, True
    if given.shape == (outputs, outputs):
        return np.kron(np.eye(n), given), False
    allowed = f"({n}, {n})" if outputs == 1 else f"({outputs}, {outputs})"
    raise ValueError(
        f"noise.covariance must have shape {allowed} or ({n}, {outputs}, {n}, {outputs}) for {n} labels of {outputs} numbers,"
        f" got shape {given.shape}"
    )
