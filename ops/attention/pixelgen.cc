// PixelGen's `sla` branch (attention.md 3.1), for parity with its checkpoints: cells of
// `compression` tokens with zero-padded means, softmaxed router scores, softmax over all keys, then
// the mask and a division by (row sum + eps); a linear branch over all keys whose heads are mixed
// by proj_l; sigmoid(alpha) for each head. Unlike sla2 the soft mask is differentiated into q and
// k, and its offset lambda counts as a constant.
#include <algorithm>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/router.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"
#include "tenun/ops/matmul.h"

namespace tenun {
namespace {

constexpr const char* kOp = "pixelgen_sla2";

// m = sigmoid(R / tau + lambda), R the row softmax of the scores, lambda from `iters` bisections of
// [-20, 20] that return the upper end.
struct CellMask {
  static constexpr const char* name = "pixelgen_cell_mask";
  double target, tau;
  int64_t iters;
  Saved r{}, m{};

  Tensor forward(const Ctx& c, const Tensor& x_) {
    const Tensor x = x_.contiguous();
    Tensor soft = empty_like(x), out = empty_like(x);
    visit<DType::f32, DType::f64>(x.dtype(), name, [&]<class T>() {
      const int64_t n = x.dim(3);
      attn::run_rows(x.device(), x.numel() / std::max<int64_t>(n, 1), 100 * n * iters, [&] {
        return attn::CellMask<T>{
            x.data<T>(), soft.mutable_data<T>(), out.mutable_data<T>(), n, iters, target, tau};
      });
    });
    if (c.recording) r = soft, m = out;
    return out;
  }
  Grads<1> backward(const Ctx&, const Tensor& dy_) {
    const Tensor &soft = r.get(), &mask = m.get(), dy = dy_.contiguous();
    Tensor dx = empty_like(soft);
    visit<DType::f32, DType::f64>(dx.dtype(), name, [&]<class T>() {
      const int64_t n = dx.dim(3);
      attn::run_rows(dx.device(), dx.numel() / std::max<int64_t>(n, 1), 10 * n, [&] {
        return attn::CellMaskGradient<T>{
            soft.data<T>(), mask.data<T>(), dy.data<T>(), dx.mutable_data<T>(), n, tau};
      });
    });
    return {dx};
  }
};

// Heads merged, times W^T, split again.
struct ProjectHeads {
  static constexpr const char* name = "project_heads";
  Saved x{}, w{};
  DType type_w = DType::f32;

  static Tensor merged(const Tensor& t) {
    return t.permute({0, 2, 1, 3}).reshape({t.dim(0) * t.dim(2), t.dim(1) * t.dim(3)});
  }
  static Tensor split(const Tensor& t, const Shape& like) {
    return t.view({like[0], like[2], like[1], like[3]}).permute({0, 2, 1, 3}).contiguous();
  }
  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& w_) {
    const Tensor weight = w_.to(x_.dtype());
    if (c.recording) x = x_, w = weight, type_w = w_.dtype();
    return split(matmul(merged(x_), weight.transpose(0, 1)), x_.shape());
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    const Tensor d = merged(dy);
    Grads<2> g;
    if (c.needs[0]) g[0] = split(matmul(d, w.get()), dy.shape());
    if (c.needs[1]) g[1] = matmul(d.transpose(0, 1), merged(x.get())).to(type_w);
    return g;
  }
};

// o c / (c + eps), c = exp(lse - full): attention over the selected keys becomes the softmax over
// all keys, masked and divided by (row sum + eps).
struct Renormalise {
  static constexpr const char* name = "pixelgen_renormalise";
  double eps;
  Saved o{}, share{};

