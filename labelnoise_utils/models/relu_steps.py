"""The compiled step of two-layer ReLU networks whose inputs have several coordinates."""

import numpy as np

from .compiled import inlined, jit


def sgd_in_any_dimension(theta, width, x, y, indices, noise, lr, frozen):
    dim = x.shape[1]
    order = np.concatenate([np.arange(width * dim).reshape(width, dim).T.ravel(), np.arange(width * dim, theta.size)])
    by_coordinate = theta[order]
    done = _sgd_on_batches(by_coordinate, width, x, y, indices, noise, lr, np.argsort(order)[frozen])
    theta[order] = by_coordinate
    return done


@inlined
def _output(w, b, c, x):
    h = 0.0
    for i in range(b.size):
        p = b[i]
        for j in range(x.size):
            p += w[j, i] * x[j]
        h += c[i] * (0.0 if p < 0 else p)
    return h


@jit
def _sgd_on_batches(theta, m, x, y, indices, noise, lr, frozen):
    steps, batch_size = indices.shape
    dim = x.shape[1]
    start, total = np.empty_like(theta), np.empty_like(theta)
    kept = theta[frozen]
    w, b, c, skip = (
        theta[: dim * m].reshape(dim, m),
        theta[dim * m : dim * m + m],
        theta[dim * m + m : dim * m + 2 * m],
        theta[dim * m + 2 * m :],
    )
    for t in range(steps):
        residuals = 0.0
        start[:] = theta
        total[:] = 0
        for k in range(batch_size):
            e = indices[t, k]
            theta[:] = start
            h = _output(w, b, c, x[e])
            if skip.size > 1:
                for j in range(dim):
                    h += skip[j] * x[e, j]
            if skip.size:
                h += skip[-1]
            residual = h - (y[e] + noise[t, k])
            s = 2 * lr * residual
            for i in range(m):
                p = b[i]
                for j in range(dim):
                    p += w[j, i] * x[e, j]
                g = s * c[i] if p > 0 else 0.0
                c[i] -= s * (0.0 if p < 0 else p)
                b[i] -= g
                for j in range(dim):
                    w[j, i] -= g * x[e, j]
            if skip.size > 1:
                for j in range(dim):
                    skip[j] -= s * x[e, j]
            if skip.size:
                skip[-1] -= s
            total += theta
            residuals += residual
        theta[:] = total / batch_size
        for j in range(frozen.size):
            theta[frozen[j]] = kept[j]
        if not abs(residuals) < np.inf:
            return t
    return steps
