/* Label-noise SGD on a fully connected tanh network with one output, one example per step.
 *
 * sizes[0], ..., sizes[layers]: units per layer, input first; widest: the largest of them.
 * scratch (layers + 1, 2, widest): each layer's units and deltas.
 * theta = (W_1, b_1, W_2, b_2, ...), each W row by row, is changed in place by one step per entry
 * of indices and noise: theta <- theta - lr grad (h(x_i, theta) - y_i - z)^2.
 *
 * Both passes over W take BLOCK rows at a time, so that u and back are read that much less often. */

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK = 4 };

/* z = W u + b, for a few rows. */
static inline void forward(int rows, const double *restrict w, const double *restrict b,
                           const double *restrict u, double *restrict z, long k)
{
    double sum[BLOCK] = {0};
    for (long j = 0; j < k; j++)
        for (int r = 0; r < rows; r++)
            sum[r] += w[r * k + j] * u[j];
    for (int r = 0; r < rows; r++)
        z[r] = sum[r] + b[r];
}

/* back += W^T d, then W -= d u^T and b -= d, for a few rows. */
static inline void backward(int rows, double *restrict w, double *restrict b,
                            const double *restrict u, const double *restrict d,
                            double *restrict back, long k)
{
    for (long j = 0; j < k; j++) {
        double sum = back[j];
        for (int r = 0; r < rows; r++) {
            double w_rj = w[r * k + j];
            sum += w_rj * d[r];
            w[r * k + j] = w_rj - d[r] * u[j];
        }
        back[j] = sum;
    }
    for (int r = 0; r < rows; r++)
        b[r] -= d[r];
}

void mlp_sgd(const int64_t *restrict sizes, long layers, long widest, double *restrict scratch,
             double *restrict theta, const double *restrict x, const double *restrict y,
             const int32_t *restrict indices, const double *restrict noise, long steps, double lr)
{
    double *units = scratch, *deltas = scratch + widest;
    long next = 2 * widest;
    for (long t = 0; t < steps; t++) {
        double *w = theta, *u = units, *d = deltas;
        memcpy(u, x + indices[t] * sizes[0], sizes[0] * sizeof *u);
        for (long l = 0; l < layers; l++, u += next, d += next) {
            long k = sizes[l], m = sizes[l + 1], i = 0;
            double *b = w + m * k, *z = u + next;
            for (; i + BLOCK <= m; i += BLOCK)
                forward(BLOCK, w + i * k, b + i, u, z + i, k);
            for (; i < m; i++)
                forward(1, w + i * k, b + i, u, z + i, k);
            if (l < layers - 1)
                for (i = 0; i < m; i++)
                    z[i] = tanh(z[i]);
            w = b + m;
        }
        d[0] = 2 * lr * (u[0] - y[indices[t]] - noise[t]);
        for (long l = layers - 1; l >= 0; l--) {
            long k = sizes[l], m = sizes[l + 1], i = 0;
            double *b = w - m, *delta = d;
            w = b - m * k, u -= next, d -= next;
            memset(d, 0, k * sizeof *d);
            for (; i + BLOCK <= m; i += BLOCK)
                backward(BLOCK, w + i * k, b + i, u, delta + i, d, k);
            for (; i < m; i++)
                backward(1, w + i * k, b + i, u, delta + i, d, k);
            if (l > 0)
                for (i = 0; i < k; i++)
                    d[i] *= 1 - u[i] * u[i];
        }
    }
}
