/* Label-noise SGD on h(x, theta) = sum_i c_i relu(a_i x + b_i) + a0 x + b0, one example per step.
 *
 * m: number of hidden units. theta = (a, b, c, a0, b0) is changed in place by one step per entry of
 * indices and noise: theta <- theta - lr grad (h(x_i, theta) - y_i - z)^2. */

#include <stdint.h>

void relu_sgd(long m, double *restrict theta, const double *restrict x, const double *restrict y,
              const int32_t *restrict indices, const double *restrict noise, long steps, double lr)
{
    double *restrict a = theta, *restrict b = theta + m, *restrict c = theta + 2 * m;
    double a0 = theta[3 * m], b0 = theta[3 * m + 1];
    for (long t = 0; t < steps; t++) {
        double x_t = x[indices[t]], h = a0 * x_t + b0;
        for (long i = 0; i < m; i++) {
            double p = a[i] * x_t + b[i];
            h += c[i] * (p > 0 ? p : 0);
        }
        double s = 2 * lr * (h - y[indices[t]] - noise[t]);
        for (long i = 0; i < m; i++) {
            double p = a[i] * x_t + b[i];
            double g = p > 0 ? s * c[i] : 0;
            c[i] -= p > 0 ? s * p : 0;
            a[i] -= g * x_t;
            b[i] -= g;
        }
        a0 -= s * x_t;
        b0 -= s;
    }
    theta[3 * m] = a0;
    theta[3 * m + 1] = b0;
}