  Tensor forward(const Ctx& c, const Tensor& o_, const Tensor& lse, const Tensor& full) {
    const Tensor x = attn::compute_rows(o_).contiguous();
    Tensor y = empty_like(x), kept = empty_like(lse);
    visit<DType::f32, DType::f64>(x.dtype(), name, [&]<class T>() {
      attn::run_rows(x.device(), kept.numel(), 4 * x.dim(3), [&] {
        return attn::Renormalise<T>{x.data<T>(),
                                    lse.data<T>(),
                                    full.data<T>(),
                                    y.mutable_data<T>(),
                                    kept.mutable_data<T>(),
                                    x.dim(3),
                                    eps};
      });
    });
    if (c.recording) o = o_, share = kept;
    return y.to(o_.dtype());
  }
  Grads<3> backward(const Ctx&, const Tensor& dy_) {
    const Tensor &kept = share.get(), dy = attn::compute_rows(dy_).contiguous(),
                 dot = attn::row_dot(dy, attn::compute_rows(o.get()));
    Tensor dx = empty_like(dy), dl = empty_like(kept), df = empty_like(kept);
    visit<DType::f32, DType::f64>(dx.dtype(), name, [&]<class T>() {
      attn::run_rows(dx.device(), kept.numel(), 4 * dx.dim(3), [&] {
        return attn::RenormaliseGradient<T>{
            dy.data<T>(),         dot.data<T>(),        kept.data<T>(), dx.mutable_data<T>(),
            dl.mutable_data<T>(), df.mutable_data<T>(), dx.dim(3),      eps};
      });
    });
    return {dx.to(dy_.dtype()), dl, df};
  }
};

AttentionOutput cells(const Var& q, const Var& k, const AttentionSpec& spec,
                      const AttentionParams& params) {
  const int64_t count = attn::blocks(q.dim(2), spec.compression);
  const double target = spec.topk_ratio * static_cast<double>(count);
  AttentionOutput out;
  if (spec.mode == RouterMode::hard) {
    const Var scores = attn::pooled_scores(
        kOp, attn::block_mean(q.detach(), spec.compression, attn::PoolDivisor::block),
        attn::block_mean(k.detach(), spec.compression, attn::PoolDivisor::block),
        params.router_q.detach(), params.router_k.detach());
    const auto most = std::max<int64_t>(1, static_cast<int64_t>(target));
    out.mask = attn::topk_blocks(scores.value(), std::min(most, count));
  } else {
    const Var scores =
        attn::pooled_scores(kOp, attn::block_mean(q, spec.compression, attn::PoolDivisor::block),
                            attn::block_mean(k, spec.compression, attn::PoolDivisor::block),
                            params.router_q, params.router_k);
    out.o = apply(CellMask{.target = target, .tau = std::max(spec.tau, 1e-6), .iters = spec.iters},
                  scores);
    out.mask = out.o.value();
  }
  return out;
}

}  // namespace

AttentionOutput pixelgen_sla2(const Var& q_, const Var& k_, const Var& v_,
                              const AttentionSpec& spec, const AttentionParams& params) {
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  attn::check_qkv(kOp, q.value(), k.value(), v.value());
  check<ShapeError>(q.dim(2) == k.dim(2), kOp, "is self-attention: q {} and k {} differ in length",
                    q.value(), k.value());
  check(spec.compression >= 1, kOp, "compression must be positive, got {}", spec.compression);
  attn::check_ratio(kOp, "topk_ratio", spec.topk_ratio);
  check(spec.dropout == 0, kOp, "has no dropout of the probabilities; set it to 0");
  const int64_t h = q.dim(1), width = h * q.dim(3);
  check(params.alpha.defined() && params.proj_l.defined(), kOp,
        "needs the parameters alpha (H) and proj_l (C, C)");
  check<ShapeError>(
      params.alpha.shape() == Shape{h} && params.proj_l.shape() == Shape{width, width}, kOp,
      "needs alpha ({}) and proj_l ({}, {}), got {} and {}", h, width, width, params.alpha.value(),
      params.proj_l.value());

  AttentionOutput out = cells(q, k, spec, params);
  const int64_t cell = spec.compression;
  attn::FlashArgs args;
  args.scale = attn::default_scale(q);
  args.block_q = cell, args.block_k = cell;
  attn::FlashVars exact;
  if (spec.mode == RouterMode::hard)
    exact = attn::flash(q, k, v, {}, std::move(args), attn::block_lists(out.mask, cell, cell));
  else
    exact = attn::flash(q, k, v, out.o, std::move(args));
  const Var full = attn::full_lse(q, k, attn::default_scale(q));
  const Var sparse = apply(Renormalise{.eps = 1e-8}, exact.o, exact.lse, full);
  const Var linear = attn::linear_complement(
      q, k, v, {}, {.feature_map = spec.feature_map, .eps = spec.eps, .weight = {}});
  const Var projected = apply(ProjectHeads{}, linear, params.proj_l);
  out.o = attn::mix(sparse, projected, params.alpha, {}, std::max<int64_t>(q.dim(2), 1));
  out.stats.mix_mean = {attn::mean_gate, params.alpha.value()};
  out.stats.density = {attn::density, out.mask};
  out.stats.blocks_q = out.stats.blocks_k = attn::blocks(q.dim(2), cell);
  if (spec.aux && spec.mode == RouterMode::soft) {
    const Tensor dense = [&] {
      const NoGrad constant;
      return sdpa(q.detach(), k.detach(), v.detach()).value();
    }();
    out.aux_loss = attn::mean_squared_difference(out.o, dense);
  }
  return out;
}

}  // namespace tenun
