// SLA (arXiv 2509.24006): selector = pooled top-k, exact attention over the selected blocks, linear
// attention over all keys (`main`), the others (`complement`), or the others less the negligible
// ones (`paper`); the linear branch passes a projection that the heads share and is added.
#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/router.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/matmul.h"

namespace tenun {
namespace {

constexpr const char* kOp = "sla_attention";

void check_spec(const Var& q, const Var& k, const Var& v, const AttentionSpec& s,
                const AttentionParams& p) {
  attn::check_qkv(kOp, q.value(), k.value(), v.value());
  attn::check_blocks(kOp, q.value(), k.value(), nullptr, s.block_q, s.block_k);
  attn::check_ratio(kOp, "topk_ratio", s.topk_ratio);
  attn::check_ratio(kOp, "negligible_ratio", s.negligible_ratio);
  check(s.eps >= 0, kOp, "eps must not be negative, got {}", s.eps);
  check(s.prefix >= 0, kOp, "prefix must be a number of tokens, got {}", s.prefix);
  check(p.proj_weight.defined() && p.proj_bias.defined(), kOp,
        "needs the parameters proj_weight (D, D) and proj_bias (D)");
  const int64_t d = q.dim(3);
  check<ShapeError>(p.proj_weight.shape() == Shape{d, d} && p.proj_bias.shape() == Shape{d}, kOp,
                    "needs proj_weight ({}, {}) and proj_bias ({}), got {} and {}", d, d, d,
                    p.proj_weight.value(), p.proj_bias.value());
}

}  // namespace

AttentionOutput sla_attention(const Var& q_, const Var& k_, const Var& v_,
                              const AttentionSpec& spec, const AttentionParams& params) {
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  check_spec(q, k, v, spec, params);
  const int64_t tn = attn::blocks(k.dim(2), spec.block_k);
  const attn::Forced forced =
      attn::forced_by(spec.prefix, q.value(), k.value(), spec.block_q, spec.block_k);
  const Tensor scores = attn::router_scores(kOp, q.value(), attn::smoothed(k.value()), {}, {},
                                            spec.block_q, spec.block_k)
                            .value();
  const int64_t count = attn::selected_count(spec.topk_ratio, tn);
  AttentionOutput out;
  out.mask = attn::topk_blocks(scores, count, forced);

  Tensor apart;  // what the linear branch does not see
  if (spec.variant == SlaVariant::complement) apart = out.mask;
  if (spec.variant == SlaVariant::paper)
    apart = attn::with_lowest(out.mask, scores,
                              std::min(attn::share_of(spec.negligible_ratio, tn), tn - count));
  attn::FlashArgs args;
  args.scale = attn::default_scale(q);
  args.block_q = spec.block_q, args.block_k = spec.block_k;
  args.quant = spec.quant;
  const attn::FlashVars exact = attn::flash(
      q, k, v, {}, std::move(args), attn::block_lists(out.mask, spec.block_q, spec.block_k));
  const Var rest = attn::linear_complement(q, k, v, apart,
                                           {.feature_map = spec.feature_map,
                                            .eps = spec.eps,
                                            .block_q = spec.block_q,
                                            .block_k = spec.block_k,
                                            .weight = {}});
  out.o = exact.o + linear(rest, cast(params.proj_weight, rest.dtype()),
                           cast(params.proj_bias, rest.dtype()));
  if (!spec.quant.any()) out.lse = exact.lse.value();
  out.stats = {{attn::density, out.mask}, 1, out.mask.dim(2), out.mask.dim(3)};
  return out;
}

}  // namespace tenun
