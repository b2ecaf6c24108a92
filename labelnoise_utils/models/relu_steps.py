"""The compiled step of two-layer ReLU networks whose inputs have several coordinates."""

import numpy as np

from .compiled import inlined, jit


def sgd_in_any_dimension(
    theta: np.ndarray,
    width: int,
    x: np.ndarray,
    y: np.ndarray,
    indices: np.ndarray,
    noise: np.ndarray,
    lr: float,
    frozen: np.ndarray,
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

    Returns:
        The number of steps.

    Source: equation (5).
    """
    # The loops run over units, so here a is transposed: the units' numbers for one coordinate side by side.
    dim, size = x.shape[1], width * x.shape[1]
    order = np.concatenate([np.arange(size).reshape(width, dim).T.ravel(), np.arange(size, theta.size)])
    by_coordinate = theta[order]
    if indices.shape[1] > 1 or frozen.size:
        done = _sgd_on_batches(by_coordinate, width, x, y, indices, noise, lr, np.argsort(order)[frozen])
    else:
        a, b, c, skip = np.split(by_coordinate, [size, size + width, size + 2 * width])
        kernel = _sgd_in_one_pass if dim <= 3 else _sgd_in_passes
        done = kernel(a.reshape(dim, width), b, c, skip, x, y, indices, noise, lr)
    theta[order] = by_coordinate
    return done


@inlined
def _step_in_one_pass(a0, a1, a2, b, c, relu, x, s, x_next):
    """One step of equation (5) on the example x, in place, and in the same pass over the units the output on the next one.

    ``s = 2 lr residual`` is that of x; ``relu`` (m,) holds ``relu(a_i . x + b_i)``, which becomes that of ``x_next``. Each of
    the one to three coordinates of a is an array of its own; those that are None are left out when this is compiled.

    Returns:
        The share of the units in the output on ``x_next``, after the step.
    """
    h = 0.0
    x0, next0 = x[0], x_next[0]
    x1, next1 = (0.0, 0.0) if a1 is None else (x[1], x_next[1])
    x2, next2 = (0.0, 0.0) if a2 is None else (x[2], x_next[2])
    for i in range(b.size):
        g = s * c[i] if relu[i] > 0 else 0.0
        c[i] -= s * relu[i]
        b[i] -= g
        a0[i] -= g * x0
        p = b[i] + a0[i] * next0
        if a1 is not None:
            a1[i] -= g * x1
            p += a1[i] * next1
        if a2 is not None:
            a2[i] -= g * x2
            p += a2[i] * next2
        # Not p if p > 0 else 0, since NaN has to stay NaN.
        relu[i] = 0.0 if p < 0 else p
        h += c[i] * relu[i]
    return h


@inlined
def _step_in_passes(a, b, c, relu, g, x, s, x_next):
    """The same for four coordinates and more: a (d, m), and ``g`` (m,) is scratch, ``s c_i [p_i > 0]``.

    Each pass over the units reads relu and g again. So two coordinates go along with b and c, two with the output, and those
    in between three at a time.

    Returns:
        As before.
    """
    # Of m from here the compiler knows that a pass over one row of a does not reach into the next.
    h, (dim, m) = 0.0, a.shape
    a0, a1, x0, x1, next0, next1 = a[0], a[1], x[0], x[1], x_next[0], x_next[1]
    for i in range(m):
        slope = s * c[i] if relu[i] > 0 else 0.0
        g[i] = slope
        c[i] -= s * relu[i]
        new_b, new0, new1 = b[i] - slope, a0[i] - slope * x0, a1[i] - slope * x1
        b[i], a0[i], a1[i] = new_b, new0, new1
        relu[i] = new_b + new0 * next0 + new1 * next1
    last = dim - 2
    in_threes = 2 + (dim - 4) // 3 * 3
    for j in range(2, in_threes, 3):
        a0, a1, a2, x0, x1, x2 = a[j], a[j + 1], a[j + 2], x[j], x[j + 1], x[j + 2]
        next0, next1, next2 = x_next[j], x_next[j + 1], x_next[j + 2]
        for i in range(m):
            slope = g[i]
            new0, new1, new2 = a0[i] - slope * x0, a1[i] - slope * x1, a2[i] - slope * x2
            a0[i], a1[i], a2[i] = new0, new1, new2
            relu[i] += new0 * next0 + new1 * next1 + new2 * next2
    for j in range(in_threes, last - 1, 2):
        a0, a1, x0, x1, next0, next1 = a[j], a[j + 1], x[j], x[j + 1], x_next[j], x_next[j + 1]
        for i in range(m):
            new0, new1 = a0[i] - g[i] * x0, a1[i] - g[i] * x1
            a0[i], a1[i] = new0, new1
            relu[i] += new0 * next0 + new1 * next1
    if last - in_threes == 1:
        for i in range(m):
            a[in_threes, i] -= g[i] * x[in_threes]
            relu[i] += a[in_threes, i] * x_next[in_threes]
    a0, a1, x0, x1, next0, next1 = a[last], a[last + 1], x[last], x[last + 1], x_next[last], x_next[last + 1]
    for i in range(m):
        slope = g[i]
        new0, new1 = a0[i] - slope * x0, a1[i] - slope * x1
        a0[i], a1[i] = new0, new1
        p = relu[i] + new0 * next0 + new1 * next1
        p = 0.0 if p < 0 else p
        relu[i] = p
        h += c[i] * p
    return h


@jit
def _sgd_in_one_pass(a, b, c, skip, x, y, indices, noise, lr):
    # In arrays of their own, as in the step on a line, whose last turn is here too.
    dim, m = a.shape
    a0, a1, a2 = a[0].copy(), a[min(1, dim - 1)].copy(), a[dim - 1].copy()
    own_b, own_c, own_skip, relu = b.copy(), c.copy(), skip.copy(), np.zeros(m)
    steps, last, s, lines = len(indices), 0, 0.0, skip.size - 1
    for t in range(steps + 1):
        i = indices[t, 0] if t < steps else last
        if dim == 1:
            h = _step_in_one_pass(a0, None, None, own_b, own_c, relu, x[last], s, x[i])
        elif dim == 2:
            h = _step_in_one_pass(a0, a1, None, own_b, own_c, relu, x[last], s, x[i])
        else:
            h = _step_in_one_pass(a0, a1, a2, own_b, own_c, relu, x[last], s, x[i])
        if own_skip.size:
            for j in range(lines):
                own_skip[j] -= s * x[last, j]
                h += own_skip[j] * x[i, j]
            own_skip[lines] -= s
            h += own_skip[lines]
        if t < steps:
            residual = h - (y[i] + noise[t, 0])
            last, s = i, 2 * lr * residual
            if not abs(residual) < np.inf:
                return t
    a[dim - 1] = a2
    a[min(1, dim - 1)] = a1
    a[0] = a0
    b[:], c[:], skip[:] = own_b, own_c, own_skip
    return steps


@jit
def _sgd_in_passes(a, b, c, skip, x, y, indices, noise, lr):
    own_a, own_b, own_c, own_skip, relu, g = a.copy(), b.copy(), c.copy(), skip.copy(), np.zeros_like(b), np.empty_like(b)
    steps, last, s, lines = len(indices), 0, 0.0, skip.size - 1
    for t in range(steps + 1):
        i = indices[t, 0] if t < steps else last
        h = _step_in_passes(own_a, own_b, own_c, relu, g, x[last], s, x[i])
        if own_skip.size:
            for j in range(lines):
                own_skip[j] -= s * x[last, j]
                h += own_skip[j] * x[i, j]
            own_skip[lines] -= s
            h += own_skip[lines]
        if t < steps:
            residual = h - (y[i] + noise[t, 0])
            last, s = i, 2 * lr * residual
            if not abs(residual) < np.inf:
                return t
    a[:], b[:], c[:], skip[:] = own_a, own_b, own_c, own_skip
    return steps


@jit
def _sgd_on_batches(theta, m, x, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    dim, n = x.shape[1], m * x.shape[1]
    a, b, c, skip = theta[:n].reshape(dim, m), theta[n : n + m], theta[n + m : n + 2 * m], theta[n + 2 * m :]
    kept, start, total = theta[frozen], np.empty_like(theta), np.empty_like(theta)
    relu, lines = np.zeros(m), skip.size - 1
    for t in range(steps):
        # The step on a batch is the mean of the steps on its examples, all from the same point.
        residuals = 0.0
        start[:] = theta
        total[:] = 0
        for k in range(batch_size):
            e = indices[t, k]
            theta[:] = start
            relu[:] = b
            for j in range(dim):
                for i in range(m):
                    relu[i] += a[j, i] * x[e, j]
            h = 0.0
            for i in range(m):
                relu[i] = 0.0 if relu[i] < 0 else relu[i]
                h += c[i] * relu[i]
            for j in range(lines):
                h += skip[j] * x[e, j]
            if skip.size:
                h += skip[lines]
            residual = h - (y[e] + noise[t, k])
            s = 2 * lr * residual
            for i in range(m):
                g = s * c[i] if relu[i] > 0 else 0.0
                c[i] -= s * relu[i]
                b[i] -= g
                relu[i] = g
            for j in range(dim):
                for i in range(m):
                    a[j, i] -= relu[i] * x[e, j]
            for j in range(lines):
                skip[j] -= s * x[e, j]
            if skip.size:
                skip[lines] -= s
            total += theta
            residuals += residual
        theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residuals) < np.inf:
            return t
    return steps
