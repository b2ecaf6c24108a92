/* Label-noise SGD as in relu.c, with the pass over the units that the compiled step makes: the update by
 * one example and the output on the next, which needs the units' values r in a buffer of m numbers. */

#include <stdint.h>
#include <stdlib.h>

static double step(long m, double *restrict a, double *restrict b, double *restrict c,
                   double *restrict r, double x, double s, double next)
{
    double h = 0;
    for (long i = 0; i < m; i++) {
        double g = r[i] > 0 ? s * c[i] : 0;
        c[i] -= s * r[i];
        a[i] -= g * x;
        b[i] -= g;
        double p = a[i] * next + b[i];
        r[i] = p > 0 ? p : 0;
        h += c[i] * r[i];
    }
    return h;
}

void relu_one_pass_sgd(long m, double *restrict theta, const double *restrict x,
                       const double *restrict y, const int32_t *restrict indices,
                       const double *restrict noise, long steps, double lr)
{
    double *a = theta, *b = theta + m, *c = theta + 2 * m, *r = calloc(m, sizeof *r);
    double a0 = theta[3 * m], b0 = theta[3 * m + 1], last = 0, s = 0;
    for (long t = 0; t < steps; t++) {
        double x_t = x[indices[t]], h = step(m, a, b, c, r, last, s, x_t) + a0 * x_t + b0;
        s = 2 * lr * (h - y[indices[t]] - noise[t]);
        a0 -= s * x_t;
        b0 -= s;
        last = x_t;
    }
    step(m, a, b, c, r, last, s, last);
    free(r);
    theta[3 * m] = a0;
    theta[3 * m + 1] = b0;
}
