/* micrograd's demonstration by hand: MLP 2-16-16-1 with relu, mean hinge loss plus 1e-4 L2, value and gradient of the
   337 parameters (neuron after neuron: weights, then bias). Rows of X: two coordinates and a label. Four samples
   abreast, so that gcc -O3 -march=native keeps every sum in a vector register; the plainest form, a sample at a time
   with the neurons abreast, takes 1.8 times as long. */
#include <string.h>

#define L 4
#define LANES for (int l = 0; l < L; l++)

double moons(const double *X, long n, const double *p, double *g) {
  double G[337][L] __attribute__((aligned(64)));
  double(*G1)[L] = G, (*G2)[L] = G + 48, (*G3)[L] = G + 320;
  const double *p1 = p, *p2 = p + 48, *p3 = p + 320;
  double total = 0, penalty = 0;
  memset(G, 0, sizeof G);
  for (long b = 0; b < n; b += L) {
    double x0[L], x1[L], y[L], real[L], h1[16][L], h2[16][L], a[L], d[L], d2[16][L], d1[16][L];
    LANES {
      long r = b + l < n ? b + l : n - 1;
      real[l] = b + l < n;
      x0[l] = X[3 * r];
      x1[l] = X[3 * r + 1];
      y[l] = X[3 * r + 2];
    }
    for (int j = 0; j < 16; j++) LANES {
      double s = p1[3 * j + 2] + p1[3 * j] * x0[l] + p1[3 * j + 1] * x1[l];
      h1[j][l] = s > 0 ? s : 0;
    }
    for (int j = 0; j < 16; j++) {
      LANES a[l] = p2[17 * j + 16];
      for (int i = 0; i < 16; i++) LANES a[l] += p2[17 * j + i] * h1[i][l];
      LANES h2[j][l] = a[l] > 0 ? a[l] : 0;
    }
    LANES a[l] = p3[16];
    for (int i = 0; i < 16; i++) LANES a[l] += p3[i] * h2[i][l];
    LANES {
      double margin = 1 - y[l] * a[l];
      total += margin > 0 ? real[l] * margin : 0;
      d[l] = margin > 0 ? -y[l] * real[l] : 0;
      G3[16][l] += d[l];
    }
    for (int i = 0; i < 16; i++) LANES {
      G3[i][l] += d[l] * h2[i][l];
      d2[i][l] = h2[i][l] > 0 ? d[l] * p3[i] : 0;
      d1[i][l] = 0;
    }
    for (int j = 0; j < 16; j++) {
      LANES G2[17 * j + 16][l] += d2[j][l];
      for (int i = 0; i < 16; i++) LANES {
        G2[17 * j + i][l] += d2[j][l] * h1[i][l];
        d1[i][l] += d2[j][l] * p2[17 * j + i];
      }
    }
    for (int j = 0; j < 16; j++) LANES {
      double e = h1[j][l] > 0 ? d1[j][l] : 0;
      G1[3 * j][l] += e * x0[l];
      G1[3 * j + 1][l] += e * x1[l];
      G1[3 * j + 2][l] += e;
    }
  }
  for (int k = 0; k < 337; k++) {
    double s = 0;
    LANES s += G[k][l];
    g[k] = s / n + 2e-4 * p[k];
    penalty += p[k] * p[k];
  }
  return total / n + 1e-4 * penalty;
}
