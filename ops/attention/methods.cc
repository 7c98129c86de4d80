// The methods that are one part each.
#include "tenun/ops/attention/methods.h"

#include <cmath>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/router.h"

namespace tenun {
namespace {

double scale_of(const char* op, const Var& q, std::optional<double> scale) {
  check(!scale || std::isfinite(*scale), op, "the scale must be finite");
  return scale ? *scale : attn::default_scale(q);
}

}  // namespace

Var sdpa(const Var& q_, const Var& k_, const Var& v_, const SdpaOptions& options) {
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  attn::check_qkv("sdpa", q.value(), k.value(), v.value());
  check(options.dropout >= 0 && options.dropout < 1, "sdpa", "dropout must be in [0, 1), got {}",
        options.dropout);
  attn::FlashArgs args;
  args.scale = scale_of("sdpa", q, options.scale);
  args.dropout = options.dropout;
  args.key = options.key;
  return attn::flash(q, k, v, {}, std::move(args)).o;
}

SparseResult block_sparse_attention(const Var& q_, const Var& k_, const Var& v_, const Tensor& mask,
                                    int64_t block_q, int64_t block_k, std::optional<double> scale) {
  constexpr const char* kOp = "block_sparse_attention";
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  attn::check_qkv(kOp, q.value(), k.value(), v.value());
  check(mask.defined(), kOp, "needs a mask");
  attn::check_blocks(kOp, q.value(), k.value(), &mask, block_q, block_k);
  attn::FlashArgs args;
  args.scale = scale_of(kOp, q, scale);
  const attn::FlashVars r =
      attn::flash(q, k, v, {}, std::move(args), attn::block_lists(mask, block_q, block_k));
  return {r.o, r.lse};
}

Var linear_attention(const Var& q_, const Var& k_, const Var& v_, const Tensor& mask,
                     FeatureMap feature_map, double eps, int64_t block_q, int64_t block_k) {
  constexpr const char* kOp = "linear_attention";
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  attn::check_qkv(kOp, q.value(), k.value(), v.value());
  attn::check_blocks(kOp, q.value(), k.value(), &mask, block_q, block_k);
  check(eps >= 0, kOp, "eps must not be negative, got {}", eps);
  return attn::linear_complement(q, k, v, attn::flags(mask),
                                 {.feature_map = feature_map,
                                  .eps = eps,
                                  .block_q = block_q,
                                  .block_k = block_k,
                                  .weight = {}});
}

Var soft_topk(const Var& x, double target, double tau) {
  return attn::soft_topk(x, target, tau, {});
}

Tensor topk_block_map(const Tensor& q, const Tensor& k, const Tensor& router_q,
                      const Tensor& router_k, int64_t block_q, int64_t block_k, double topk_ratio,
                      SmoothK smooth_k) {
  constexpr const char* kOp = "topk_block_map";
  attn::check_qkv(kOp, q, k, k);
  attn::check_blocks(kOp, q, k, nullptr, block_q, block_k);
  const Tensor keys = smooth_k == SmoothK::yes ? attn::smoothed(k) : k;
  const NoGrad constant;
  const Var scores = attn::router_scores(kOp, q, keys, router_q, router_k, block_q, block_k);
  return attn::topk_blocks(scores.value(), attn::selected_count(topk_ratio, scores.dim(3)));
}

Var int8_attention(const Var& q_, const Var& k_, const Var& v_, const Tensor& mask, int64_t block_q,
                   int64_t block_k, Quant quant) {
  constexpr const char* kOp = "int8_attention";
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  attn::check_qkv(kOp, q.value(), k.value(), v.value());
  attn::check_blocks(kOp, q.value(), k.value(), &mask, block_q, block_k);
  attn::FlashArgs args;
  args.scale = attn::default_scale(q);
  check(quant.qk != LowBit::fp8, kOp, "fp8 is a type of pv; qk is none or int8");
  args.quant = quant;
  args.block_q = block_q, args.block_k = block_k;
  std::optional<attn::BlockLists> lists;
  if (mask.defined()) lists = attn::block_lists(mask, block_q, block_k);
  return attn::flash(q, k, v, {}, std::move(args), std::move(lists)).o;
}

}  // namespace tenun
