"""What is random in label-noise SGD: the label noise, and which example each step draws."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import torch

from ..arguments import as_integer
from ..models.compiled import jit
from .law import ADDED, Kind, Law, as_covariance, as_std, check_kind, check_law, draw, for_each_label

# The first step of a chunk of draws, and the state of each stream before it.
Position = dict[str, int | dict]

DRAWS_PER_CHUNK = 2**16


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class LabelNoise(Law):
    r"""Zero-mean label noise Z, drawn afresh for every label that SGD reads.

    =============  =========================================  ===================
    kind           law of Z                                   bounded
    =============  =========================================  ===================
    "rademacher"   +std or -std with probability 1/2 each     by std
    "uniform"      uniform on [-sqrt(3) std, sqrt(3) std]     by sqrt(3) std
    "gaussian"     normal with mean 0                         no
    =============  =========================================  ===================

    Theorem 1 asks for bounded noise; the Gaussian is the one of Figure 1.

    Labels may have noise of their own each, and noise that is correlated: then ``Z = C^(1/2) xi`` with the symmetric root
    of the covariance C and independent numbers xi of the law above, of variance 1. Each step draws Z for all labels of the
    training set and reads those of its batch, so a label that is in a batch twice has the same Z in it both times. Where C is
    across the outputs of an example alone, each example in a batch has a draw of its own.

    Args:
        std: standard deviation of Z, in units of the label, >= 0. Written sigma in formulas. A number for all labels, or a
            tensor or an array with one for each label of the training set: (n,), or ``(n, outputs)``.
        kind: one of the laws above.
        covariance: in place of ``std``, which is None then: (n, n) across the examples, for scalar labels; (k, k) across the k
            outputs, the same for every example; or (n, k, n, k), of each label with each.

    Raises:
        TypeError: if ``std`` is no number, tensor or array, or ``covariance`` no tensor or array.
        ValueError: if a number is negative or not finite, ``kind`` is unknown, ``covariance`` is not symmetric and positive
            semi-definite, or both are given.

    Source: section 1 (the label of a step is y + Z) and section 2 (bounded, unit variance); unequal noise is ours.

    >>> LabelNoise(0.5).draw(np.random.default_rng(0), (2, 3))
    array([[-0.5,  0.5, -0.5],
           [ 0.5,  0.5,  0.5]])
    >>> LabelNoise(torch.tensor([1.0, 0.25, 0.0]))
    LabelNoise(std=<3 numbers from 0 to 1>, kind='rademacher')
    """

    std: float | np.ndarray | None
    kind: Kind = "rademacher"
    covariance: np.ndarray | None = dataclasses.field(default=None, kw_only=True, metadata=ADDED)

    def __post_init__(self) -> None:
        if self.covariance is None:
            object.__setattr__(self, "std", as_std(self.std))
        elif self.std is not None:
            raise ValueError(f"std must be None where a covariance is given, got {self.std!r}")
        else:
            covariance, root = as_covariance(self.covariance)
            object.__setattr__(self, "covariance", covariance)
            object.__setattr__(self, "_root", root)
        check_kind(self.kind)

    def __call__(self, y: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Labels with fresh noise, for a training loop of one's own: ``loss(model(x), noise(y))``.

        Args:
            y: the labels, of any shape, in floating point; each number gets its own Z. Where this law has numbers for each
                label, those of y, all of them.
            generator: where the randomness comes from, on y's device; None is torch's global generator.

        Returns:
            ``y + Z``, of y's shape, type and device.

        Raises:
            TypeError: if y is no tensor of floating-point numbers.
            ValueError: if this law has numbers for labels of another shape.

        >>> LabelNoise(0.5)(torch.zeros(4)).abs()
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
        """
        if not isinstance(y, torch.Tensor) or not y.is_floating_point():
            what = y.dtype if isinstance(y, torch.Tensor) else type(y).__name__
            raise TypeError(f"y must be a tensor of floating-point labels, got {what}; classes are flipped by LabelFlip")
        if not self._is_plain:
            if not y.dim():
                raise ValueError("noise has numbers for many labels, got one label, of shape ()")
            made_ready = torch.from_numpy(self.begin(None, len(y), tuple(y.shape[1:])).copy()).to(y)
        z = torch.empty_like(y)
        if self.kind == "gaussian":
            z.normal_(generator=generator)
        elif self.kind == "uniform":
            z.uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)
        else:
            z.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
        if self._is_plain:
            return y.add(z, alpha=self.std)
        if self.covariance is None:
            return y + made_ready * z
        return y + (z.reshape(-1, len(made_ready)) @ made_ready).view_as(y)

    def draw(self, rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        """Draws of Z, independent but for the covariance.

        Args:
            rng: where the randomness comes from.
            size: shape of the result. Where this law has numbers for each label it ends in ``(n,)``, or ``(n, outputs)``; where
                it has a covariance, in as many numbers as that is of.

        Returns:
            float64 array of shape ``size``, in units of the label.

        Raises:
            ValueError: if ``size`` does not end so.
        """
        if self._is_plain:
            return draw(self.kind, self.std, rng, size)
        per_label = self.std if self.covariance is None else self._root
        shape = self.std.shape if self.covariance is None else self.covariance.shape[: self.covariance.ndim // 2]
        if tuple(size[len(size) - len(shape) :]) != shape:
            raise ValueError(f"size must end in {shape}, the labels that this noise is for, got {tuple(size)}")
        z = draw(self.kind, 1.0, rng, size)
        return z * per_label if self.covariance is None else (z.reshape(-1, len(per_label)) @ per_label).reshape(size)

    @property
    def _is_plain(self) -> bool:
        """Whether all labels have the same law, by themselves."""
        return self.covariance is None and not isinstance(self.std, np.ndarray)

    def _is_in_full(self, n: int, outputs: tuple[int, ...]) -> bool:
        """Whether the covariance is across examples; refuses labels of another shape."""
        k, shape = math.prod(outputs), self.covariance.shape
        if outputs and shape == (k, k):
            return False
        if shape == (n, k, n, k) or (k == 1 and shape == (n, n)):
            return True
        allowed = f"({n}, {n})" if not outputs else f"({k}, {k}) or ({n}, {k}, {n}, {k})"
        raise ValueError(f"noise has a covariance of shape {shape}, for labels of shape {(n, *outputs)} it must have {allowed}")

    def check(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Refuse labels of another shape than the numbers are for; as :meth:`Law.check`."""
        self.begin(None, len(y), tuple(y.shape[1:]))

    def per_step(self, n: int, width: int, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> int:
        """As :meth:`Law.per_step`: for all labels where these are correlated."""
        in_full = self.covariance is not None and self._is_in_full(n, outputs)
        return max(n if in_full else 0, width) * math.prod(outputs)

    def begin(self, stream: np.random.Generator | None, n: int, outputs: tuple[int, ...]) -> np.ndarray | None:
        """What numbers of variance 1 are multiplied with, by entries or as vectors; as :meth:`Law.begin`."""
        if self._is_plain:
            return None
        if self.covariance is None:
            return for_each_label(self.std, n, outputs)
        self._is_in_full(n, outputs)
        return self._root

    def draw_for(
        self, begun: np.ndarray | None, stream: np.random.Generator, examples: np.ndarray, n: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Z for the labels that some steps read; as :meth:`Law.draw_for`."""
        size = (*examples.shape, *shape)
        if begun is None:
            return draw(self.kind, self.std, stream, size)
        if self.covariance is None:
            return draw(self.kind, 1.0, stream, size) * begun[examples]
        whole = self._is_in_full(n, shape)
        xi = draw(self.kind, 1.0, stream, (len(examples), len(begun)) if whole else size)
        z = np.empty((*examples.shape, math.prod(shape)))
        if whole:
            _read(begun, xi, examples, z)
        else:
            _mix(begun, xi.reshape(z.shape), z)
        return z.reshape(size)


@jit
def _read(root, xi, examples, z):
    """Into z (S, B, k): of ``root @ xi`` (S, nk), the rows of the examples (S, B). No BLAS, whose sums depend on S."""
    steps, batch_size, k = z.shape
    for t in range(steps):
        for b in range(batch_size):
            for o in range(k):
                row, total = root[examples[t, b] * k + o], 0.0
                for j in range(row.size):
                    total += row[j] * xi[t, j]
                z[t, b, o] = total


@jit
def _mix(root, xi, z):
    """Into z (S, B, k): ``root @ xi`` for each k numbers."""
    steps, batch_size, k = z.shape
    for t in range(steps):
        for b in range(batch_size):
            for o in range(k):
                total = 0.0
                for j in range(k):
                    total += root[o, j] * xi[t, b, j]
                z[t, b, o] = total


def sgd_draws(
    n: int,
    steps: int,
    *,
    noise: Law | None = None,
    batch_size: int | None = 1,
    seed: int = 0,
    outputs: tuple[int, ...] = (),
    inputs: tuple[int, ...] = (),
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All the randomness of a run, in chunks: which examples each step reads, and the noise on their labels.

    Indices are uniform on ``{0, ..., n - 1}`` with replacement, except for :class:`TwoCopies` in epochs. They and the noise
    come from two separate streams, so runs with the same seed read the same examples whatever the noise; and a run of 1000
    steps is the beginning of one of 2000.

    Args:
        n: number of examples.
        steps: number of SGD steps.
        noise: law of the label noise, or another one that :func:`labelnoise_utils.train` takes; None means none.
        batch_size: examples per step, B; None means all n of them, in order.
        seed: of both streams.
        outputs: shape of one label, () for a scalar.
        inputs: shape of one input, for :class:`InputNoise` alone.

    Returns:
        An iterator over ``indices`` (S, B) int32 and ``noise`` ``(S, B, *outputs)`` float64 for S consecutive steps; under
        :class:`InputNoise` ``(S, B, *inputs)``. :class:`ParameterNoise` and :class:`LangevinNoise` draw where the step is made,
        so here they are silent.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if a number is out of range, noise has numbers for labels of another shape, or is of epochs and the batch is
            full.

    Source: section 3.1, equation (5): a randomly chosen example i at each step.
    """
    n, steps, seed = as_integer("n", n, 1), as_integer("steps", steps, 0), as_integer("seed", seed, 0)
    if batch_size is not None:
        batch_size = as_integer("batch_size", batch_size, 1)
    check_law(noise)
    for name, shape in (("outputs", outputs), ("inputs", inputs)):
        if not isinstance(shape, tuple):
            raise TypeError(f"{name} must be a shape, as (2,), got {shape!r}")
    more = dict(noise=noise, batch_size=batch_size, seed=seed, outputs=outputs, inputs=inputs)
    return ((indices, z) for _, indices, z in draws_from(None, n, steps, **more))


def draws_from(
    position: Position | None,
    n: int,
    steps: int,
    *,
    noise: Law | None,
    batch_size: int | None,
    seed: int,
    outputs: tuple[int, ...],
    inputs: tuple[int, ...] = (),
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
        inputs: the same.

    Yields:
        For each chunk its position, which json can write, the indices and the noise.
    """
    index_stream, noise_stream = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    law, width = Law() if noise is None else noise, n if batch_size is None else batch_size
    law.check_batch(batch_size)
    shape, unit = inputs if law.on_inputs else outputs, law.unit(n, width)
    # A multiple of 32 bits, so that Rademacher draws of consecutive chunks join without a gap.
    chunk = max(unit, min(-(-steps // unit), DRAWS_PER_CHUNK // law.per_step(n, width, outputs, inputs) // unit) * unit)
    everything = np.tile(np.arange(n, dtype=np.int32), (chunk, 1)) if batch_size is None else None
    begun = law.begin(noise_stream, n, outputs)
    streams = {"indices": index_stream.bit_generator, "noise": noise_stream.bit_generator}
    if position is not None:
        for name, stream in streams.items():
            stream.state = position[name]
    for start in range(position["step"] if position else 0, steps, chunk):
        here = {"step": start} | {name: stream.state for name, stream in streams.items()}
        examples = law.examples(index_stream, n, (chunk, width)) if everything is None else everything
        z = law.draw_for(begun, noise_stream, examples, n, shape)
        indices = examples % n if law.is_of_two_copies else examples
        yield here, indices[: steps - start], z[: steps - start]
