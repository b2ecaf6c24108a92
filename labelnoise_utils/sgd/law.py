"""What the laws of noise have in common: what is asked of each, and numbers that a law holds for each label."""

import dataclasses
import math
from typing import Literal, get_args

import numpy as np
import torch

from ..arguments import as_nonnegative, as_reals

Kind = Literal["rademacher", "uniform", "gaussian"]
# Beside a field of a law or a job that was added later: at its default it says nothing, so that names of files stay.
ADDED = {"added": True}
# Relative to the largest entry of a covariance: by so much single precision may have it off.
ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Law:
    """The law of a run without noise, and what every other one may say in its place.

    Two laws are equal if all their numbers are, and print as what they were made from, arrays as how many there are.
    """

    def check(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Refuse data that the law is not for.

        Args:
            x: (n, ...).
            y: (n, ...).

        Raises:
            ValueError: if it has numbers for other labels than those of y.
        """

    def check_batch(self, batch_size: int | None) -> None:
        """Refuse a batch size that the law is not for.

        Raises:
            ValueError: if it is one.
        """

    def unit(self, n: int, width: int) -> int:
        """Draws are made for a multiple of so many steps at a time, so that it does not matter for how many."""
        return 32  # bits of a Rademacher draw

    def per_step(self, n: int, width: int, outputs: tuple[int, ...], inputs: tuple[int, ...]) -> int:
        """How many numbers are drawn for a step of ``width`` examples."""
        return width * math.prod(outputs)

    def examples(self, stream: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
        """The examples that some steps read, (S, B) int32; i + n is a second copy of i."""
        return stream.integers(n, size=size, dtype=np.int32)

    def begin(self, stream: np.random.Generator, n: int, outputs: tuple[int, ...]) -> object:
        """What is drawn, or made ready, once for a run."""
        return None

    def draw_for(
        self, begun: object, stream: np.random.Generator, examples: np.ndarray, n: int, shape: tuple[int, ...]
    ) -> np.ndarray:
        """The noise on what some steps read, ``(S, B, *shape)`` float64.

        Args:
            begun: what :meth:`begin` made.
            stream: where the randomness comes from.
            examples: (S, B), as :meth:`examples` gives them.
            n: number of examples.
            shape: of one label; of one input where :attr:`on_inputs`.

        Returns:
            What is added.
        """
        return np.zeros((*examples.shape, *shape))

    @property
    def is_of_two_copies(self) -> bool:
        """Whether :meth:`examples` says which copy of an example is read."""
        return False

    @property
    def on_inputs(self) -> bool:
        """Whether :meth:`draw_for` is for the inputs, not for the labels."""
        return False

    @property
    def inside(self) -> float:
        """Standard deviation of what is added to the parameters where a step takes its gradient."""
        return 0.0

    @property
    def outside(self) -> float:
        """Standard deviation of what each step adds to the parameters."""
        return 0.0

    def _key(self) -> tuple:
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return type(self), *((v.shape, v.tobytes()) if isinstance(v, np.ndarray) else v for v in values)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Law) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = f"<{' x '.join(map(str, value.shape))} numbers from {value.min():.3g} to {value.max():.3g}>"
            elif field.metadata == ADDED and value == field.default:
                continue
            else:
                value = repr(value)
            shown.append(f"{field.name}={value}")
        return f"{type(self).__name__}({', '.join(shown)})"

    def __setstate__(self, state: dict) -> None:
        for value in state.values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
        vars(self).update(state)


def check_law(noise: object) -> None:
    """Refuse what is no law of noise, and not None either.

    Raises:
        TypeError: if it is so.
    """
    if noise is not None and not isinstance(noise, Law):
        raise TypeError(
            f"noise must be a LabelNoise, another law of noise or None, got {noise!r}; a standard deviation s is written"
            " LabelNoise(s), and LabelFlip is for a loop of one's own, since train has squared loss"
        )


def check_kind(kind: object) -> None:
    """Refuse an unknown law of a single number.

    Raises:
        ValueError: if it is none of :data:`Kind`.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")


def as_one_std(value: object) -> float:
    """A standard deviation: a number, or a tensor or an array of no dimension.

    Returns:
        A float.

    Raises:
        TypeError: if it is none.
        ValueError: if it is negative or not finite.
    """
    number = value.item() if isinstance(value, torch.Tensor | np.ndarray) and value.ndim == 0 else value
    return as_nonnegative("std", number)


def as_std(value: object) -> float | np.ndarray:
    """A standard deviation, or one for each label.

    Args:
        value: a number; or a tensor or an array of at least one dimension.

    Returns:
        A float; or float64 numbers that cannot be changed.

    Raises:
        TypeError: if it is neither.
        ValueError: if a number is negative or not finite, or there is none.
    """
    if not isinstance(value, torch.Tensor | np.ndarray) or value.ndim == 0:
        return as_one_std(value)
    std = _finite("std", value)
    if not std.size:
        raise ValueError(f"std must hold a number for each label, got shape {std.shape}")
    if (std < 0).any():
        where = tuple(np.argwhere(std < 0)[0].tolist())
        raise ValueError(f"std must be at least 0, got {std[where]:g} at index {where}")
    return _fixed(std)


def for_each_label(std: float | np.ndarray, n: int, outputs: tuple[int, ...]) -> np.ndarray:
    """Standard deviations as they are to be multiplied with numbers ``(n, *outputs)``.

    Args:
        std: a number, (n,), or ``(n, *outputs)``.
        n: number of examples.
        outputs: shape of one label.

    Returns:
        What broadcasts to ``(n, *outputs)``, with n rows.

    Raises:
        ValueError: if std has another shape.
    """
    if not isinstance(std, np.ndarray):
        return np.full((n, *(1 for _ in outputs)), float(std))
    if std.shape == (n,):
        return std.reshape(n, *(1 for _ in outputs))
    if std.shape != (n, *outputs):
        allowed = f"({n},)" if not outputs else f"({n},) or {(n, *outputs)}"
        raise ValueError(f"noise has a std of shape {std.shape}, for labels of shape {(n, *outputs)} it must have {allowed}")
    return std


def as_covariance(value: object) -> tuple[np.ndarray, np.ndarray]:
    """A covariance matrix, and its symmetric root.

    Args:
        value: a tensor or an array, (m, m) or (n, k, n, k).

    Returns:
        float64 numbers of that shape; and the root (m, m), or (nk, nk).

    Raises:
        TypeError: if it is neither.
        ValueError: if the shape is another one, or the matrix is not finite, symmetric and positive semi-definite.
    """
    covariance = _finite("covariance", value)
    shape = covariance.shape
    if len(shape) not in (2, 4) or shape[: len(shape) // 2] != shape[len(shape) // 2 :] or not covariance.size:
        raise ValueError(f"covariance must have shape (n, n), (k, k) or (n, k, n, k), got {shape}")
    matrix = covariance.reshape(math.prod(shape[: len(shape) // 2]), -1)
    scale = np.abs(matrix).max()
    if (gap := np.abs(matrix - matrix.T).max()) > ROUNDING * scale:
        raise ValueError(f"covariance must be symmetric, got entries that differ by {gap:.3g} from their mirror images")
    matrix = (matrix + matrix.T) / 2
    values, vectors = np.linalg.eigh(matrix)
    if values[0] < -ROUNDING * scale:
        raise ValueError(f"covariance must be positive semi-definite, got an eigenvalue {values[0]:.3g}")
    return _fixed(matrix.reshape(shape)), _fixed(vectors * np.sqrt(values.clip(0)) @ vectors.T)


def draw(kind: Kind, std: float, rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    """Independent draws of mean 0.

    Args:
        kind: their law.
        std: standard deviation.
        rng: where the randomness comes from.
        size: shape of the result.

    Returns:
        float64 array of shape ``size``.
    """
    if kind == "gaussian":
        return rng.normal(0.0, std, size)
    if kind == "uniform":
        half_width = math.sqrt(3) * std
        return rng.uniform(-half_width, half_width, size)
    count = math.prod(size)
    octets = np.frombuffer(rng.bytes(-(-count // 8)), np.uint8)
    # Eight draws from each octet, by a table: a fifth of the time of taking bit by bit.
    table = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)), float(std), -float(std)).reshape(256, 8)
    return table[octets].reshape(-1)[:count].reshape(size)


def _finite(name: str, value: object) -> np.ndarray:
    numbers = as_reals(name, value).double().numpy().copy()
    if not np.isfinite(numbers).all():
        where = tuple(np.argwhere(~np.isfinite(numbers))[0].tolist())
        raise ValueError(f"{name} must be finite, got {numbers[where]} at index {where}")
    return numbers


def _fixed(numbers: np.ndarray) -> np.ndarray:
    numbers = np.ascontiguousarray(numbers)
    numbers.setflags(write=False)
    return numbers
