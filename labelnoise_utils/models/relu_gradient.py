"""The compiled step of two-layer ReLU networks with momentum, a penalty or noise on the parameters, in any dimension."""

import numpy as np

from .compiled import inlined, jit
from .stepping import Extras, look_around, move, scratch


def relu_steps_with_extras(
    theta: np.ndarray,
    width: int,
    x: np.ndarray,
    y: np.ndarray,
    indices: np.ndarray,
    noise: np.ndarray,
    lr: float,
    frozen: np.ndarray,
    velocity: np.ndarray,
    first: int,
    extras: Extras,
) -> int:
    """Step ``theta = (a, b, c, a0, b0)`` in place, a by rows of d numbers, with a0 and b0, b0 alone, or neither.

    Args:
        theta: as in :func:`labelnoise_utils.sgd.engines.train_compiled`, and so are the others.
        width: number of hidden units m.
        x: (n, d).
        y: (n,).
        indices: (S, B).
        noise: (S, B).
        lr: learning rate.
        frozen: positions in theta.
        velocity: (p,), or (0,) without momentum.
        first: number of steps made before.
        extras: what the step has beside equation (5).

    Returns:
        The number of steps.

    Source: equation (5).
    """
    dim, size = x.shape[1], width * x.shape[1]
    if (
        dim == 1
        and theta.size != 3 * width + 1
        and indices.shape[1] == 1
        and not (frozen.size or extras.inside or extras.outside)
    ):
        v = velocity if velocity.size else np.zeros_like(theta)
        return _steps_on_a_line(theta, v, width, x[:, 0], y, indices, noise, lr, extras.momentum, extras.penalty)
    if dim == 1:
        nothing = np.empty(0, np.int64)
        return _steps(theta, nothing, width, x, y, indices, noise, lr, frozen, velocity, first, extras)
    # The loops run over units, so here a is transposed: the units' numbers for one coordinate side by side.
    order = np.concatenate([np.arange(size).reshape(width, dim).T.ravel(), np.arange(size, theta.size)])
    by_coordinate, speed = theta[order], velocity[order] if velocity.size else velocity
    places = np.argsort(order)[frozen]
    done = _steps(by_coordinate, order, width, x, y, indices, noise, lr, places, speed, first, extras)
    theta[order] = by_coordinate
    if velocity.size:
        velocity[order] = speed
    return done


@inlined
def _add_gradient(gradient, theta, relu, x, target, penalty):
    """Add the gradient of ``(h(x) - target)^2 + penalty ||grad h(x)||^2`` to ``gradient``, both by coordinates.

    ``relu`` (m,) is scratch. With ``p_i = a_i . x + b_i`` and ``q = 1 + |x|^2`` the penalty is on
    ``sum_i relu(p_i)^2 + q c_i^2 [p_i > 0]``, whose derivatives are ``2 q c_i [p_i > 0]`` in c_i and ``2 relu(p_i)`` in p_i.

    Returns:
        The residual.
    """
    dim, m = x.size, relu.size
    size = dim * m
    a, b, c, skip = theta[:size].reshape(dim, m), theta[size : size + m], theta[size + m : size + 2 * m], theta[size + 2 * m :]
    for_a, for_b = gradient[:size].reshape(dim, m), gradient[size : size + m]
    for_c, for_skip = gradient[size + m : size + 2 * m], gradient[size + 2 * m :]
    lines, square, h = skip.size - 1, 1.0, 0.0
    for i in range(m):
        relu[i] = b[i]
    for j in range(dim):
        square += x[j] * x[j]
        for i in range(m):
            relu[i] += a[j, i] * x[j]
    for i in range(m):
        # Not p if p > 0 else 0, since NaN has to stay NaN.
        relu[i] = 0.0 if relu[i] < 0 else relu[i]
        h += c[i] * relu[i]
    for j in range(lines):
        h += skip[j] * x[j]
    if skip.size:
        h += skip[lines]
    residual = h - target
    for i in range(m):
        value, is_on = relu[i], 1.0 if relu[i] > 0 else 0.0
        g = is_on * 2 * (residual * c[i] + penalty * value)
        for_c[i] += 2 * (residual * value + is_on * penalty * square * c[i])
        for_b[i] += g
        relu[i] = g
    for j in range(dim):
        for i in range(m):
            for_a[j, i] += relu[i] * x[j]
    for j in range(lines):
        for_skip[j] += 2 * residual * x[j]
    if skip.size:
        for_skip[lines] += 2 * residual
    return residual


@jit
def _steps(theta, order, m, x, y, indices, noise, lr, frozen, velocity, first, extras):
    steps, batch_size = indices.shape
    (xi, room, gradient), relu = scratch(theta), np.empty(m)
    for t in range(steps):
        point = look_around(theta, frozen, order, first + t, extras, xi, room, gradient)
        residual = 0.0
        for k in range(batch_size):
            i = indices[t, k]
            residual += _add_gradient(gradient, point, relu, x[i], y[i] + noise[t, k], extras.penalty)
        if not abs(residual) < np.inf:
            return t
        move(theta, frozen, order, extras, xi, gradient, lr / batch_size, velocity)
    return steps


@inlined
def _step_on_a_line(a, b, c, relu, va, vb, vc, x, s, keep, r):
    """The units' part of a step with momentum ``keep`` and ``r = 2 lr penalty``, in place; ``s = 2 lr residual``."""
    q = r * (1 + x * x)
    for i in range(a.size):
        is_on = 1.0 if relu[i] > 0 else 0.0
        g = is_on * (s * c[i] + r * relu[i])
        va[i] = keep * va[i] - g * x
        vb[i] = keep * vb[i] - g
        vc[i] = keep * vc[i] - s * relu[i] - is_on * q * c[i]
        a[i] += va[i]
        b[i] += vb[i]
        c[i] += vc[i]


@jit
def _steps_on_a_line(theta, velocity, m, x, y, indices, noise, lr, momentum, penalty):
    """The same on a line and on one example at a time, without an array for the gradient; skip is a0 and b0, or nothing."""
    # In arrays of their own, which the compiler knows not to overlap.
    a, b, c, relu = theta[:m].copy(), theta[m : 2 * m].copy(), theta[2 * m : 3 * m].copy(), np.zeros(m)
    va, vb, vc = velocity[:m].copy(), velocity[m : 2 * m].copy(), velocity[2 * m : 3 * m].copy()
    skip, v_skip, steps = theta[3 * m :], velocity[3 * m :], len(indices)
    for t in range(steps):
        i, h = indices[t, 0], 0.0
        for j in range(m):
            p = a[j] * x[i] + b[j]
            # Not p if p > 0 else 0, since NaN has to stay NaN.
            p = 0.0 if p < 0 else p
            relu[j] = p
            h += c[j] * p
        if skip.size:
            h += skip[0] * x[i] + skip[1]
        residual = h - (y[i] + noise[t, 0])
        if not abs(residual) < np.inf:
            return t
        s = 2 * lr * residual
        _step_on_a_line(a, b, c, relu, va, vb, vc, x[i], s, momentum, 2 * lr * penalty)
        if skip.size:
            v_skip[0] = momentum * v_skip[0] - s * x[i]
            v_skip[1] = momentum * v_skip[1] - s
            skip[0] += v_skip[0]
            skip[1] += v_skip[1]
    theta[:m], theta[m : 2 * m], theta[2 * m : 3 * m] = a, b, c
    velocity[:m], velocity[m : 2 * m], velocity[2 * m : 3 * m] = va, vb, vc
    return steps
