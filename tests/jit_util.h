// What the tests of the JiT network share: tiny networks, the fill rule of the reference numbers,
// comparisons.
#pragma once
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tenun/core/random.h"
#include "tenun/models/jit.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/reduce.h"

namespace tenun::test {

inline JiTOptions tiny() {
  JiTOptions o;
  o.input_size = 32, o.patch_size = 4, o.hidden_size = 32, o.depth = 4, o.num_heads = 2;
  o.num_classes = 3, o.bottleneck_dim = 8, o.in_context_len = 8, o.in_context_start = 1;
  return o;
}
inline JiTOptions tiny_pixelgen(RouterMode mode = RouterMode::hard) {
  JiTOptions o = tiny();
  o.use_sla2 = true;
  o.sla2_topk_ratio = 0.25, o.sla2_compression_ratio = 8, o.sla2_router_mode = mode;
  return o;
}
inline JiTOptions tiny_native(double ratio = 0.25) {
  JiTOptions o = tiny();
  o.attention.method = "sla2";
  o.attention.block_q = o.attention.block_k = 8;
  o.attention.topk_ratio = ratio;
  return o;
}

/// A network that owns its parameters.
struct Net {
  ParameterStore store;
  JiT jit;
  explicit Net(const JiTOptions& o, DType dtype = DType::f32, uint64_t seed = 7)
      : store(seed, dtype), jit(store.root(), o) {}
};

/// The fill rule of the reference numbers: every tensor but pos_embed.
inline void fill_sines(ParameterStore& store) {
  int64_t n = 0;
  for (Parameter& p : store) {
    if (p.name != "pos_embed") {
      const bool norm = p.name.find("norm") != std::string::npos && p.name.ends_with("weight");
      std::vector<double> v(static_cast<size_t>(p.var.numel()));
      for (size_t j = 0; j < v.size(); ++j)
        v[j] = 0.1 * std::sin(0.7 * static_cast<double>(j) + 1.1 * static_cast<double>(n) + 0.3) +
               (norm ? 1 : 0);
      p.var.mutable_value().copy_(Tensor::from(v, p.var.shape()));
    }
    ++n;
  }
}
inline Tensor wave(const Shape& shape, DType dtype = DType::f32) {
  std::vector<double> v(static_cast<size_t>(shape.numel()));
  for (size_t j = 0; j < v.size(); ++j) v[j] = std::sin(0.13 * static_cast<double>(j) + 0.5);
  return Tensor::from(v, shape).to(dtype);
}
inline Tensor times(DType dtype = DType::f32) { return Tensor::from({0.25, 0.8}, {2}).to(dtype); }
inline Tensor labels() { return Tensor::from<int64_t>({1, 3}, {2}); }

struct Summary {
  double mean = 0, deviation = 0, largest = 0;
  std::vector<double> v;
  explicit Summary(const Tensor& t) : v(t.values<double>()) {
    for (const double x : v) mean += x / static_cast<double>(v.size());
    for (const double x : v)
      deviation += (x - mean) * (x - mean), largest = std::max(largest, std::abs(x));
    deviation = std::sqrt(deviation / static_cast<double>(v.size() - 1));
  }
};
inline void check_near(double value, double expected, double tolerance) {
  INFO(fmt::format("{} should be {}", value, expected));
  CHECK(std::abs(value - expected) <= tolerance);
}
inline void check_numbers(const Tensor& t, double mean, double deviation,
                          const std::vector<double>& first, const std::vector<double>& last = {},
                          double largest = -1) {
  const Summary s(t);
  check_near(s.mean, mean, 3e-7);
  check_near(s.deviation, deviation, 3e-7);
  if (largest >= 0) check_near(s.largest, largest, 2e-6);
  for (size_t i = 0; i < first.size(); ++i) check_near(s.v[i], first[i], 2e-6);
  for (size_t i = 0; i < last.size(); ++i)
    check_near(s.v[s.v.size() - last.size() + i], last[i], 2e-6);
}

inline double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.values<double>(), y = b.values<double>();
  double d = 0;
  for (size_t i = 0; i < x.size(); ++i) d = std::max(d, std::abs(x[i] - y[i]));
  return d;
}
inline bool same_bits(const Tensor& a, const Tensor& b) { return distance(a, b) == 0; }

/// The parameters of `from` by name into `into`.
inline void copy_weights(ParameterStore& into, const ParameterStore& from) {
  for (const Parameter& p : from)
    if (Parameter* q = into.find(p.name)) q->var.mutable_value().copy_(p.var.value());
}
/// Initial weights leave every block an identity; noise on top makes all of them matter.
inline void shake(ParameterStore& store, double deviation = 0.05) {
  uint64_t n = 0;
  for (Parameter& p : store) {
    ++n;
    if (p.trainable == Trainable::no) continue;
    Tensor noise(p.var.shape(), p.var.dtype());
    fill_normal(noise, RandomKey::derive(5, Purpose::test, n), 0, deviation);
    p.var.mutable_value().add_(noise);
  }
}
inline Tensor image_of(const Net& n, const JiTForward& f = {}) {
  const DType d = n.store.dtype();
  return n.jit(wave({2, 3, 32, 32}, d), times(d), labels(), f).image.value();
}
inline Var square_mean(const Var& x) { return mean(x * x); }

}  // namespace tenun::test
