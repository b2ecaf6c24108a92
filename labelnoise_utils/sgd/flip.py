"""Label noise for classification: :class:`LabelFlip`."""

import dataclasses

import torch

from ..arguments import as_integer, as_nonnegative


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
            raise TypeError(
                f"y must be a tensor of integer classes, got {what}; real labels get LabelNoise, and classes of another type"
                " become integers by y.long()"
            )
        if torch.iinfo(y.dtype).max < self.classes - 1:
            raise ValueError(f"y is {y.dtype}, which cannot hold classes 0 to {self.classes - 1}")
        wide = y.long()
        if wide.numel():
            least, largest = (label.item() for label in wide.aminmax())
            if not 0 <= least <= largest < self.classes:
                raise ValueError(
                    f"y must hold classes 0 to {self.classes - 1}, got {least} to {largest}; leave out labels that do not count"
                )
        if not self.p:
            return y.clone()
        # How far the label moves on: uniform, and all below 1 is not at all. Few calls, since they cost a training loop time.
        others, p = self.classes - 1, max(float(self.p), 1e-200)
        shift = torch.empty_like(wide, dtype=torch.float64)
        shift.uniform_(1 - others * (1 - p) / p, 1 + others, generator=generator)
        moved = shift.relu_().long().add_(wide).remainder_(self.classes)
        return moved if y.dtype == torch.int64 else moved.to(y.dtype)
