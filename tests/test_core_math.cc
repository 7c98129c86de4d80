// The f32 polynomials of core/math.h against long double: the largest error in units in the last
// place over dense sweeps, and special values.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "tenun/core/math.h"

using namespace tenun;

namespace {

using Exact = long double (*)(long double);
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// |got - exact| in units of the spacing of floats at the exact value.
double ulps(float got, long double exact) {
  const long double a = std::abs(exact);
  const int e = a < 0x1p-126L ? -126 : std::ilogb(a);
  return static_cast<double>(std::abs(static_cast<long double>(got) - exact) /
                             std::ldexp(1.0L, e - 23));
}

struct Worst {
  double ulps = 0;
  float at = 0;
  void see(float x, float got, long double exact) {
    const double u = ::ulps(got, exact);
    if (!(u <= ulps)) ulps = u, at = x;
  }
};

// The worst error over `n` points in [from, to], evenly spaced.
template <class F>
Worst sweep(F f, Exact exact, double from, double to, int n = 400000) {
  Worst w;
  for (int i = 0; i <= n; ++i) {
    const auto x = static_cast<float>(from + (to - from) * i / n);
    w.see(x, f(x), exact(static_cast<long double>(x)));
  }
  return w;
}
// The same over magnitudes: every `step`-th float between two positive ones, and its negative.
template <class F>
Worst sweep_bits(F f, Exact exact, float from, float to, uint32_t step, bool both_signs) {
  Worst w;
  for (auto b = std::bit_cast<uint32_t>(from); b <= std::bit_cast<uint32_t>(to); b += step)
    for (const float x : {std::bit_cast<float>(b), -std::bit_cast<float>(b)})
      if (x > 0 || both_signs) w.see(x, f(x), exact(static_cast<long double>(x)));
  return w;
}

long double logistic(long double x) { return 1 / (1 + std::exp(-x)); }

#define CHECK_ULPS(worst, most)               \
  do {                                        \
    const Worst w = worst;                    \
    INFO("worst ", w.ulps, " ulp at ", w.at); \
    CHECK(w.ulps <= most);                    \
  } while (false)

}  // namespace

