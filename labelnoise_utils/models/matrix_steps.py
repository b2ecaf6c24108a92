"""The compiled steps of matrix sensing, on packed measurements."""

import numpy as np

from .compiled import inlined, jit, prefetch
from .stepping import look_around, move, scratch

CACHE_LINE = 64

# With float32 data every number in the loops has to be float32 too: one float64 among them, and they run in float64.


@jit
def _unpack(p, s, following):
    """S = A + A^T from a packed measurement p; row by row, what is left of the diagonal from the rows above.

    Meanwhile the measurement ``following`` is asked for from memory, since the next step reads it.
    """
    d, at = len(s), 0
    for j in range(d):
        for k in range(at, at + d - j, CACHE_LINE // p.itemsize):
            prefetch(following.ctypes.data + k * p.itemsize)
        for k in range(j):
            s[j, k] = s[k, j]
        # As two vectors with one index: a third faster than s[j, k] = p[at] with two that count on.
        row, part = s[j, j:], p[at : at + d - j]
        for k in range(d - j):
            row[k] = part[k]
        row[0] += row[0]
        at += d - j


@jit
def _step(u, s, su, p, following, target, rate):
    """One step of equation (5) on one example, in place, rate = 2 lr. Returns the residual before the step."""
    _unpack(p, s, following)
    np.dot(s, u, su)
    # As vectors, in one long loop each: <A, U U^T> = <S U, U> / 2, and the gradient of that is S U.
    theta, gradient, h = u.reshape(-1), su.reshape(-1), u.dtype.type(0)
    for k in range(theta.size):
        h += gradient[k] * theta[k]
    residual = u.dtype.type(0.5) * h - target
    slope = rate * residual
    for k in range(theta.size):
        theta[k] -= slope * gradient[k]
    return residual


@jit
def _residuals_times_rows(x, y, indices, noise, upper, total):
    """Into ``total``: sum_i r_i p_i over a batch, with p_i the rows of x and r_i = p_i . upper - y_i - noise_i.

    A row is read from memory once, where it lies: it is still in the cache when r_i is known. Four rows
    at a time, since ``upper`` and ``total`` then are read a quarter as often.

    Returns:
        The sum of the residuals.
    """
    total[:] = 0
    residuals, zero = 0.0, x.dtype.type(0)
    in_fours = len(indices) // 4 * 4
    for b in range(0, in_fours, 4):
        i0, i1, i2, i3 = indices[b : b + 4]
        p0, p1, p2, p3 = x[i0], x[i1], x[i2], x[i3]
        r0, r1, r2, r3 = zero, zero, zero, zero
        for k in range(upper.size):
            r0 += p0[k] * upper[k]
            r1 += p1[k] * upper[k]
            r2 += p2[k] * upper[k]
            r3 += p3[k] * upper[k]
        r0 -= y[i0] + noise[b]
        r1 -= y[i1] + noise[b + 1]
        r2 -= y[i2] + noise[b + 2]
        r3 -= y[i3] + noise[b + 3]
        for k in range(upper.size):
            total[k] += r0 * p0[k] + r1 * p1[k] + r2 * p2[k] + r3 * p3[k]
        residuals += r0 + r1 + r2 + r3
    for b in range(in_fours, len(indices)):
        p, r = x[indices[b]], zero
        for k in range(upper.size):
            r += p[k] * upper[k]
        r -= y[indices[b]] + noise[b]
        for k in range(upper.size):
            total[k] += r * p[k]
        residuals += r
    return residuals


@jit
def _step_on_batch(u, s, su, packed, x, y, indices, noise, rate):
    """One step of equation (5) on a batch, in place, rate = 2 lr / B. Returns the sum of the residuals before the step."""
    d, upper, total = len(u), packed[0], packed[1]
    np.dot(u, u.T, s)
    at = 0
    for j in range(d):
        upper[at : at + d - j] = s[j, j:]
        at += d - j
    residuals = _residuals_times_rows(x, y, indices, noise, upper, total)
    # The mean of the gradients 2 r_i S_i U, as one product.
    _unpack(total, s, total)
    np.dot(s, u, su)
    for j in range(d):
        for k in range(d):
            u[j, k] -= rate * su[j, k]
    return residuals


@jit
def sgd(u, x, y, indices, noise, lr, frozen):
    """Step u (d, d) in place; arguments as in :meth:`MatrixSensing.compiled_sgd`.

    Returns:
        The number of steps before the first residual that is not finite.
    """
    steps, batch_size = indices.shape
    theta = u.reshape(-1)
    kept, s, su = theta[frozen], np.empty_like(u), np.empty_like(u)
    packed = np.empty((2, x.shape[1]), u.dtype)
    rate = u.dtype.type(2 * lr / batch_size)
    for t in range(steps):
        if batch_size == 1:
            i, following = indices[t, 0], indices[min(t + 1, steps - 1), 0]
            residual = np.float64(_step(u, s, su, x[i], x[following], y[i] + noise[t, 0], rate))
        else:
            residual = _step_on_batch(u, s, su, packed, x, y, indices[t], noise[t], rate)
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residual) < np.inf:
            return t
    return steps


@inlined
def _add_gradient(gradient, u, s, su, p, target, penalty):
    """Add the gradient of ``(h - target)^2 + penalty ||S U||^2`` to ``gradient`` (d, d), for the packed measurement p.

    ``s`` and ``su`` (2, d, d) are scratch; the gradient of h is S U with ``S = A + A^T``, and that of its square 2 S S U.

    Returns:
        The residual.
    """
    _unpack(p, s, p)
    slope, again = su[0], su[1]
    np.dot(s, u, slope)
    h, rows = u.dtype.type(0), len(u)
    for j in range(rows):
        for k in range(rows):
            h += slope[j, k] * u[j, k]
    residual = u.dtype.type(0.5) * h - target
    twice = residual + residual
    for j in range(rows):
        for k in range(rows):
            gradient[j, k] += twice * slope[j, k]
    if penalty != 0:
        np.dot(s, slope, again)
        for j in range(rows):
            for k in range(rows):
                gradient[j, k] += (penalty + penalty) * again[j, k]
    return residual


@jit
def steps_with_extras(theta, dim, x, y, indices, noise, lr, frozen, velocity, first, extras):
    """Step theta (d d,) in place; arguments as in :meth:`MatrixSensing.compiled_steps`.

    Returns:
        The number of steps before the first residual that is not finite.
    """
    steps, batch_size = indices.shape
    order, (xi, room, gradient) = np.empty(0, np.int64), scratch(theta)
    s, su, penalty = np.empty((dim, dim), theta.dtype), np.empty((2, dim, dim), theta.dtype), theta.dtype.type(extras.penalty)
    for t in range(steps):
        point = look_around(theta, frozen, order, first + t, extras, xi, room, gradient)
        residual = 0.0
        for k in range(batch_size):
            i = indices[t, k]
            target = y[i] + noise[t, k]
            residual += _add_gradient(gradient.reshape(dim, dim), point.reshape(dim, dim), s, su, x[i], target, penalty)
        if not abs(residual) < np.inf:
            return t
        move(theta, frozen, order, extras, xi, gradient, lr / batch_size, velocity)
    return steps
