"""The compiled step of fully connected networks with momentum, a penalty or noise on the parameters."""

import numpy as np

from .compiled import inlined, jit
from .mlp_steps import RELU, TANH, apply_transposed, backward, forward, times_derivative
from .stepping import look_around, move, scratch


@jit
def steps_with_extras(theta, sizes, code, x, y, indices, noise, lr, frozen, velocity, first, extras):
    """Step theta in place; arguments as in :meth:`MLP.compiled_steps`.

    Returns:
        The number of steps before the first residual that is not finite.
    """
    steps, batch_size = indices.shape
    order, (xi, room, gradient) = np.empty(0, np.int64), scratch(theta)
    units, adjoints = np.zeros((sizes.size, 3, sizes.max())), np.zeros((4, sizes.size, sizes.max()))
    for t in range(steps):
        point = look_around(theta, frozen, order, first + t, extras, xi, room, gradient)
        residual = 0.0
        for k in range(batch_size):
            i = indices[t, k]
            residual += _add_gradient(gradient, point, sizes, code, units, x[i], y[i], noise[t, k])
            if extras.penalty != 0:
                for output in range(y.shape[1]):
                    _add_penalty(gradient, point, sizes, code, units, adjoints, output, extras.penalty)
        if not abs(residual) < np.inf:
            return t
        move(theta, frozen, order, extras, xi, gradient, lr / batch_size, velocity)
    return steps


@inlined
def _add_gradient(gradient, theta, sizes, code, units, x, y, noise):
    """Add the gradient of the squared error on one example to ``gradient``.

    ``units`` is scratch, as in :func:`forward`, with the units for x at 0. What :func:`forward` subtracts from the weights on
    its way, for the example before, is here added to the gradient in their place.

    Returns:
        The sum of the residuals.
    """
    units[:, 1:] = 0
    forward(theta, sizes, code, units, 0, x)
    residual = backward(theta, sizes, code, units, 0, y, noise, -1.0)
    forward(gradient, sizes, code, units, 1, x)
    return residual


@jit
def _add_penalty(gradient, theta, sizes, code, units, adjoints, output, penalty):
    """Add the gradient of ``penalty ||grad h||^2``, h being one of the outputs, to ``gradient``.

    With ``z_l = W_l u_(l-1) + b_l`` and ``u_l = s(z_l)``, backpropagation has ``d_l = s'(z_l) t_l`` with
    ``t_l = W_(l+1)^T d_(l+1)``, and ``||grad h||^2 = sum_l |d_l|^2 (1 + |u_(l-1)|^2)``. Its own derivatives: first those by the
    d_l, ``D_l = 2 d_l (1 + |u_(l-1)|^2) + W_l s'(z_(l-1)) D_(l-1)``, in the order in which backpropagation ends; then those by
    the z_l, ``s''(z_l) t_l D_l + s'(z_l) (2 u_l |d_(l+1)|^2 + W_(l+1)^T [those by z_(l+1)])``, back again.
    """
    layers, at = sizes.size - 1, theta.size
    d, t, v, z = adjoints[0], adjoints[1], adjoints[2], adjoints[3]
    d[layers] = 0
    d[layers, output] = 1
    for layer in range(layers - 1, 0, -1):
        m, k = sizes[layer + 1], sizes[layer]
        at -= m * k + m
        apply_transposed(theta[at : at + m * k].reshape(m, k), d[layer + 1, :m], t[layer, :k])
        d[layer, :k] = t[layer, :k]
        times_derivative(d[layer, :k], units[layer, 0, :k], code)
    at = 0
    for layer in range(layers):
        m, k = sizes[layer + 1], sizes[layer]
        w, for_w = theta[at : at + m * k].reshape(m, k), gradient[at : at + m * k].reshape(m, k)
        before, past, square = units[layer, 0], v[layer], 1.0
        for j in range(k):
            square += before[j] * before[j]
        for i in range(m):
            by_d, slope = 2 * square * d[layer + 1, i], penalty * d[layer + 1, i]
            if layer > 0:
                for j in range(k):
                    by_d += w[i, j] * past[j]
                    for_w[i, j] += slope * past[j]
            u = units[layer + 1, 0, i]
            second = 0.0 if code == RELU else -2 * u * (1 - u * u) if code == TANH else u * (1 - u) * (1 - 2 * u)
            v[layer + 1, i], z[layer + 1, i] = by_d, second * t[layer + 1, i] * by_d
        times_derivative(v[layer + 1, :m], units[layer + 1, 0, :m], code)
        at += m * k + m
    z[layers] = 0
    for layer in range(layers - 1, -1, -1):
        m, k = sizes[layer + 1], sizes[layer]
        at -= m * k + m
        for_w, for_b = gradient[at : at + m * k].reshape(m, k), gradient[at + m * k : at + m * k + m]
        before, square = units[layer, 0], 0.0
        for i in range(m):
            square += d[layer + 1, i] * d[layer + 1, i]
            slope = penalty * z[layer + 1, i]
            for_b[i] += slope
            for j in range(k):
                for_w[i, j] += slope * before[j]
        if layer > 0:
            by_u = t[layer, :k]
            apply_transposed(theta[at : at + m * k].reshape(m, k), z[layer + 1, :m], by_u)
            for j in range(k):
                by_u[j] += 2 * square * before[j]
            times_derivative(by_u, before[:k], code)
            for j in range(k):
                z[layer, j] += by_u[j]
