// VSA (arXiv 2505.13389): attention between block means is the coarse branch, and its scores choose
// the blocks of the fine one; a learned gate weighs the coarse branch.
//   o_i = gate_c,i O_c,block(i) + O_f,i
#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/router.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"

namespace tenun {
namespace {

constexpr const char* kOp = "vsa_attention";

// fine + gate * coarse, coarse (B, H, T, D) repeated over the tokens of its blocks.
struct AddCoarse {
  static constexpr const char* name = "vsa_add_coarse";
  int64_t block;
  Saved coarse{}, gate{};
  DType type_coarse = DType::f32, type_gate = DType::f32;

  static Tensor rows(const Tensor& t, DType type) {
    return t.defined() ? t.to(attn::compute_dtype(type)).contiguous() : Tensor();
  }
  template <class T>
  static const T* at(const Tensor& t) {
    return t.defined() ? t.data<T>() : nullptr;
  }

  Tensor forward(const Ctx& c, const Tensor& fine_, const Tensor& coarse_, const Tensor& gate_) {
    const Tensor fine = rows(fine_, fine_.dtype()), low = rows(coarse_, fine_.dtype()),
                 g = rows(gate_, fine_.dtype());
    type_coarse = coarse_.dtype();
    if (gate_.defined()) type_gate = gate_.dtype();
    Tensor y = empty_like(fine);
    visit<DType::f32, DType::f64>(fine.dtype(), name, [&]<class T>() {
      const int64_t d = fine.dim(3);
      attn::run_rows(fine.device(), fine.numel() / d, 4 * d, [&] {
        return attn::AddCoarse<T>{at<T>(fine), at<T>(low), at<T>(g), y.mutable_data<T>(),
                                  fine.dim(2), d,          block,    low.dim(2)};
      });
    });
    if (c.recording) {
      if (c.needs[2]) coarse = coarse_;
      if (c.needs[1] && gate_.defined()) gate = gate_;
    }
    return y.to(fine_.dtype());
  }

  Grads<3> backward(const Ctx& c, const Tensor& dy_) {
    const Tensor dy = rows(dy_, dy_.dtype());
    Grads<3> out;
    if (c.needs[0]) out[0] = dy_;
    const Tensor w = gate.defined() ? rows(gate.get(), dy.dtype()) : Tensor();
    if (c.needs[1]) {
      Tensor dx({dy.dim(0), dy.dim(1), attn::blocks(dy.dim(2), block), dy.dim(3)}, dy.dtype(),
                dy.device());
      visit<DType::f32, DType::f64>(dy.dtype(), name, [&]<class T>() {
        const int64_t d = dy.dim(3);
        attn::run_rows(dy.device(), dx.numel() / d, 4 * block * d, [&] {
          return attn::CoarseGradient<T>{at<T>(dy), at<T>(w), dx.mutable_data<T>(), dy.dim(2), d,
                                         block,     dx.dim(2)};
        });
      });
      out[1] = dx.to(type_coarse);
    }
    if (c.needs[2]) {
      const Tensor x = rows(coarse.get(), dy.dtype());
      Tensor dg = empty_like(dy);
      visit<DType::f32, DType::f64>(dy.dtype(), name, [&]<class T>() {
        const int64_t d = dy.dim(3);
        attn::run_rows(dy.device(), dy.numel() / d, 4 * d, [&] {
          return attn::CoarseGateGradient<T>{
              at<T>(dy), at<T>(x), dg.mutable_data<T>(), dy.dim(2), d, block, x.dim(2)};
        });
      });
      out[2] = dg.to(type_gate);
    }
    return out;
  }
};

}  // namespace

AttentionOutput vsa_attention(const Var& q_, const Var& k_, const Var& v_,
                              const AttentionSpec& spec, const AttentionParams& params) {
  Var q = q_, k = k_, v = v_;
  attn::cast_low(q, k, v);
  const int64_t block = spec.block_k;
  attn::check_self(kOp, q.value(), k.value(), v.value(), block);
  attn::check_ratio(kOp, "topk_ratio", spec.topk_ratio);
  check(spec.topk >= 0 && spec.prefix >= 0, kOp,
        "topk and prefix must not be negative, got {} and {}", spec.topk, spec.prefix);
  const Var& gate = params.gate_c;
  check<ShapeError>(!gate.defined() || gate.shape() == q.shape(), kOp,
                    "gate_c must have the shape of q, {}, got {}", q.value(), gate.value());
  const Var qc = attn::block_mean(q, block, attn::PoolDivisor::count),
            kc = attn::block_mean(k, block, attn::PoolDivisor::count),
            vc = attn::block_mean(v, block, attn::PoolDivisor::count);
  const Tensor scores = attn::pooled_scores(kOp, qc.detach(), kc.detach(), {}, {}).value();
  AttentionOutput out;
  out.mask = attn::topk_blocks(scores, attn::count_of(spec, scores.dim(3)),
                               attn::forced_by(spec.prefix, q.value(), k.value(), block, block));
  attn::FlashArgs args;
  args.scale = attn::default_scale(q);
  args.block_q = args.block_k = block;
  const Var coarse = attn::flash(qc, kc, vc, {}, args).o;
  args.quant = spec.quant;
  const attn::FlashVars fine =
      attn::flash(q, k, v, {}, std::move(args), attn::block_lists(out.mask, block, block));
  out.o = apply(AddCoarse{.block = block}, fine.o, coarse, gate);
  if (!spec.quant.any()) out.lse = fine.lse.value();
  out.stats = {{attn::density, out.mask}, 1, out.mask.dim(2), out.mask.dim(3)};
  return out;
}

}  // namespace tenun
