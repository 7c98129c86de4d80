#include "tenun/ops/attention/attention.h"

#include "tenun/core/check.h"
#include "tenun/core/profile.h"
#include "tenun/ops/attention/methods.h"

namespace tenun {
namespace {

AttentionOutput sage(const Var& q, const Var& k, const Var& v, const AttentionSpec& spec) {
  AttentionOutput out;
  const Quant quant = spec.quant.any() ? spec.quant : Quant{LowBit::int8, LowBit::none};
  out.o = int8_attention(q, k, v, {}, spec.block_q, spec.block_k, quant);
  return out;
}

AttentionOutput only_linear(const Var& q, const Var& k, const Var& v, const AttentionSpec& spec) {
  AttentionOutput out;
  out.o = linear_attention(q, k, v, {}, spec.feature_map, spec.eps, spec.block_q, spec.block_k);
  out.stats.density = 0;
  return out;
}

}  // namespace

AttentionOutput attention(const Var& q, const Var& k, const Var& v, const AttentionSpec& spec,
                          const AttentionParams& params) {
  const bool scaled =
      spec.method == AttentionMethod::dense || spec.method == AttentionMethod::sparse;
  const Section section("attention");
  check(spec.dropout == 0 || spec.method == AttentionMethod::dense, "attention",
        "only method dense has dropout of the probabilities, not {}", name(spec.method));
  check(!spec.scale || scaled, "attention",
        "method {} has no scale of its own; leave it at 1/sqrt(D)", name(spec.method));
  check(!params.q_step.defined() || spec.method == AttentionMethod::sla2 ||
            spec.method == AttentionMethod::automatic,
        "attention", "only sla2 learns the units of its integers, not {}", name(spec.method));
  switch (spec.method) {
    case AttentionMethod::automatic: {
      check<ShapeError>(k.rank() == 4, "attention", "needs k (B, H, Nk, D), got {}", k.value());
      AttentionSpec chosen = spec;
      chosen.method = automatic_method(spec.topk_ratio, k.dim(2));
      AttentionParams own = params;
      if (chosen.method != AttentionMethod::sla2) own.q_step = own.k_step = {};
      return attention(q, k, v, chosen, own);
    }
    case AttentionMethod::dense: {
      AttentionOutput out;
      out.o = sdpa(q, k, v, {.scale = spec.scale, .dropout = spec.dropout, .key = spec.key});
      return out;
    }
    case AttentionMethod::sage: return sage(q, k, v, spec);
    case AttentionMethod::sla2: return sla2_attention(q, k, v, spec, params);
    case AttentionMethod::sla: return sla_attention(q, k, v, spec, params);
    case AttentionMethod::pixelgen_sla2: return pixelgen_sla2(q, k, v, spec, params);
    case AttentionMethod::vsa: return vsa_attention(q, k, v, spec, params);
    case AttentionMethod::vmoba: return vmoba_attention(q, k, v, spec);
    case AttentionMethod::sparge: return sparge_attention(q, k, v, spec);
    case AttentionMethod::llsa: return llsa_attention(q, k, v, spec);
    case AttentionMethod::window: return window_attention(q, k, v, spec);
    case AttentionMethod::linear: return only_linear(q, k, v, spec);
    case AttentionMethod::sparse: return sparse_attention(q, k, v, spec, params);
  }
  fail("attention", "no method has the number {}", static_cast<int>(spec.method));
}

}  // namespace tenun
