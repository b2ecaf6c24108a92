"""Other noises beside fresh label noise: which of them have its effect is the question that section 1.2 asks."""

import dataclasses
import math

import numpy as np
import torch

from .law import Kind, Law, as_one_std, as_std, check_kind, draw, for_each_label


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TwoCopies(Law):
    r"""Every example twice, with the labels ``y + std`` and ``y - std``: plain SGD on 2n labels that contradict each other.

    Drawn with replacement this is :class:`LabelNoise` of the kind "rademacher": the same in law, and for scalar labels the
    same to the last bit. In reshuffled epochs each of the 2n labelled examples is read once before any is read again, in an
    order that is new in each epoch; then the two labels of an example cancel within an epoch, and the cloud is smaller.

    Args:
        std: half the distance of the two labels, >= 0; a number, or one for each example, (n,), or for each output,
            ``(n, outputs)``. The outputs of an example are all above or all below.
        reshuffled: whether the examples come in epochs. Batches are cut from the epochs one after the other, and may reach
            from one into the next; ``batch_size=None`` is refused.

    Raises:
        TypeError: if ``std`` is no number, tensor or array, or ``reshuffled`` no boolean.
        ValueError: if a number is negative or not finite.

    Source: section 1.2, "each original datapoint (x, y) has two copies"; the epochs are ours.

    >>> TwoCopies(0.5, reshuffled=True)
    TwoCopies(std=0.5, reshuffled=True)
    """

    std: float | np.ndarray
    reshuffled: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", as_std(self.std))
        if not isinstance(self.reshuffled, bool):
            raise TypeError(f"reshuffled must be True or False, got {self.reshuffled!r}")

    @property
    def is_of_two_copies(self) -> bool:
        """Where they come in epochs; as :attr:`Law.is_of_two_copies`."""
        return self.reshuffled

    def check(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Refuse labels of another shape; as :meth:`Law.check`."""
        for_each_label(self.std, len(y), tuple(y.shape[1:]))

    def check_batch(self, batch_size: int | None) -> None:
        """Refuse the full batch in epochs; as :meth:`Law.check_batch`."""
        if self.reshuffled and batch_size is None:
            raise ValueError("batch_size must be a number under TwoCopies(reshuffled=True): its epochs are cut into batches")

    def unit(self, n: int, width: int) -> int:
        """Whole epochs where there are any; as :meth:`Law.unit`."""
        return 2 * n // math.gcd(2 * n, width) if self.reshuffled else super().unit(n, width)

    def examples(self, stream: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        """By :meth:`Law.examples`, or in epochs."""
        if not self.reshuffled:
            return super().examples(stream, n, size)
        epochs = np.tile(np.arange(2 * n, dtype=np.int32), (math.prod(size) // (2 * n), 1))
        return stream.permuted(epochs, axis=1, out=epochs).reshape(size)

    def draw_for(
        self, begun: object, stream: np.random.Generator, examples: np.ndarray, n: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Plus or minus std; as :meth:`Law.draw_for`."""
        each = for_each_label(self.std, n, shape)
        if self.reshuffled:
            signs = np.where(examples < n, 1.0, -1.0)
        else:
            signs = draw("rademacher", 1.0, stream, examples.shape)
        rows = np.broadcast_to(each, (n, *shape))[examples % n]
        return signs.reshape(*examples.shape, *(1 for _ in shape)) * rows


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FrozenNoise(Law):
    """One Z for each label, drawn once and kept for the whole run: plain SGD on labels that are wrong.

    Args:
        std: standard deviation of Z, >= 0; a number, (n,), or ``(n, outputs)``.
        kind: law of Z, as in :class:`LabelNoise`. It depends on the seed of the run alone.

    Raises:
        TypeError: if ``std`` is no number, tensor or array.
        ValueError: if a number is negative or not finite, or ``kind`` is unknown.

    Source: ours; the residuals last only where the network cannot fit the labels.

    >>> FrozenNoise(0.5)
    FrozenNoise(std=0.5, kind='rademacher')
    """

    std: float | np.ndarray
    kind: Kind = "rademacher"

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", as_std(self.std))
        check_kind(self.kind)

    def check(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Refuse labels of another shape; as :meth:`Law.check`."""
        for_each_label(self.std, len(y), tuple(y.shape[1:]))

    def begin(self, stream: np.random.Generator, n: int, outputs: tuple[int, ...]) -> np.ndarray:
        """Z of all labels; as :meth:`Law.begin`."""
        return draw(self.kind, 1.0, stream, (n, *outputs)) * for_each_label(self.std, n, outputs)

    def draw_for(
        self, begun: np.ndarray, stream: np.random.Generator, examples: np.ndarray, n: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Z of the labels that are read; as :meth:`Law.draw_for`."""
        return begun[examples]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _OfOneStd(Law):
    """A law with a standard deviation, the same for all numbers that it is about."""

    std: float
    kind: Kind = "gaussian"

    def __post_init__(self) -> None:
        object.__setattr__(self, "std", as_one_std(self.std))
        check_kind(self.kind)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ParameterNoise(_OfOneStd):
    r"""Noise on the parameters where a step takes its gradient: ``theta <- theta - lr grad f(theta + std xi)``.

    f is the squared error of the example (the mean over the batch), xi has one fresh number for each trainable parameter, of
    mean 0 and variance 1, and the step is made from theta. To second order in std the mean of the step is that on
    ``f + std^2 / 2 tr hess f``, and where the error is 0 ``tr hess f = 2 ||grad h||^2``. So ``std^2 = lr sigma^2`` is, in
    place of the cloud that label noise of standard deviation sigma makes, a round cloud of the same size that is put there
    by hand.

    Args:
        std: standard deviation of each number that is added, in units of the parameters, >= 0.
        kind: law of xi, as in :class:`LabelNoise`.

    Raises:
        TypeError: if ``std`` is no number.
        ValueError: if it is negative or not finite, or ``kind`` is unknown.

    Source: section 1.3 names it, "computing gradients based on perturbed parameters"; the comparison is ours.

    >>> ParameterNoise(0.02)
    ParameterNoise(std=0.02, kind='gaussian')
    """

    @property
    def inside(self) -> float:
        """Its std; as :attr:`Law.inside`."""
        return float(self.std)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LangevinNoise(_OfOneStd):
    r"""Noise on the parameters themselves: ``theta <- theta - lr grad f + std xi``, with xi fresh for each step.

    f is the squared error of the example (the mean over the batch), and xi has one number for each trainable parameter, of
    mean 0 and variance 1. It is added after the step, and momentum does not carry it on. Along a direction with gamma > 0 the
    cloud has the variance ``std^2 / (4 lr gamma)``, and along those where the error does not change it grows for ever.

    Args:
        std: standard deviation of each number that is added, in units of the parameters, >= 0.
        kind: law of xi, as in :class:`LabelNoise`.

    Raises:
        TypeError: if ``std`` is no number.
        ValueError: if it is negative or not finite, or ``kind`` is unknown.

    Source: section 1.3 names it, "adding noise to the gradient updates".

    >>> LangevinNoise(0.001)
    LangevinNoise(std=0.001, kind='gaussian')
    """

    @property
    def outside(self) -> float:
        """Its std; as :attr:`Law.outside`."""
        return float(self.std)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class InputNoise(_OfOneStd):
    """Noise on the inputs: each step reads ``x_i + std xi``, with xi fresh for every number of every input in its batch.

    Loss and reg of the run are those at the inputs without noise.

    Args:
        std: standard deviation of what is added, in units of the inputs, >= 0.
        kind: law of xi, as in :class:`LabelNoise`.

    Raises:
        TypeError: if ``std`` is no number.
        ValueError: if it is negative or not finite, or ``kind`` is unknown.

    Source: section 1.3 names it beside label noise.

    >>> InputNoise(0.1)
    InputNoise(std=0.1, kind='gaussian')
    """

    @property
    def on_inputs(self) -> bool:
        """It is; as :attr:`Law.on_inputs`."""
        return True

    def check(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Refuse inputs that are no real numbers; as :meth:`Law.check`."""
        if not x.is_floating_point():
            raise ValueError(f"x must be in floating point under InputNoise, got {x.dtype}")

    def per_step(self, n: int, width: int, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> int:
        """A number for each of the inputs; as :meth:`Law.per_step`."""
        return width * math.prod(inputs)

    def draw_for(
        self, begun: object, stream: np.random.Generator, examples: np.ndarray, n: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """What is added to the inputs; as :meth:`Law.draw_for`."""
        return draw(self.kind, self.std, stream, (*examples.shape, *shape))
