// Functions of C's math.h and of the table's Python that JavaScript's Math lacks; to about 1e-14, and short.
const copysign = (x, y) => (y < 0 || Object.is(y, -0) ? -Math.abs(x) : Math.abs(x));
const pow = (x, y) => (x === 1 || y === 0 || (x === -1 && Math.abs(y) === Infinity) ? 1 : Math.pow(x, y));
const ldexp = (x, n) => {
  const half = Math.floor(n / 2);
  return x * Math.pow(2, half) * Math.pow(2, Math.floor(n) - half) * Math.pow(2, n - Math.floor(n));
};

function remainder(x, y) {  // x less the nearest multiple of y, the even one at a tie
  const size = Math.abs(y);
  if (!(Number.isFinite(x) && size > 0)) return NaN;
  if (size === Infinity) return x;
  let rest = Math.abs(size < 8e307 ? x % (2 * size) : x);
  for (let k = 0; k < 2; k++) if (k ? rest >= size - rest : rest > size - rest) rest -= size;
  return x < 0 || Object.is(x, -0) ? -rest : rest;
}

function product(x, y) {  // x * y and its rounding error, by Veltkamp's splitting
  const out = x * y, split = (a) => { const c = 134217729 * a, high = c - (c - a); return [high, a - high]; };
  const [a, b] = split(x), [c, d] = split(y), error = b * d - (out - a * c - b * c - a * d);
  return [out, Number.isFinite(error) ? error : 0];
}

function fsum(...terms) {  // partial sums without overlap, so that only the last addition rounds
  if (!terms.every(Number.isFinite)) return terms.reduce((a, b) => a + b, 0);
  const partials = [];
  for (let x of terms) {
    let kept = 0;
    for (let y of partials) {
      if (Math.abs(x) < Math.abs(y)) [x, y] = [y, x];
      const high = x + y, low = y - (high - x);
      if (low) partials[kept++] = low;
      x = high;
    }
    partials.length = kept;
    partials.push(x);
  }
  return partials.reduceRight((a, b) => a + b, 0);
}

function sumprod(...args) {
  const half = args.length / 2;
  return fsum(...args.slice(0, half).flatMap((x, k) => product(x, args[half + k])));
}

const fma = (x, y, z) => fsum(...product(x, y), z);

function erfc(x) {  // a continued fraction far out (Abramowitz and Stegun 7.1.14), else 1 - erf
  if (x < 1.5) return 1 - erf(x);
  let fraction = 0;
  for (let k = 150; k > 0; k--) fraction = k / 2 / (x + fraction);
  const [square, error] = product(x, x);
  return Math.exp(-square) * Math.exp(-error) / Math.sqrt(Math.PI) / (x + fraction);
}

function erf(x) {  // a series of positive terms (Abramowitz and Stegun 7.1.6)
  if (Math.abs(x) > 1.5) return x > 0 ? 1 - erfc(x) : erfc(-x) - 1;
  let term = x, sum = 0;
  for (let n = 0; sum !== sum + term; n++) { sum += term; term *= 2 * x * x / (2 * n + 3); }
  return Number.isNaN(x) ? x : 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * (x === 0 ? x : sum);
}

// B_2k / (2k (2k - 1)), of Stirling's series, and B_2k, of the polygamma functions' (6.1.40 and 6.4.11 there)
const BERNOULLI = [1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798];
const stirling = (x) => BERNOULLI.reduceRight((sum, b, k) => sum / (x * x) + b / ((2 * k + 2) * (2 * k + 1)), 0) / x;

function tgamma(x) {
  if (x < 0.5) return Math.PI / (sinpi(x) * tgamma(1 - x));
  if (x > 172) return x * Infinity;
  let steps = 1;
  for (; x < 16; x++) steps *= x;
  const half = Math.pow(x, x / 2 - 0.25);
  return half * Math.exp(stirling(x) - x) * half * Math.sqrt(2 * Math.PI) / steps;
}

function lgamma(x) {
  if (Math.abs(x) === Infinity) return Infinity;
  if (x < 0.5) return x === Math.floor(x) ? Infinity : Math.log(Math.PI / Math.abs(sinpi(x))) - lgamma(1 - x);
  if (x < 16) return Math.log(tgamma(x));
  return (x - 0.5) * Math.log(x) - x + Math.log(2 * Math.PI) / 2 + stirling(x);
}

function sinpi(x) {  // sin(pi x), exact in the whole turns
  const rest = x - 2 * Math.round(x / 2);
  return Math.sin(Math.PI * (Math.abs(rest) > 0.5 ? copysign(1, rest) - rest : rest));
}

function polygamma(n, x) {  // reflection below -10 by whole turns of the cotangent, recurrence upwards, a series
  if (x === -Infinity || Number.isNaN(x)) return NaN;
  if (x <= 0 && x === Math.floor(x)) return NaN;
  if (x < -10) {
    const r = x - Math.round(x), turn = n % 2 ? -1 : 1;
    return polygamma(n, r) + turn * (polygamma(n, 1 - x) - polygamma(n, 1 - r));
  }
  let sum = 0, factorial = 1;
  for (let k = 2; k < n; k++) factorial *= k;  // (n - 1)!
  const whole = n ? factorial * n : 1;
  for (; x < 20 + n; x++) sum += whole / Math.pow(x, n + 1);
  sum += whole / Math.pow(x, n + 1) / 2 + (n ? factorial / Math.pow(x, n) : -Math.log(x));
  let rising = whole * (n + 1) / 2, power = Math.pow(x, n + 2);  // (2k + n - 1)! / (2k)! and x^(2k + n)
  if (n === 0) rising = 1 / 2;
  BERNOULLI.forEach((b, k) => {
    sum += b * rising / power;
    rising *= (2 * k + n + 3) * (2 * k + n + 2) / ((2 * k + 4) * (2 * k + 3));
    power *= x * x;
  });
  return n % 2 ? sum : -sum;
}

const digamma = (x) => polygamma(0, x);
