"""What is random in label-noise SGD: the label noise, and which example each step draws."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np
import torch

from ..arguments import as_integer, as_nonnegative

Kind = Literal["rademacher", "uniform", "gaussian"]

# The first step of a chunk of draws, and the state of each stream before it.
Position = dict[str, int | dict]

DRAWS_PER_CHUNK = 2**16


@dataclasses.dataclass(frozen=True)
class LabelNoise:
    r"""Zero-mean label noise Z, drawn afresh for every label that SGD reads.

    =============  =========================================  ===================
    kind           law of Z                                   bounded
    =============  =========================================  ===================
    "rademacher"   +std or -std with probability 1/2 each     by std
    "uniform"      uniform on [-sqrt(3) std, sqrt(3) std]     by sqrt(3) std
    "gaussian"     normal with mean 0                         no
    =============  =========================================  ===================

    Theorem 1 asks for bounded noise; the Gaussian is the one of Figure 1.

    Args:
        std: standard deviation of Z, in units of the label, >= 0. Written sigma in formulas.
        kind: one of the laws above.

    Raises:
        TypeError: if ``std`` is no number.
        ValueError: if it is negative or not finite, or ``kind`` is unknown.

    Source: section 1 (the label of a step is y + Z) and section 2 (bounded, unit variance).

    >>> LabelNoise(0.5).draw(np.random.default_rng(0), (2, 3))
    array([[-0.5,  0.5, -0.5],
           [ 0.5,  0.5,  0.5]])
    """

    std: float
    kind: Kind = "rademacher"

    def __post_init__(self) -> None:
        as_nonnegative("std", self.std)
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")

    def __call__(self, y: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Labels with fresh noise, for a training loop of one's own: ``loss(model(x), noise(y))``.

        Args:
            y: the labels, of any shape, in floating point; each number gets its own Z.
            generator: where the randomness comes from, on y's device; None is torch's global generator.

        Returns:
            ``y + Z``, of y's shape, type and device.

        Raises:
            TypeError: if y is no tensor of floating-point numbers.

        >>> LabelNoise(0.5)(torch.zeros(4)).abs()
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
        """
        if not isinstance(y, torch.Tensor) or not y.is_floating_point():
            what = y.dtype if isinstance(y, torch.Tensor) else type(y).__name__
            raise TypeError(f"y must be a tensor of floating-point labels, got {what}; classes are flipped by LabelFlip")
        if self.kind == "gaussian":
            z = torch.empty_like(y).normal_(generator=generator)
        elif self.kind == "uniform":
            z = torch.empty_like(y).uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)
        else:
            z = torch.empty_like(y).bernoulli_(0.5, generator=generator) * 2 - 1
        return y + self.std * z

    def draw(self, rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        """Independent draws of Z.

        Args:
            rng: where the randomness comes from.
            size: shape of the result.

        Returns:
            float64 array of shape ``size``, in units of the label.
        """
        if self.kind == "gaussian":
            return rng.normal(0.0, self.std, size)
        if self.kind == "uniform":
            half_width = math.sqrt(3) * self.std
            return rng.uniform(-half_width, half_width, size)
        count = math.prod(size)
        octets = np.frombuffer(rng.bytes(-(-count // 8)), np.uint8)
        # Eight draws from each octet, by a table: a fifth of the time of taking bit by bit.
        table = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)), float(self.std), -float(self.std)).reshape(256, 8)
        return table[octets].reshape(-1)[:count].reshape(size)


@dataclasses.dataclass(frozen=True)
class LabelFlip:
    """Label noise for classification: with probability p a label becomes another class, each of the others equally often.

    Under cross-entropy it takes the place of :class:`LabelNoise`.

    Args:
        p: probability that a label changes, in [0, 1].
        classes: how many classes there are, at least 2.

    Raises:
        TypeError: if ``p`` is no number or ``classes`` no integer.
        ValueError: if ``p`` is outside [0, 1], or ``classes`` below 2.

    Source: Damian, Ma and Lee (2021), section on label flipping.

    >>> LabelFlip(1.0, 2)(torch.tensor([0, 1, 1]))
    tensor([1, 0, 0])
    """

    p: float
    classes: int

    def __post_init__(self) -> None:
        if as_nonnegative("p", self.p) > 1:
            raise ValueError(f"p must be at most 1, got {self.p:g}")
        as_integer("classes", self.classes, 2)

    def __call__(self, y: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Labels of which each may have changed.

        Args:
            y: classes 0 to ``classes - 1``, integers of any shape.
            generator: where the randomness comes from, on y's device; None is torch's global generator.

        Returns:
            A new tensor of y's shape, type and device.

        Raises:
            TypeError: if y is no tensor of integers.
            ValueError: if a label is none of the classes, or y's type cannot hold all of them.
        """
        if not isinstance(y, torch.Tensor) or y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            what = y.dtype if isinstance(y, torch.Tensor) else type(y).__name__
            raise TypeError(f"y must be a tensor of integer classes, got {what}; real labels get LabelNoise")
        if torch.iinfo(y.dtype).max < self.classes - 1:
            raise ValueError(f"y is {y.dtype}, which cannot hold classes 0 to {self.classes - 1}")
        if y.numel():
            least, largest = (label.item() for label in y.aminmax())
            if not 0 <= least <= largest < self.classes:
                raise ValueError(f"y must hold classes 0 to {self.classes - 1}, got {least} to {largest}")
        if not self.p:
            return y.clone()
        # How far the label moves on: uniform, and all below 1 is not at all. Few calls, since they cost a training loop time.
        others = self.classes - 1
        shift = torch.empty(y.shape, device=y.device, dtype=torch.float64)
        shift.uniform_(1 - others * (1 - self.p) / self.p, 1 + others, generator=generator)
        return shift.clamp_(min=0).long().add_(y).remainder_(self.classes).to(y.dtype)


def sgd_draws(
    n: int,
    steps: int,
    *,
    noise: LabelNoise | None = None,
    batch_size: int | None = 1,
    seed: int = 0,
    outputs: tuple[int, ...] = (),
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All the randomness of a run, in chunks: which examples each step reads, and the noise on their labels.

    Indices are uniform on ``{0, ..., n - 1}`` with replacement. They and the noise come from two separate streams, so runs
    with the same seed read the same examples whatever the noise; and a run of 1000 steps is the beginning of one of 2000.

    Args:
        n: number of examples.
        steps: number of SGD steps.
        noise: law of the label noise; None means none.
        batch_size: examples per step, B; None means all n of them, in order.
        seed: of both streams.
        outputs: shape of one label, () for a scalar.

    Yields:
        ``indices`` (S, B) int32 and ``noise`` ``(S, B, *outputs)`` float64 for S consecutive steps.

    Source: section 3.1, equation (5): a randomly chosen example i at each step.
    """
    for _, indices, z in draws_from(None, n, steps, noise=noise, batch_size=batch_size, seed=seed, outputs=outputs):
        yield indices, z


def draws_from(
    position: Position | None,
    n: int,
    steps: int,
    *,
    noise: LabelNoise | None,
    batch_size: int | None,
    seed: int,
    outputs: tuple[int, ...],
) -> Iterator[tuple[Position, np.ndarray, np.ndarray]]:
    """The draws of :func:`sgd_draws`, from one of their chunks on.

    Args:
        position: of that chunk, as an earlier call gave it for the same arguments; None is the first.
        n: as there, and so are the others.
        steps: the same.
        noise: the same.
        batch_size: the same.
        seed: the same.
        outputs: the same.

    Yields:
        For each chunk its position, which json can write, the indices and the noise.
    """
    index_stream, noise_stream = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    width = n if batch_size is None else batch_size
    # A multiple of 32 bits, so that Rademacher draws of consecutive chunks join without a gap.
    chunk = max(32, min(-(-steps // 32), DRAWS_PER_CHUNK // (width * math.prod(outputs)) // 32) * 32)
    silence = np.zeros((chunk, width, *outputs))
    everything = np.tile(np.arange(n, dtype=np.int32), (chunk, 1)) if batch_size is None else None
    streams = {"indices": index_stream.bit_generator, "noise": noise_stream.bit_generator}
    if position is not None:
        for name, stream in streams.items():
            stream.state = position[name]
    for start in range(position["step"] if position else 0, steps, chunk):
        here = {"step": start} | {name: stream.state for name, stream in streams.items()}
        indices = index_stream.integers(n, size=(chunk, width), dtype=np.int32) if everything is None else everything
        z = silence if noise is None else noise.draw(noise_stream, silence.shape)
        yield here, indices[: steps - start], z[: steps - start]
