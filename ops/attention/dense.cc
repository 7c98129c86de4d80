// Scaled dot-product attention and its block-sparse form: thin ops over the flash kernels.
#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/tile.h"
#include "tenun/ops/map.h"

namespace tenun {
namespace {

using namespace attention;

struct Subtract {
  static constexpr const char* name = "attention delta";
  static constexpr int arity = 2;
  template <class T>
  TENUN_HD T operator()(T a, T b) const {
    return a - b;
  }
};

// o, lse = flash(q, k, v); with or without lists.
struct Flash {
  static constexpr const char* name = "attention";
  static constexpr Cast cast = Cast::low;
  FlashArgs args;
  std::optional<BlockLists> lists;
  Saved q, k, v, o, lse;

  FlashArgs arguments() {
    FlashArgs a = args;
    a.lists = lists ? &*lists : nullptr;
    return a;
  }
  std::array<Tensor, 2> forward(const Ctx& c, const Tensor& q_, const Tensor& k_,
                                const Tensor& v_) {
    FlashResult r = flash_forward(q_, k_, v_, arguments());
    if (c.recording) {
      q = q_, k = k_, v = v_, lse = r.lse;
      if (c.needs[0] || c.needs[1]) o = r.o;
    }
    return {r.o, r.lse};
  }
  Grads<3> backward(const Ctx& c, const std::array<Tensor, 2>& dy) {
    const Tensor &qs = q.get(), &ks = k.get(), &vs = v.get();
    const DType type = compute_dtype(qs.dtype());
    FlashGrads g;
    if (c.needs[0]) g.dq = Tensor(qs.shape(), type, qs.device());
    if (c.needs[1]) g.dk = Tensor(ks.shape(), type, ks.device());
    if (c.needs[2]) g.dv = Tensor(vs.shape(), type, vs.device());
    const Tensor d = dy[0].defined() ? dy[0] : zeros_like(qs);
    Tensor delta = o.defined() && dy[0].defined() ? row_dot(d, o.get()) : zeros_like(lse.get());
    if (dy[1].defined()) delta = map(Subtract{}, delta, dy[1]);
    attention::kernel::flash_backward(qs.device(), g, d, qs, ks, vs, lse.get(), delta, arguments());
    return {g.dq.to(qs.dtype()), g.dk.to(qs.dtype()), g.dv.to(qs.dtype())};
  }
};

double scale_of(const char* op, const Var& q, std::optional<double> scale) {
  check(!scale || std::isfinite(*scale), op, "the scale must be finite");
  return scale.value_or(1 / std::sqrt(static_cast<double>(q.dim(3))));
}

}  // namespace

Var sdpa(const Var& q, const Var& k, const Var& v, const SdpaOptions& options) {
  check_qkv("sdpa", q.value(), k.value(), v.value());
  check(options.dropout >= 0 && options.dropout < 1, "sdpa", "dropout must be in [0, 1), got {}",
        options.dropout);
  Flash f;
  f.args.scale = scale_of("sdpa", q, options.scale);
  f.args.dropout = options.dropout;
  f.args.key = options.key;
  return apply(std::move(f), q, k, v)[0];
}

SparseResult block_sparse_attention(const Var& q, const Var& k, const Var& v, const Tensor& mask,
                                    int64_t block_q, int64_t block_k, std::optional<double> scale) {
  constexpr const char* kOp = "block_sparse_attention";
  check_qkv(kOp, q.value(), k.value(), v.value());
  check_blocks(kOp, q.value(), k.value(), &mask, block_q, block_k);
  Flash f;
  f.args.scale = scale_of(kOp, q, scale);
  f.lists = block_lists(mask, block_q, block_k);
  auto out = apply(std::move(f), q, k, v);
  return {out[0], out[1]};
}

}  // namespace tenun
