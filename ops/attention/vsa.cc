// VSA (arXiv 2505.13389): attention between block means is the coarse branch, and its scores choose
// the blocks of the fine one; a learned gate weighs the coarse branch.
//   o_i = gate_c,i O_c,block(i) + O_f,i
#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/router.h"
#include "tenun/ops/attention/tile.h"

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
  static const T* at(const Tensor& t, int64_t i) {
    return t.defined() ? t.data<T>() + i : nullptr;
  }

  Tensor forward(const Ctx& c, const Tensor& fine_, const Tensor& coarse_, const Tensor& gate_) {
    const Tensor fine = rows(fine_, fine_.dtype()), low = rows(coarse_, fine_.dtype()),
                 g = rows(gate_, fine_.dtype());
    type_coarse = coarse_.dtype();
    if (gate_.defined()) type_gate = gate_.dtype();
    Tensor y = empty_like(fine);
    visit<DType::f32, DType::f64>(fine.dtype(), name, [&]<class T>() {
      const int64_t n = fine.dim(2), d = fine.dim(3), count = low.dim(2);
      T* const out = y.mutable_data<T>();
      parallel_for(0, fine.numel() / d, attn::grain(4 * d), [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) {
          const T *const f = at<T>(fine, i * d),
                         *const x = at<T>(low, (i / n * count + i % n / block) * d),
                         *const w = at<T>(g, i * d);
          for (int64_t j = 0; j < d; ++j)
            out[i * d + j] = f[j] + (w == nullptr ? x[j] : w[j] * x[j]);
        }
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
      Tensor dx({dy.dim(0), dy.dim(1), attn::blocks(dy.dim(2), block), dy.dim(3)}, dy.dtype());
      visit<DType::f32, DType::f64>(dy.dtype(), name,
                                    [&]<class T>() { coarse_sums<T>(dx, dy, w); });
      out[1] = dx.to(type_coarse);
    }
    if (c.needs[2]) {
      const Tensor x = rows(coarse.get(), dy.dtype());
      Tensor dg = empty_like(dy);
      visit<DType::f32, DType::f64>(dy.dtype(), name, [&]<class T>() {
        const int64_t n = dy.dim(2), d = dy.dim(3), count = x.dim(2);
        T* const to = dg.mutable_data<T>();
        parallel_for(0, dy.numel() / d, attn::grain(4 * d), [&](int64_t b, int64_t e) {
          for (int64_t i = b; i < e; ++i) {
            const T *const in = at<T>(dy, i * d), *const low =
                                                      at<T>(x, (i / n * count + i % n / block) * d);
            for (int64_t j = 0; j < d; ++j) to[i * d + j] = in[j] * low[j];
          }
        });
      });
      out[2] = dg.to(type_gate);
    }
    return out;
  }

  template <class T>
  void coarse_sums(Tensor& dx, const Tensor& dy, const Tensor& w) const {
    const int64_t n = dy.dim(2), d = dy.dim(3), count = dx.dim(2);
    T* const to = dx.mutable_data<T>();
    parallel_for(0, dx.numel() / d, attn::grain(4 * block * d), [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        T* __restrict const sum = to + i * d;
        std::fill_n(sum, d, T(0));
        const int64_t first = i % count * block, last = std::min(first + block, n);
        for (int64_t t = i / count * n + first; t < i / count * n + last; ++t) {
          const T *const in = at<T>(dy, t * d), *const g = at<T>(w, t * d);
          for (int64_t j = 0; j < d; ++j) sum[j] += g == nullptr ? in[j] : g[j] * in[j];
        }
      }
    });
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
  out.stats = {attn::density(out.mask), 1, out.mask.dim(2), out.mask.dim(3)};
  return out;
}

}  // namespace tenun
