// What the tests of attention share: inputs, comparisons, a spec of sla2.
#pragma once
#include <doctest/doctest.h>

#include <cmath>

#include "tenun/core/random.h"
#include "tenun/ops/attention/methods.h"

namespace tenun::test {

inline Tensor normal(const Shape& shape, uint64_t i, DType dtype = DType::f64, double spread = 1,
                     double offset = 0) {
  Tensor t(shape, dtype);
  fill_normal(t, RandomKey::derive(11, Purpose::test, i), offset, spread);
  return t;
}

inline void close(const Tensor& got, const std::vector<double>& want, double tolerance) {
  const auto v = got.values<double>();
  REQUIRE(v.size() == want.size());
  for (size_t i = 0; i < v.size(); ++i) {
    INFO("element ", i, ": got ", v[i], ", expected ", want[i]);
    CHECK(std::abs(v[i] - want[i]) <= tolerance);
  }
}

// Infinities must agree; they do not count.
inline double relative_l1(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  REQUIRE(x.size() == y.size());
  double error = 0, size = 1e-30;
  for (size_t i = 0; i < x.size(); ++i) {
    if (std::isinf(x[i]) && x[i] == y[i]) continue;
    error += std::abs(x[i] - y[i]), size += std::abs(y[i]);
  }
  return error / size;
}

inline double cosine(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) xy += x[i] * y[i], xx += x[i] * x[i], yy += y[i] * y[i];
  return xy / std::sqrt(xx * yy);
}

inline bool same(const Tensor& a, const Tensor& b) {
  return a.values<double>() == b.values<double>();
}

inline AttentionSpec sla2_spec(RouterMode mode) {
  AttentionSpec s;
  s.method = AttentionMethod::sla2;
  s.block_q = 8, s.block_k = 4, s.topk_ratio = 0.4;
  s.mode = mode, s.tau = 0.5, s.eps = 0;
  return s;
}

struct Inputs {
  Var q, k, v;
  AttentionParams params;
  Inputs(int64_t b, int64_t h, int64_t nq, int64_t nk, int64_t d, DType type = DType::f64)
      : q(normal({b, h, nq, d}, 1, type)),
        k(normal({b, h, nk, d}, 2, type)),
        v(normal({b, h, nk, d}, 3, type)) {
    params.router_q = normal({d, d}, 4, type), params.router_k = normal({d, d}, 5, type);
    params.alpha = normal({h}, 6, type), params.proj_l = normal({h * d, h * d}, 7, type);
    params.proj_weight = normal({d, d}, 8, type), params.proj_bias = normal({d}, 9, type);
  }
};

}  // namespace tenun::test