TEST_SUITE("core_math") {
  TEST_CASE("exp and expm1") {
    const auto f = [](float x) { return math::exp(x); };
    const auto g = [](float x) { return math::expm1(x); };
    CHECK_ULPS(sweep(f, std::exp, -87.33, 88.72, 2000000), 2);
    CHECK_ULPS(sweep_bits(f, std::exp, 1e-30f, 1.0f, 1021, true), 1);
    CHECK_ULPS(sweep(g, std::expm1, -87.3, 88.7, 1000000), 2.5);
    CHECK_ULPS(sweep_bits(g, std::expm1, 1e-30f, 2.0f, 521, true), 2.5);
    for (const float x : {0.0f, -0.0f}) {
      CHECK(math::exp(x) == 1.0f);
      CHECK(math::expm1(x) == 0.0f);
    }
    CHECK(math::exp(-100.0f) == 0.0f);
    CHECK(math::exp(-kInf) == 0.0f);
    CHECK(math::exp(88.8f) == kInf);
    CHECK(math::exp(kInf) == kInf);
    CHECK(std::isnan(math::exp(kNan)));
    CHECK(math::exp(88.72f) < kInf);
    CHECK(math::expm1(-kInf) == -1.0f);
    CHECK(math::expm1(kInf) == kInf);
    CHECK(std::isnan(math::expm1(kNan)));
  }

  TEST_CASE("log and log1p") {
    const auto f = [](float x) { return math::log(x); };
    const auto g = [](float x) { return math::log1p(x); };
    CHECK_ULPS(sweep_bits(f, std::log, 0x1p-149f, 3.4e38f, 1021, false), 2.5);
    CHECK_ULPS(sweep(f, std::log, 0.5, 2.0, 2000000), 2.5);
    CHECK_ULPS(sweep_bits(g, std::log1p, 1e-30f, 3.4e38f, 1021, false), 3.5);
    CHECK_ULPS(sweep(g, std::log1p, -0.999, 1.0, 1000000), 3.5);
    CHECK(math::log(1.0f) == 0.0f);
    CHECK(math::log(0.0f) == -kInf);
    CHECK(math::log(-0.0f) == -kInf);
    CHECK(std::isnan(math::log(-1.0f)));
    CHECK(math::log(kInf) == kInf);
    CHECK(std::isnan(math::log(kNan)));
    CHECK(math::log1p(-1.0f) == -kInf);
    CHECK(math::log1p(0.0f) == 0.0f);
    CHECK(math::log1p(kInf) == kInf);
    CHECK(std::isnan(math::log1p(-2.0f)));
    CHECK(std::isnan(math::log1p(kNan)));
  }

  TEST_CASE("tanh") {
    const auto f = [](float x) { return math::tanh(x); };
    CHECK_ULPS(sweep(f, std::tanh, -12, 12, 2000000), 3);
    CHECK_ULPS(sweep_bits(f, std::tanh, 1e-30f, 20.0f, 1021, true), 3);
    CHECK(math::tanh(0.0f) == 0.0f);
    CHECK(math::tanh(kInf) == 1.0f);
    CHECK(math::tanh(-kInf) == -1.0f);
    CHECK(std::isnan(math::tanh(kNan)));
  }

  TEST_CASE("erf") {
    const auto f = [](float x) { return math::erf(x); };
    CHECK_ULPS(sweep(f, std::erf, -5, 5, 2000000), 3);
    CHECK_ULPS(sweep_bits(f, std::erf, 1e-30f, 10.0f, 1021, true), 3);
    CHECK(math::erf(0.0f) == 0.0f);
    CHECK(math::erf(kInf) == 1.0f);
    CHECK(math::erf(-kInf) == -1.0f);
    CHECK(std::isnan(math::erf(kNan)));
  }

  TEST_CASE("sin and cos") {
    const auto f = [](float x) { return math::sin(x); };
    const auto g = [](float x) { return math::cos(x); };
    for (const double most : {4.0, 100.0, 1e6, 1e9}) {
      CHECK_ULPS(sweep(f, std::sin, -most, most, 500000), 2);
      CHECK_ULPS(sweep(g, std::cos, -most, most, 500000), 2);
    }
    CHECK_ULPS(sweep_bits(f, std::sin, 1e-30f, 1e9f, 1021, true), 2);
    CHECK_ULPS(sweep_bits(g, std::cos, 1e-30f, 1e9f, 1021, true), 2);
    CHECK(math::sin(0.0f) == 0.0f);
    CHECK(math::cos(0.0f) == 1.0f);
    for (const float x : {kInf, -kInf, kNan}) {
      CHECK(std::isnan(math::sin(x)));
      CHECK(std::isnan(math::cos(x)));
    }
    CHECK(std::abs(math::sin(3e38f)) <= 1.0f);
  }

  TEST_CASE("sigmoid") {
    const auto f = [](float x) { return math::sigmoid(x); };
    CHECK_ULPS(sweep(f, logistic, -87, 88, 1000000), 4);
    CHECK_ULPS(sweep(f, logistic, -4, 4, 1000000), 3);
    CHECK(math::sigmoid(0.0f) == 0.5f);
    CHECK(math::sigmoid(kInf) == 1.0f);
    CHECK(math::sigmoid(-kInf) == 0.0f);
    CHECK(std::isnan(math::sigmoid(kNan)));
  }

  TEST_CASE("sine and cosine of turns") {
    Worst s, c;
    for (int i = 0; i <= 1 << 20; ++i) {
      const auto u = static_cast<float>(i) * 0x1p-20f;
      float a = 0, b = 0;
      math::sincos_turns(u, a, b);
      const long double angle = 2 * std::numbers::pi_v<long double> * static_cast<long double>(u);
      if (std::abs(std::sin(angle)) > 1e-9L) s.see(u, a, std::sin(angle));
      if (std::abs(std::cos(angle)) > 1e-9L) c.see(u, b, std::cos(angle));
    }
    CHECK_ULPS(s, 3);
    CHECK_ULPS(c, 3);
    for (const float u : {0.0f, 0.25f, 0.5f, 0.75f, 1.0f}) {
      float a = 2, b = 2;
      math::sincos_turns(u, a, b);
      CHECK(std::abs(static_cast<double>(a) - std::round(std::sin(2 * std::numbers::pi * u))) == 0);
      CHECK(std::abs(static_cast<double>(b) - std::round(std::cos(2 * std::numbers::pi * u))) == 0);
    }
  }
}
