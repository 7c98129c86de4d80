// SLA2 (arXiv 2602.12675): selector = router over pooled blocks, exact attention over the selected
// blocks, linear attention over the others, mixed by a learned gate.
//   O = sigmoid(alpha) O_s + (1 - sigmoid(alpha)) O_l
// Stage 1 trains router and alpha in soft mode, where m = SoftTop-k(scores) weighs the exact branch
// and 1 - m the linear one; afterwards the mask is hard and the router is frozen.
// Low-bit forward: the kernels round by the largest value of a block. With learned units (LSQ,
// Esser et al. 2020) q and the smoothed k are rounded by fake_quant_int8 in front of the unrounded
// kernels: integers times units, too, with gradients for the units, at the speed of the unrounded
// form; the gradients of q and k are those at the rounded values.
#include <algorithm>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/router.h"
#include "tenun/ops/attention/sparse_linear.h"
#include "tenun/ops/quant.h"
#include "tenun/ops/shape.h"

namespace tenun {
namespace {

constexpr const char* kOp = "sla2_attention";

void check_spec(const Var& q, const Var& k, const Var& v, const AttentionSpec& s,
                const AttentionParams& p) {
  attn::check_qkv(kOp, q.value(), k.value(), v.value());
  attn::check_blocks(kOp, q.value(), k.value(), nullptr, s.block_q, s.block_k);
  attn::check_ratio(kOp, "topk_ratio", s.topk_ratio);
  check(s.tau > 0, kOp, "tau must be positive, got {}", s.tau);
  check(s.eps >= 0, kOp, "eps must not be negative, got {}", s.eps);
  check(s.prefix >= 0 && s.prefix <= q.dim(2) + k.dim(2), kOp,
        "prefix must be a number of tokens, got {}", s.prefix);
  check(s.mode == RouterMode::hard || !s.quant.any(), kOp,
        "quant is for hard mode; soft mode trains the router in full precision");
  check(s.quant.qk != LowBit::fp8, kOp, "fp8 is a type of pv; qk is none or int8");
  check(p.alpha.defined(), kOp, "needs the parameter alpha, of shape (H) or (H, T_m)");
  const int64_t h = q.dim(1), tm = attn::blocks(q.dim(2), s.block_q);
  check<ShapeError>(p.alpha.shape() == Shape{h} || p.alpha.shape() == Shape{h, tm}, kOp,
                    "alpha must be ({}) or ({}, {}), got {}", h, h, tm, p.alpha.value());
  check<ShapeError>(
      p.q_step.defined() == p.k_step.defined() &&
          (!p.q_step.defined() || (p.q_step.shape() == Shape{h} && p.k_step.shape() == Shape{h})),
      kOp, "q_step and k_step must both be ({}), got {} and {}", h, p.q_step.value(),
      p.k_step.value());
}

// x (B, H, N, D) rounded to multiples of each head's step.
Var on_grid(const Var& x, const Var& step, int64_t block) {
  const int64_t b = x.dim(0), h = x.dim(1);
  const Var steps = expand(reshape(step, {1, h, 1}), {b, h, attn::blocks(x.dim(2), block)});
  return fake_quant_int8(x, steps, {.granularity = Granularity::block, .block = block});
}

}  // namespace

AttentionOutput sla2_attention(const Var& q_, const Var& k_, const Var& v_,
                               const AttentionSpec& spec, const AttentionParams& params) {
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  check_spec(q, k, v, spec, params);
  const int64_t tm = attn::blocks(q.dim(2), spec.block_q),
                tn = attn::blocks(k.dim(2), spec.block_k);
  const attn::Forced forced =
      attn::forced_by(spec.prefix, q.value(), k.value(), spec.block_q, spec.block_k);
  attn::FlashArgs args;
  args.scale = attn::default_scale(q);
  args.block_q = spec.block_q, args.block_k = spec.block_k;
  args.quant = spec.quant;
  const bool learned = params.q_step.defined() && spec.quant.qk == LowBit::int8;
  Var exact_q = q, exact_k = k;
  if (learned) {
    exact_q = on_grid(q, params.q_step, spec.block_q);
    exact_k = on_grid(attn::smooth_tokens(k), params.k_step, spec.block_k);
    args.quant.qk = LowBit::none;
  }
  attn::LinearArgs linear{.feature_map = spec.feature_map,
                          .eps = spec.eps,
                          .block_q = spec.block_q,
                          .block_k = spec.block_k,
                          .weight = {}};

  const bool global = spec.linear_range == LinearRange::global;
  AttentionOutput out;
  Var m;  // soft: differentiable weights; hard: a constant of flags
  if (spec.mode == RouterMode::hard) {
    args.k_pooled = attn::block_mean(k.value(), spec.block_k);
    const Var scores =
        attn::pooled_scores(kOp, attn::block_mean(q.value(), spec.block_q), args.k_pooled,
                            params.router_q.detach(), params.router_k.detach());
    m = attn::topk_blocks(scores.value(), attn::selected_count(spec.topk_ratio, tn), forced);
    attn::BlockLists lists = attn::block_lists(m.value(), spec.block_q, spec.block_k);
    if (spec.phi_on_smoothed_k || learned) {
      const attn::FlashVars exact =
          attn::flash(exact_q, exact_k, v, {}, std::move(args), std::move(lists));
      const Var phi_k = spec.phi_on_smoothed_k ? attn::smooth_tokens(k) : k;
      const Var rest = attn::linear_complement(q, phi_k, v, global ? Var() : m, std::move(linear));
      out.o = attn::mix(exact.o, rest, params.alpha, m.value(), spec.block_q);
      out.lse = exact.lse.value();
    } else {
      attn::SparseLinearVars r = attn::sparse_linear(q, k, v, params.alpha, std::move(args),
                                                     std::move(linear), std::move(lists), !global);
      out.o = r.o, out.lse = r.lse;
    }
    if (spec.quant.any()) out.lse = {};
  } else {
    const Var scores = attn::router_scores(kOp, q.value(), k.value(), params.router_q,
                                           params.router_k, spec.block_q, spec.block_k);
    const double target = std::clamp(spec.topk_ratio * static_cast<double>(tn), 1.0,
                                     static_cast<double>(std::max<int64_t>(tn, 1)));
    m = attn::soft_topk(scores, target, spec.tau, forced);
    const attn::FlashVars exact = attn::flash(q, k, v, m, std::move(args));
    const Var phi_k = spec.phi_on_smoothed_k ? attn::smooth_tokens(k) : k;
    const Var rest = attn::linear_complement(q, phi_k, v, global ? Var() : m, std::move(linear));
    out.o = attn::mix(exact.o, rest, params.alpha, m.value(), spec.block_q);
    out.lse = exact.lse.value();
  }
  out.mask = m.value();
  out.stats.density = {attn::density, out.mask};
  out.stats.mix_mean = {attn::mean_gate, params.alpha.value()};
  out.stats.blocks_q = tm, out.stats.blocks_k = tn;
  if (spec.aux && spec.mode == RouterMode::soft)
    out.aux_loss = sla2_router_loss(q, k, v, spec, params);
  return out;
}

Var sla2_router_loss(const Var& q_, const Var& k_, const Var& v_, const AttentionSpec& spec,
                     const AttentionParams& params) {
  check(spec.mode == RouterMode::soft, "sla2_router_loss", "trains the router: mode must be soft");
  const Var q = q_.detach(), k = k_.detach(), v = v_.detach();
  AttentionSpec once = spec;
  once.aux = false;
  const Var o = sla2_attention(q, k, v, once, params).o;
  const Tensor full = [&] {
    const NoGrad constant;
    return sdpa(q, k, v).value();
  }();
  return attn::mean_squared_difference(o, full);
}

}  // namespace tenun
