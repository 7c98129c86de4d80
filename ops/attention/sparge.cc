// SpargeAttention (arXiv 2502.18137), training-free: pooled scores choose the blocks of a row by
// cdf or top-k; blocks whose tokens are unlike each other have no representative mean and are kept
// whole: key blocks for all queries, query blocks with all keys. Also `sparse`: any selector alone.
#include <algorithm>
#include <vector>

#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/router.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"
#include "tenun/ops/attention/select_rows.h"

namespace tenun {
namespace {

constexpr const char* kOp = "sparge_attention";

// 1 for the blocks of x (B, H, N, D) whose mean cosine between tokens, themselves included, is at
// most theta: with unit tokens, |sum|^2 / n^2. A zero token stays zero.
std::vector<double> unlike_blocks(const Tensor& x_, int64_t block, double theta) {
  const Tensor x = attn::compute_rows(x_).contiguous(), square = attn::row_dot(x, x);
  const int64_t n = x.dim(2), d = x.dim(3), count = attn::blocks(n, block);
  Tensor sums({x.dim(0), x.dim(1), count, d}, x.dtype(), x.device());
  visit<DType::f32, DType::f64>(x.dtype(), kOp, [&]<class T>() {
    attn::run_rows(x.device(), sums.numel() / d, 4 * block * d, [&] {
      return attn::UnitSums<T>{x.data<T>(), square.data<T>(), sums.mutable_data<T>(), n, d, block,
                               count};
    });
  });
  std::vector<double> unlike = attn::row_dot(sums, sums).values<double>();
  for (int64_t i = 0; i < std::ssize(unlike); ++i) {
    const auto tokens = static_cast<double>(std::min(block, n - i % count * block));
    double& v = unlike[static_cast<size_t>(i)];
    v = v / (tokens * tokens) <= theta ? 1 : 0;
  }
  return unlike;
}

// The masks are put together on the host.
Tensor sparge_mask(const Tensor& q, const Tensor& k, const AttentionSpec& spec) {
  const Tensor keys = spec.smooth_k ? attn::smoothed(k) : k;
  Tensor scores = attn::router_scores(kOp, q, keys, {}, {}, spec.block_q, spec.block_k)
                      .value()
                      .to(cpu())
                      .clone();
  const int64_t tm = scores.dim(2), tn = scores.dim(3), heads = scores.dim(0) * scores.dim(1);
  const auto rows = unlike_blocks(q, spec.block_q, spec.theta),
             cols = unlike_blocks(keys, spec.block_k, spec.theta);
  const auto each = [&](auto&& f) {
    for (int64_t i = 0; i < heads * tm; ++i)
      for (int64_t j = 0; j < tn; ++j)
        f(i * tn + j, rows[static_cast<size_t>(i)] != 0,
          cols[static_cast<size_t>(i / tm * tn + j)] != 0);
  };
  visit<DType::f32, DType::f64>(scores.dtype(), kOp, [&]<class T>() {
    T* const x = scores.mutable_data<T>();
    each([&](int64_t at, bool, bool column) {
      if (column) x[at] = -std::numeric_limits<T>::infinity();
    });
  });
  Tensor mask = attn::select_blocks(kOp, scores, spec,
                                    attn::forced_by(spec.prefix, q, k, spec.block_q, spec.block_k));
  uint8_t* const m = mask.mutable_data<uint8_t>();
  each([&](int64_t at, bool row, bool column) { m[at] |= row || column ? 1 : 0; });
  return mask.to(q.device());
}

AttentionOutput over_mask(const Var& q, const Var& k, const Var& v, const AttentionSpec& spec,
                          Tensor mask) {
  attn::FlashArgs args;
  args.scale = spec.scale.value_or(attn::default_scale(q));
  args.block_q = spec.block_q, args.block_k = spec.block_k;
  args.quant = spec.quant;
  const attn::FlashVars exact = attn::flash(q, k, v, {}, std::move(args),
                                            attn::block_lists(mask, spec.block_q, spec.block_k));
  AttentionOutput out;
  out.o = exact.o;
  if (!spec.quant.any()) out.lse = exact.lse.value();
  out.stats = {{attn::density, mask}, 1, mask.dim(2), mask.dim(3)};
  out.mask = std::move(mask);
  return out;
}

void check_spec(const char* op, const Var& q, const Var& k, const Var& v, const AttentionSpec& s) {
  attn::check_qkv(op, q.value(), k.value(), v.value());
  attn::check_blocks(op, q.value(), k.value(), nullptr, s.block_q, s.block_k);
  attn::check_ratio(op, "topk_ratio", s.topk_ratio);
  check(s.prefix >= 0, op, "prefix must be a number of tokens, got {}", s.prefix);
}

}  // namespace

AttentionOutput sparge_attention(const Var& q_, const Var& k_, const Var& v_,
                                 const AttentionSpec& spec) {
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  check_spec(kOp, q, k, v, spec);
  return over_mask(q, k, v, spec, sparge_mask(q.value(), k.value(), spec));
}

AttentionOutput sparse_attention(const Var& q_, const Var& k_, const Var& v_,
                                 const AttentionSpec& spec, const AttentionParams& params) {
  constexpr const char* kSparse = "sparse_attention";
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  check_spec(kSparse, q, k, v, spec);
  check(!spec.scale || std::isfinite(*spec.scale), kSparse, "the scale must be finite");
  attn::check_blocks(kSparse, q.value(), k.value(), &params.mask, spec.block_q, spec.block_k);
  if (params.mask.defined()) return over_mask(q, k, v, spec, attn::flags(params.mask));
  const Tensor scores = attn::router_scores(kSparse, q.value(), k.value(), params.router_q.detach(),
                                            params.router_k.detach(), spec.block_q, spec.block_k)
                            .value();
  return over_mask(q, k, v, spec,
                   attn::select_blocks(kSparse, scores, spec,
                                       attn::forced_by(spec.prefix, q.value(), k.value(),
                                                       spec.block_q, spec.block_k)));
}

}  // namespace tenun
