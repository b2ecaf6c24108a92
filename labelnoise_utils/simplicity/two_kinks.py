"""The perturbations in the proof of Theorem 2: two kinks that bend opposite ways, moved apart."""

import copy
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from ..arguments import as_integer, as_number
from ..models import TwoLayerReLU

Place = Literal["between", "left", "right", "none"]

SIGNS = {1: (1, 1), 2: (1, -1), 3: (-1, 1), 4: (-1, -1)}


@dataclass(frozen=True, eq=False)
class TwoKinks:
    """A network, its data, and two of its units whose kinks bend opposite ways, with at most one data point between them.

    Attributes:
        model: a :class:`TwoLayerReLU` in float64 with skip unit.
        x: (n,) float64, the data's inputs.
        left: index of the unit with the left kink, k1; the paper's unit 1.
        right: index of the unit with the right kink, k2; the paper's unit 2.
        pivot: the paper's x_0, in [k1, k2]: the data point there if there is one, else any point in between.

    Raises:
        TypeError: if an attribute is of another kind.
        ValueError: if the model is none on a line, or the two kinks bend the same way, are not in order, or enclose a data
            point that is not the pivot.

    Source: Appendix B, proof of Theorem 2.
    """

    model: TwoLayerReLU
    x: torch.Tensor
    left: int
    right: int
    pivot: float

    def __post_init__(self) -> None:
        if not isinstance(self.model, TwoLayerReLU) or self.model.a0 is None or self.model.a.dtype != torch.float64:
            raise TypeError(f"model must be a TwoLayerReLU in float64 with skip unit, got {self.model!r}")
        if self.model.config["dim"] is not None:
            raise ValueError(f"model must be one on a line, dim=None, got dim={self.model.config['dim']}")
        if not isinstance(self.x, torch.Tensor) or self.x.dtype != torch.float64:
            raise TypeError("x must be a tensor in float64")
        width = self.model.a.numel()
        for name in ("left", "right"):
            if as_integer(name, getattr(self, name), 0) >= width:
                raise ValueError(f"{name} must be below the width, {width}, got {getattr(self, name)}")
        a, b, c = self._pair()
        if not (a * c).all() or c[0] * c[1] > 0:
            raise ValueError(f"the two units must bend opposite ways, with a and c nonzero, got a = {a}, c = {c}")
        at_pivot = a * as_number("pivot", self.pivot) + b
        # A kink is at or left of the pivot where a (a x_0 + b) >= 0; in this form rounding does not move one that is on it.
        if not (a[0] * at_pivot[0] >= 0 and a[1] * at_pivot[1] <= 0 and at_pivot.any()):
            raise ValueError(
                f"the kinks must enclose the pivot, {self.pivot}, the left unit's on its left; they are at {-b / a}"
            )
        x = self.x.numpy()
        inside = (a[0] * (a[0] * x + b[0]) >= 0) & (a[1] * (a[1] * x + b[1]) <= 0) & (x != self.pivot)
        if inside.any():
            raise ValueError(f"no data point but the pivot may lie between the two kinks, got {x[inside]}")

    def _pair(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """a, b, c of the two units, (2,) each."""
        pair = [self.left, self.right]
        return tuple(p.detach().numpy()[pair].copy() for p in (self.model.a, self.model.b, self.model.c))

    @property
    def kinks(self) -> tuple[float, float]:
        """k1 and k2; the pivot itself where a unit's kink is on it, which -b / a can miss by a rounding."""
        a, b, _ = self._pair()
        return tuple(np.where(a * self.pivot + b == 0, self.pivot, -b / a).tolist())

    @property
    def case(self) -> int:
        """The column of Figure 4, from 1 to 4, by whether each of the two units is active on its right or on its left."""
        a, _, _ = self._pair()
        return {signs: case for case, signs in SIGNS.items()}[tuple(np.sign(a).astype(int).tolist())]

    def apart(self, epsilon: float, *, as_printed: bool = False) -> TwoLayerReLU:
        r"""The perturbed network of Theorem 2's proof: both units are turned about x_0, which moves their kinks away from it.

        A turn adds ``s (x_0 - x)`` to what goes into relu, and so changes nothing at x_0. In cases 1 to 3 the left unit gets
        ``s_1 = epsilon a_1``, in case 4 the right one ``s_2 = epsilon a_2``. The other unit's turn makes the changes cancel at
        the other data points: ``c_1 s_1 + c_2 s_2 = 0`` in cases 1 and 4, where one side of x_0 sees both units and the other
        none. In cases 2 and 3 each side sees one: ``c_1 s_1 = c_2 s_2``, and ``a0 x + b0`` is turned back by ``c_1 s_1``. All
        that is used of the units is that c_1 and c_2 have opposite signs: which of the two is concave does not matter.

        Since nothing changes at x_0, a kink on x_0 stays there, here to the last bit.

        Args:
            epsilon: size of the perturbation, > 0; below :meth:`largest_epsilon` no unit is switched on or off at a data point.
            as_printed: take ``a = ...``, ``b = ...`` of cases 2 and 3 as the paper prints them, as the new values of a0 and b0.
                They are meant as what is added.

        Returns:
            A new network.

        Raises:
            TypeError: if epsilon is no number.
            ValueError: if it is not finite.

        Source: Appendix B, cases 1 to 4.
        """
        epsilon = as_number("epsilon", epsilon)
        turns, back = self._turns()
        a, b, _ = self._pair()
        model = copy.deepcopy(self.model)
        pivot, pair = self.pivot, [self.left, self.right]
        turned = a - epsilon * turns
        with torch.no_grad():
            model.a[pair] = torch.from_numpy(turned)
            # Through (x_0, a x_0 + b) again, rather than b + epsilon s x_0, which would miss an exact 0 there by rounding.
            model.b[pair] = torch.from_numpy((a * pivot + b) - turned * pivot)
            if as_printed and back:
                model.a0.fill_(0.0)
                model.b0.fill_(0.0)
            model.a0 += epsilon * back
            model.b0 -= epsilon * back * pivot
        return model

    def largest_epsilon(self) -> float:
        """The epsilon at which one of the two kinks first meets a data point.

        Returns:
            The smallest epsilon > 0 at which ``a x_j + b`` of one of the two units becomes 0 at a data point where it was not;
            infinity if there is none.

        Source: Appendix B ("arbitrarily small quantity epsilon").
        """
        inputs, turn = self._inputs()
        towards = inputs * turn < 0
        return float(np.min(-inputs[towards] / turn[towards], initial=np.inf))

    def reg_along(self) -> tuple[float, float]:
        r"""How reg depends on epsilon: ``reg(epsilon) = reg(0) + slope epsilon + curvature epsilon^2``, exactly.

        Only the activations of the two units change, by ``epsilon s_i (x_0 - x_j)``, so

        ``slope = (2 / n) sum_i sum_{j active} (a_i x_j + b_i) s_i (x_0 - x_j)``,
        ``curvature = (1 / n) sum_i sum_{j active} s_i^2 (x_0 - x_j)^2``.

        Each term of the slope is negative: where a unit is active, its turn lowers it.

        Returns:
            Slope and curvature, valid for 0 <= epsilon < :meth:`largest_epsilon`.

        Source: Appendix B, cases 1 to 4 ("decreases by Theta(epsilon)"), with the constant.
        """
        inputs, turn = self._inputs()
        active = inputs > 0
        n = inputs.shape[1]
        return float(2 / n * (inputs * turn)[active].sum()), float((turn[active] ** 2).sum() / n)

    def _turns(self) -> tuple[np.ndarray, float]:
        """s_1, s_2 over epsilon, (2,), and what a0 gains over epsilon."""
        a, _, c = self._pair()
        case = self.case
        if case == 4:
            return np.array([-c[1] / c[0], 1.0]) * a[1], 0.0
        if case == 1:
            return np.array([1.0, -c[0] / c[1]]) * a[0], 0.0
        return np.array([1.0, c[0] / c[1]]) * a[0], c[0] * a[0]

    def _inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """What goes into relu of the two units at the data, and what is added to it over epsilon: (2, n) each."""
        a, b, _ = self._pair()
        x = self.x.numpy()
        return np.outer(a, x) + b[:, None], np.outer(self._turns()[0], self.pivot - x)


def random_two_kinks(
    case: int, place: Place = "between", *, concave_first: bool = True, width: int = 6, seed: int = 0
) -> TwoKinks:
    """A random network with two kinks as the proof of Theorem 2 wants them, and data.

    Eight data points on [-1, 1], no two closer than 0.1, in random places; the two kinks lie in neighbouring gaps, or in one.
    The other units are Gaussian, their kinks anywhere; a0 and b0 are between 0.5 and 2 in size.

    Args:
        case: 1 to 4, as in Figure 4.
        place: where x_0 is: "between" the kinks, on the "left" or on the "right" one; or "none", where both kinks lie in one
            gap and x_0, half-way between them, is no data point.
        concave_first: whether the left kink is the concave one, as in the paper's proof; else the convex one.
        width: number of units, at least 2.
        seed: of everything that is random.

    Returns:
        The network with its data; the two units are 0 and 1.

    Raises:
        TypeError: if case, width or seed is no integer.
        ValueError: if case or place is unknown, width below 2 or seed below 0.

    Source: Figures 4 and 5.

    >>> instance = random_two_kinks(case=2, place="left", seed=5)
    >>> instance.case, instance.kinks[0] == instance.pivot
    (2, True)
    """
    if as_integer("case", case, 1) not in SIGNS:
        raise ValueError(f"case must be 1, 2, 3 or 4, got {case}")
    if place not in get_args(Place):
        raise ValueError(f"place must be one of {', '.join(get_args(Place))}, got {place!r}")
    rng = np.random.default_rng(as_integer("seed", seed, 0))
    model = TwoLayerReLU(as_integer("width", width, 2), seed=seed)
    gaps = 0.1 + 1.3 * rng.dirichlet(np.ones(7))
    x = -1 + np.concatenate([[0], np.cumsum(gaps)])
    middle = rng.integers(2, 6)
    before, pivot, after = x[middle - 1 : middle + 2]
    near, far = rng.uniform(0.1, 0.9, 2)
    left, right = before + near * (pivot - before), pivot + far * (after - pivot)
    if place == "none":
        near, far = sorted((0.1 + 0.35 * near, 0.55 + 0.35 * far))
        left, right = before + near * (pivot - before), before + far * (pivot - before)
        pivot = (left + right) / 2
    elif place != "between":
        left, right = (pivot, right) if place == "left" else (left, pivot)
    a = np.array(SIGNS[case]) * rng.uniform(0.5, 2, 2)
    c = np.array([-1, 1] if concave_first else [1, -1]) * rng.uniform(0.5, 2, 2)
    with torch.no_grad():
        for parameter, pair in ((model.a, a), (model.b, -a * [left, right]), (model.c, c)):
            parameter[:2] = torch.from_numpy(pair)
        for parameter in (model.a0, model.b0):
            parameter.fill_(rng.choice([-1, 1]) * rng.uniform(0.5, 2))
    return TwoKinks(model, torch.from_numpy(x), 0, 1, float(pivot))


def regularizer_by_unit(model: TwoLayerReLU, x: torch.Tensor) -> torch.Tensor:
    """What each unit pays at each data point: ``R_ij = relu(p)^2 + c_i^2 (1 + x_j^2) [p > 0]``, ``p = a_i x_j + b_i``.

    Args:
        model: the network, m units.
        x: (n,), the data's inputs.

    Returns:
        (m, n). With ``1 + x_j^2`` for the skip unit, the sum over both indices is n times reg.

    Source: equation (16) and the display after it.

    >>> model, x = TwoLayerReLU(5), torch.linspace(-1, 1, 7, dtype=torch.float64)
    >>> regularizer_by_unit(model, x).shape
    torch.Size([5, 7])
    """
    with torch.no_grad():
        p = torch.outer(x, model.a) + model.b
        return (torch.relu(p) ** 2 + model.c**2 * (1 + x[:, None] ** 2) * (p > 0)).T
