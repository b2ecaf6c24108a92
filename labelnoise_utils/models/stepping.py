"""What the compiled steps share that take their gradient beside theta, keep a velocity, or have a penalty.

Beside a model stands the gradient of one example's objective; what a step does with it is the same for all models and stands
here. Each model has a short loop of its own, since a loop that is given the gradient as an argument never finds itself in the
cache of Numba.
"""

from typing import NamedTuple

import numpy as np

from .compiled import inlined
from .counter import KINDS, fill, key_of


class Extras(NamedTuple):
    """What a step has beside equation (5), as compiled code takes it.

    Attributes:
        key: of the numbers that are drawn in the step.
        kind: their law, by its place in :data:`KINDS`.
        inside: standard deviation of what is added to theta where the gradient is taken.
        outside: standard deviation of what the step adds to theta.
        momentum: b of the heavy ball.
        penalty: factor of ``||grad h(x_i)||^2`` in an example's objective.
    """

    key: np.uint64
    kind: int
    inside: float
    outside: float
    momentum: float
    penalty: float

    @staticmethod
    def of(inside: float, outside: float, kind: str, seed: int, momentum: float, penalty: float) -> "Extras":
        """The same from the seed of a run, with every number in its type."""
        return Extras(
            np.uint64(key_of(seed)), KINDS.index(kind), float(inside), float(outside), float(momentum), float(penalty)
        )


@inlined
def scratch(theta):
    """Room for the numbers of a step, of even size, for the point where the gradient is taken, and for the gradient."""
    size = theta.size
    return np.empty(size + size % 2), theta.copy(), np.empty_like(theta)


@inlined
def look_around(theta, frozen, order, step, extras, xi, room, gradient):
    """Before the gradient: draw the numbers of a step, put ``room`` beside theta, and begin the gradient with 0.

    ``order`` says which number belongs to which place of theta, where these are in another order than the model's; it is empty
    where they are not.

    Returns:
        Where the gradient is to be taken: ``room``, or theta itself.
    """
    if extras.inside != 0 or extras.outside != 0:
        fill(xi, extras.key, step, extras.kind)
    if extras.inside != 0:
        std = theta.dtype.type(extras.inside)
        if order.size:
            for j in range(theta.size):
                room[j] = theta[j] + std * theta.dtype.type(xi[order[j]])
        else:
            for j in range(theta.size):
                room[j] = theta[j] + std * theta.dtype.type(xi[j])
        for j in range(frozen.size):
            room[frozen[j]] = theta[frozen[j]]
    for j in range(theta.size):
        gradient[j] = 0
    return room if extras.inside != 0 else theta


@inlined
def move(theta, frozen, order, extras, xi, gradient, rate, velocity):
    """After the gradient, summed over the batch: the step from theta; rate is lr over the batch size."""
    rate = theta.dtype.type(rate)
    for j in range(frozen.size):
        gradient[frozen[j]] = 0
    if extras.momentum != 0:
        keep = theta.dtype.type(extras.momentum)
        for j in range(theta.size):
            velocity[j] = keep * velocity[j] - rate * gradient[j]
            theta[j] += velocity[j]
    else:
        for j in range(theta.size):
            theta[j] -= rate * gradient[j]
    if extras.outside != 0:
        std = theta.dtype.type(extras.outside)
        for j in range(frozen.size):
            gradient[frozen[j]] = theta[frozen[j]]
        if order.size:
            for j in range(theta.size):
                theta[j] += std * theta.dtype.type(xi[order[j]])
        else:
            for j in range(theta.size):
                theta[j] += std * theta.dtype.type(xi[j])
        for j in range(frozen.size):
            theta[frozen[j]] = gradient[frozen[j]]
