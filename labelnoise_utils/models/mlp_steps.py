"""The compiled steps of fully connected networks."""

import numpy as np

from .compiled import jit, logistic, tanh

RELU, TANH, LOGISTIC = range(3)


@jit
def _activate(z, code):
    """Replace z by s(z), in place."""
    if code == RELU:
        for i in range(z.size):
            z[i] = z[i] if z[i] > 0 else 0.0 * z[i]
    elif code == TANH:
        for i in range(z.size):
            z[i] = tanh(z[i])
    else:
        for i in range(z.size):
            z[i] = logistic(z[i])


@jit
def times_derivative(delta, h, code):
    """Multiply delta by s'(z), in place, with s'(z) from h = s(z)."""
    if code == RELU:
        for i in range(h.size):
            delta[i] = delta[i] if h[i] > 0 else 0.0
    elif code == TANH:
        for i in range(h.size):
            delta[i] *= 1 - h[i] * h[i]
    else:
        for i in range(h.size):
            delta[i] *= h[i] * (1 - h[i])


@jit
def _update_then_apply(w, b, before, delta, x, z):
    """``W -= delta before^T`` and ``b -= delta``, then ``z = W x + b``, in one pass over W.

    Two rows at a time, since ``before`` and ``x`` then are read half as often.
    """
    m, k = w.shape
    in_twos = m // 2 * 2
    for i in range(0, in_twos, 2):
        w0, w1, d0, d1, z0, z1 = w[i], w[i + 1], delta[i], delta[i + 1], 0.0, 0.0
        for j in range(k):
            a0, a1 = w0[j] - d0 * before[j], w1[j] - d1 * before[j]
            w0[j], w1[j] = a0, a1
            z0 += a0 * x[j]
            z1 += a1 * x[j]
        b[i] -= d0
        b[i + 1] -= d1
        z[i], z[i + 1] = z0 + b[i], z1 + b[i + 1]
    for i in range(in_twos, m):
        d, total = delta[i], 0.0
        for j in range(k):
            a = w[i, j] - d * before[j]
            w[i, j] = a
            total += a * x[j]
        b[i] -= d
        z[i] = total + b[i]


@jit
def apply_transposed(w, delta, out):
    """``out = W^T delta``, four rows at a time, since ``out`` then is read and written a quarter as often."""
    m, k = w.shape
    out[:] = 0
    in_fours = m // 4 * 4
    for i in range(0, in_fours, 4):
        w0, w1, w2, w3 = w[i], w[i + 1], w[i + 2], w[i + 3]
        d0, d1, d2, d3 = delta[i], delta[i + 1], delta[i + 2], delta[i + 3]
        for j in range(k):
            out[j] += w0[j] * d0 + w1[j] * d1 + w2[j] * d2 + w3[j] * d3
    for i in range(in_fours, m):
        d = delta[i]
        for j in range(k):
            out[j] += w[i, j] * d


@jit
def forward(theta, sizes, code, scratch, now, x):
    """The step of equation (5) that the last example has left to do, in place, and in the same pass the output on x.

    ``scratch`` (layers + 1, 3, widest) holds for each layer its units for x, at ``now``, and for the last example, at
    ``1 - now``; and, at 2, lr times the gradient by what enters them.

    The plain loop passes over all weights twice a step. Here the weights of the first layer, which no gradient has to go
    back through, are read only once: their update is the next example's business.
    """
    layers, at = sizes.size - 1, 0
    scratch[0, now, : sizes[0]] = x
    for layer in range(layers):
        m, k = sizes[layer + 1], sizes[layer]
        w, b = theta[at : at + m * k].reshape(m, k), theta[at + m * k : at + m * k + m]
        z = scratch[layer + 1, now, :m]
        _update_then_apply(w, b, scratch[layer, 1 - now, :k], scratch[layer + 1, 2, :m], scratch[layer, now, :k], z)
        if layer < layers - 1:
            _activate(z, code)
        at += m * k + m


@jit
def backward(theta, sizes, code, scratch, now, y, noise, lr):
    """Put lr times the gradient by what enters each layer into ``scratch``.

    Returns:
        The sum of the residuals.
    """
    layers, at = sizes.size - 1, theta.size
    residual = 0.0
    for i in range(sizes[layers]):
        e = scratch[layers, now, i] - y[i] - noise[i]
        scratch[layers, 2, i] = 2 * lr * e
        residual += e
    for layer in range(layers - 1, 0, -1):
        m, k = sizes[layer + 1], sizes[layer]
        at -= m * k + m
        delta = scratch[layer, 2, :k]
        apply_transposed(theta[at : at + m * k].reshape(m, k), scratch[layer + 1, 2, :m], delta)
        times_derivative(delta, scratch[layer, now, :k], code)
    return residual


@jit
def sgd(theta, sizes, code, x, y, indices, noise, lr):
    """Step theta in place on one example at a time; arguments as in :meth:`MLP.compiled_sgd`.

    Returns:
        The number of steps before the first residual that is not finite.
    """
    # A layer's units and deltas side by side: in two arrays their page offsets can coincide, a processor then takes loads
    # from one for loads of what it just stored to the other, and a step was seen to take up to four times as long.
    steps, scratch = len(indices), np.zeros((sizes.size, 3, sizes.max()))
    for t in range(steps):
        i, now = indices[t, 0], t % 2
        forward(theta, sizes, code, scratch, now, x[i])
        residual = backward(theta, sizes, code, scratch, now, y[i], noise[t, 0], lr)
        if not abs(residual) < np.inf:
            return t
    forward(theta, sizes, code, scratch, steps % 2, x[0])
    return steps


@jit
def sgd_on_batches(theta, sizes, code, x, y, indices, noise, lr, frozen):
    """The same on batches, some parameters staying as they are.

    Returns:
        The number of steps before the first residual that is not finite.
    """
    steps, batch_size = indices.shape
    kept, start, total = theta[frozen], np.empty_like(theta), np.empty_like(theta)
    scratch = np.zeros((sizes.size, 3, sizes.max()))
    for t in range(steps):
        # The step on a batch is the mean of the steps on its examples, all from the same point.
        residuals = 0.0
        start[:] = theta
        total[:] = 0
        for k in range(batch_size):
            i = indices[t, k]
            theta[:] = start
            scratch[:, 2] = 0
            forward(theta, sizes, code, scratch, 0, x[i])
            residuals += backward(theta, sizes, code, scratch, 0, y[i], noise[t, k], lr)
            forward(theta, sizes, code, scratch, 1, x[i])
            total += theta
        theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residuals) < np.inf:
            return t
    return steps
