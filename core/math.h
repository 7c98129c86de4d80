// Elementary functions for f32 as branch-free polynomials, one text for host and device: compilers
// vectorise loops over them, and CPU and CUDA agree to the last bits. Errors against exact values
// are at most about 2 ulp in the normal range (tests/test_core_math.cc measures them). f64 goes to
// <cmath>. Coefficients: weighted least-squares fits to the exact functions (iterated towards
// minimax).
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "tenun/core/philox.h"

namespace tenun::math {

/// a b + c with one rounding, on host and device.
TENUN_HD inline float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
TENUN_HD inline double fma(double a, double b, double c) { return ::fma(a, b, c); }

/// e^x = 2^n (1 + p) with an integer n and |log(1 + p)| <= log(2) / 2: what exp, expm1 and
/// exp_in_range have in common. `bits` are those of n + 1.5 * 2^23: n is in the low ones.
struct ExpParts {
  float p;
  uint32_t bits;
};
TENUN_HD inline ExpParts exp_parts(float x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float q = 0.0013942162f;
  q = q * r + 0.008363778f;
  q = q * r + 0.041666362f;
  q = q * r + 0.16666573f;
  q = q * r + 0.5f;
  return {q * (r * r) + r, std::bit_cast<uint32_t>(shifted)};
}

/// e^x; 0 below -87.34 (no denormals), infinity above 88.72.
TENUN_HD inline float exp(float x) {
  const float c = x < -87.33654f ? -87.33654f : x > 88.72283f ? 88.72283f : x;
  const auto [p, bits] = exp_parts(c);
  const float y = p + 1.0f;
  // 2^n in two factors, so that n = 128 does not overflow on the way.
  const auto k = static_cast<int32_t>(bits) - 0x4b400000;
  const auto half = k >> 1;
  const float a = std::bit_cast<float>((half + 127) << 23),
              b = std::bit_cast<float>((k - half + 127) << 23);
  const float v = y * a * b;
  return x < -87.33654f ? 0.0f : x > 88.72283f ? __builtin_inff() : v;
}
TENUN_HD inline double exp(double x) { return std::exp(x); }

/// e^x - 1, without cancellation at small x; -1 below -87.34, infinity above 88.72.
TENUN_HD inline float expm1(float x) {
  const float c = x < -87.33654f ? -87.33654f : x > 88.72283f ? 88.72283f : x;
  const auto [p, bits] = exp_parts(c);  // the result is 2^n p + (2^n - 1), both halved
  const auto k = static_cast<int32_t>(bits) - 0x4b400000;
  const float half = std::bit_cast<float>((k + 126) << 23);
  const float y = 2.0f * (half * p + (half - 0.5f));
  return x > 88.72283f ? __builtin_inff() : x < -87.33654f ? -1.0f : x == x ? y : x;
}
TENUN_HD inline double expm1(double x) { return std::expm1(x); }

/// Natural logarithm; -infinity at 0, NaN below.
TENUN_HD inline float log(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const float z = tiny ? x * 0x1p23f : x;
  const auto bits = std::bit_cast<uint32_t>(z);  // of a negative x they wrap; the result is NaN
  const auto e =
      static_cast<int32_t>(bits - 0x3f3504f3u) >> 23;  // mantissa in [sqrt(1/2), sqrt(2))
  const float m = std::bit_cast<float>(bits - (static_cast<uint32_t>(e) << 23));
  const float f = m - 1.0f, s = f / (2.0f + f), w = s * s;
  // log(1+f) = 2 artanh(s) = 2 s + 2 s (w/3 + w^2/5 + ...), arranged around f to keep its bits
  const float series =
      w * (0.66666667f + w * (0.4f + w * (0.28571429f + w * (0.22222222f + w * 0.18181818f))));
  const float h = 0.5f * f * f;
  const float n = static_cast<float>(e) - (tiny ? 23.0f : 0.0f);
  const float y = f - (h - (s * (h + series) + n * -2.12194440e-4f)) + n * 0.693359375f;
  return x > 0 ? (x <= 3.4028235e38f ? y : x) : x == 0 ? -__builtin_inff() : __builtin_nanf("");
}
TENUN_HD inline double log(double x) { return std::log(x); }

/// log(1 + x), accurate at small x: the rounding of 1 + x is undone to first order.
TENUN_HD inline float log1p(float x) {
  const float u = 1.0f + x, d = u - 1.0f;
  const float y = d == 0 ? x : log(u) * (x / d);
  return x <= 3.4028235e38f ? y : x;
}
TENUN_HD inline double log1p(double x) { return std::log1p(x); }

namespace detail {
// sin(x) for turn = 0, cos(x) for turn = 1: the polynomial of the quadrant that x + turn pi / 2 is
// in. The distance to the nearest multiple of pi / 2 is formed in f64, pi / 2 in two parts.
TENUN_HD inline float sine(float x, int32_t turn) {
  constexpr float kLimit = 0x1p30f;
  const float c = x > kLimit ? 0.0f : x < -kLimit ? 0.0f : x;
  const auto wide = static_cast<double>(c);
  const double shifted = fma(wide, 0.63661977236758134, 6755399441055744.0);  // 1.5 * 2^52
  const double n = shifted - 6755399441055744.0;
  const double rest = fma(-n, 6.123233995736766e-17, fma(-n, 1.5707963267948966, wide));
  const auto r = static_cast<float>(rest);
  const float z = r * r;
  const float s = fma(
      r * z, fma(z, fma(z, fma(z, 2.7557319e-6f, -1.9841270e-4f), 8.3333333e-3f), -0.16666667f), r);
  const float k =
      fma(z, fma(z, fma(z, fma(z, 2.4801587e-5f, -1.3888889e-3f), 4.1666667e-2f), -0.5f), 1.0f);
  const int32_t q = static_cast<int32_t>(n) + turn;
  const float y = (q & 1) != 0 ? k : s;
  return ((q & 2) != 0 ? -y : y) + (x - x);  // infinity has no sine
}
}  // namespace detail
/// For |x| <= 2^30; beyond, where neighbouring floats lie 20 turns apart, those of 0.
TENUN_HD inline float sin(float x) { return detail::sine(x, 0); }
TENUN_HD inline float cos(float x) { return detail::sine(x, 1); }
TENUN_HD inline double sin(double x) { return std::sin(x); }
TENUN_HD inline double cos(double x) { return std::cos(x); }

/// sin and cos of 2 pi u for u in [0, 1].
TENUN_HD inline void sincos_turns(float u, float& s, float& c) {
  const float q = static_cast<float>(static_cast<int32_t>(4.0f * u + 0.5f));
  const float x = (u - 0.25f * q) * 6.28318531f, z = x * x;
  const float sx =
      x + x * z * (-0.16666667f + z * (8.3333333e-3f + z * (-1.9841270e-4f + z * 2.7557319e-6f)));
  const float cx =
      1.0f + z * (-0.5f + z * (4.1666667e-2f + z * (-1.3888889e-3f + z * 2.4801587e-5f)));
  const int32_t k = static_cast<int32_t>(q) & 3;
  const float a = (k & 1) != 0 ? cx : sx, b = (k & 1) != 0 ? sx : cx;
  s = (k & 2) != 0 ? -a : a;
  c = k == 1 || k == 2 ? -b : b;
}

/// e^x for -87.33 <= x <= 89 without the care that exp takes at the ends (three quarters of its
/// time): infinity from 88.38 on, anything outside the range.
TENUN_HD inline float exp_in_range(float x) {
  const auto [p, bits] = exp_parts(x);
  return (p + 1.0f) * std::bit_cast<float>((bits << 23) + 0x3f800000u);
}
/// e^x for x <= 0 with the bits of exp.
TENUN_HD inline float exp_below_zero(float x) {
  const float y = exp_in_range(x < -87.33654f ? -87.33654f : x);
  return x < -87.33654f ? 0.0f : y;
}
TENUN_HD inline double exp_below_zero(double x) { return std::exp(x); }

TENUN_HD inline float sigmoid(float x) {
  // Below -87 the 1 swallows e^x; 89 gives infinity, and 0 for the quotient.
  const float c = x < -89.0f ? 89.0f : x > 87.0f ? -87.0f : -x;
  return 1.0f / (1.0f + exp_in_range(c));
}
TENUN_HD inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

TENUN_HD inline float tanh(float x) {
  const float a = x < 0 ? -x : x, z = x * x;
  float q = -0.006113184f;
  q = q * z + 0.021010075f;
  q = q * z - 0.053854067f;
  q = q * z + 0.13332795f;
  q = q * z - 0.3333333f;
  const float small = x + x * z * q;
  const float t = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
  const float large = x < 0 ? -t : t;
  return a < 0.625f ? small : x == x ? large : x;
}
TENUN_HD inline double tanh(double x) { return std::tanh(x); }

TENUN_HD inline float erf(float x) {
  const float a = x < 0 ? -x : x, z = x * x;
  float p = 7.889122e-05f;
  p = fma(p, z, -8.020842e-04f);
  p = fma(p, z, 0.0051895354f);
  p = fma(p, z, -0.026854445f);
  p = fma(p, z, 0.112836f);
  p = fma(p, z, -0.37612627f);
  p = fma(p, z, 1.1283792f);
  const float small = x * p;
  const float t = a > 4.0f ? 4.0f : a;
  float g = -4.3143955e-06f;
  g = fma(g, t, 3.7932088e-05f);
  g = fma(g, t, 8.883739e-05f);
  g = fma(g, t, -0.0030394448f);
  g = fma(g, t, 0.022852521f);
  g = fma(g, t, -0.10543347f);
  g = fma(g, t, -0.63553644f);
  g = fma(g, t, -1.1285711f);
  const float y = 1.0f - exp_in_range(t * g);  // erfc(t) = e^(t g(t)), t g(t) > -17
  const float large = x < 0 ? -y : y;
  return a < 1.0f ? small : x == x ? large : x;
}
TENUN_HD inline double erf(double x) { return std::erf(x); }

}  // namespace tenun::math
