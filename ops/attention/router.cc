#include "tenun/ops/attention/router.h"

#include <cmath>

#include "tenun/core/check.h"
#include "tenun/ops/matmul.h"

namespace tenun::attn {
namespace {

Var project(const char* op, const Var& pooled, const Var& w) {
  if (!w.defined()) return pooled;
  const int64_t d = pooled.dim(3);
  check<ShapeError>(w.shape() == Shape{d, d}, op, "a router matrix must be ({}, {}), got {}", d, d,
                    w.value());
  return linear(pooled, cast(w, pooled.dtype()));
}

}  // namespace

Var pooled_scores(const char* op, const Var& pooled_q, const Var& pooled_k, const Var& router_q,
                  const Var& router_k) {
  const Autocast off(DType::f32);
  return block_scores(project(op, pooled_q, router_q), project(op, pooled_k, router_k),
                      1 / std::sqrt(static_cast<double>(pooled_q.dim(3))));
}

Var router_scores(const char* op, const Tensor& q, const Tensor& k, const Var& router_q,
                  const Var& router_k, int64_t block_q, int64_t block_k) {
  return pooled_scores(op, block_mean(q, block_q), block_mean(k, block_k), router_q, router_k);
}

Tensor flags(const Tensor& mask) {
  if (!mask.defined() || mask.dtype() == DType::u8) return mask;
  return mask.to(DType::boolean).to(DType::u8);
}

double mean_gate(const Tensor& alpha) {
  double sum = 0;
  if (!alpha.defined()) return 1;
  const auto v = alpha.values<double>();
  for (const double x : v) sum += 1 / (1 + std::exp(-x));
  return v.empty() ? 1 : sum / static_cast<double>(v.size());
}

}  // namespace tenun::attn
