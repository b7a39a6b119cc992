/* The loops of benchmarks/loops.py: n steps of a pendulum, and the gradient of where it is then by its start and k. */
#include <math.h>
#include <stdlib.h>

double euler(long n, double a, double w, double k)
{
    for (long i = 0; i < n; i++) {
        const double b = a + 0.001 * w;
        w = w - 0.001 * k * sin(a);
        a = b;
    }
    return a;
}

double euler_gradient(long n, double a, double w, double k, double *slopes)
{
    double *was = malloc(n * sizeof(double)), da = 1.0, dw = 0.0, dk = 0.0;
    for (long i = 0; i < n; i++) {
        const double b = a + 0.001 * w;
        was[i] = a;
        w = w - 0.001 * k * sin(a);
        a = b;
    }
    for (long i = n - 1; i >= 0; i--) {
        const double d = -0.001 * dw, x = was[i];
        dk += d * sin(x);
        dw += 0.001 * da;
        da += d * k * cos(x);
    }
    slopes[0] = da;
    slopes[1] = dw;
    slopes[2] = dk;
    free(was);
    return a;
}

static void slope(double a, double w, double k, double *da, double *dw)
{
    *da = w;
    *dw = -k * sin(a);
}

double runge_kutta(long n, double a, double w, double k)
{
    const double h = 0.001;
    for (long i = 0; i < n; i++) {
        double p1, q1, p2, q2, p3, q3, p4, q4;
        slope(a, w, k, &p1, &q1);
        slope(a + 0.5 * h * p1, w + 0.5 * h * q1, k, &p2, &q2);
        slope(a + 0.5 * h * p2, w + 0.5 * h * q2, k, &p3, &q3);
        slope(a + h * p3, w + h * q3, k, &p4, &q4);
        a += h / 6.0 * (p1 + 2.0 * p2 + 2.0 * p3 + p4);
        w += h / 6.0 * (q1 + 2.0 * q2 + 2.0 * q3 + q4);
    }
    return a;
}
