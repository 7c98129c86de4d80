// Exact attention as recorded ops: flash (dense, lists, soft weights, low-bit forward) and the
// log-sum-exp alone.
#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/tile.h"
#include "tenun/ops/functors.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"

namespace tenun::attn {
namespace {

struct Flash {
  static constexpr const char* name = "attention";
  FlashArgs args{};
  std::optional<BlockLists> lists{};
  Saved q{}, k{}, v{}, m{}, o{}, lse{};
  DType type_m = DType::f32;

  FlashArgs arguments(const Tensor& weight) {
    FlashArgs a = args;
    a.lists = lists ? &*lists : nullptr;
    a.weight = weight;
    return a;
  }
  std::array<Tensor, 2> forward(const Ctx& c, const Tensor& q_, const Tensor& k_, const Tensor& v_,
                                const Tensor& m_) {
    Tensor weight;
    if (m_.defined()) {
      type_m = m_.dtype();
      weight = m_.to(compute_dtype(q_.dtype())).contiguous();
    }
    FlashResult r = flash_forward(q_, k_, v_, arguments(weight));
    if (c.recording) {
      q = q_, k = k_, v = v_, lse = r.lse;
      if (weight.defined()) m = weight;
      if (c.needs[0] || c.needs[1] || c.needs[3]) o = r.o;
    }
    return {r.o, r.lse};
  }
  Grads<4> backward(const Ctx& c, const std::array<Tensor, 2>& dy) {
    const Tensor &qs = q.get(), &vs = v.get();
    const Tensor ks = args.quant.any() ? smoothed(k.get()).to(qs.dtype()) : k.get();
    const DType type = compute_dtype(qs.dtype());
    const auto room = [&](bool wanted, const Tensor& like) {
      return wanted ? Tensor(like.shape(), type, like.device()) : Tensor();
    };
    FlashGrads g{room(c.needs[0], qs), room(c.needs[1], ks), room(c.needs[2], vs),
                 c.needs[3] ? room(true, m.get()) : Tensor()};
    Tensor delta = o.defined() && dy[0].defined() ? row_dot(dy[0], o.get()) : zeros_like(lse.get());
    if (dy[1].defined()) delta = map(fn::Sub{}, delta, dy[1]);
    kernel::flash_backward(qs.device(), g, dy[0], qs, ks, vs, lse.get(), delta,
                           arguments(m.defined() ? m.get() : Tensor()));
    return {g.dq.to(qs.dtype()), g.dk.to(qs.dtype()), g.dv.to(qs.dtype()), g.dweight.to(type_m)};
  }
};

struct FullLse {
  static constexpr const char* name = "attention_lse";
  double scale;
  Saved q{}, k{}, lse{};

  Tensor forward(const Ctx& c, const Tensor& q_, const Tensor& k_) {
    Tensor none, l({q_.dim(0), q_.dim(1), q_.dim(2)}, compute_dtype(q_.dtype()), q_.device());
    kernel::flash_forward(q_.device(), none, l, q_, k_, k_, FlashArgs{.scale = scale});
    if (c.recording) q = q_, k = k_, lse = l;
    return l;
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    const Tensor &qs = q.get(), &ks = k.get();
    FlashGrads g;
    if (c.needs[0]) g.dq = Tensor(qs.shape(), compute_dtype(qs.dtype()), qs.device());
    if (c.needs[1]) g.dk = Tensor(ks.shape(), compute_dtype(qs.dtype()), ks.device());
    kernel::flash_backward(qs.device(), g, Tensor(), qs, ks, ks, lse.get(), map(fn::Neg{}, dy),
                           FlashArgs{.scale = scale});
    return {g.dq.to(qs.dtype()), g.dk.to(ks.dtype())};
  }
};

struct SmoothTokens {
  static constexpr const char* name = "smooth_tokens";
  Tensor forward(const Ctx&, const Tensor& x) { return smoothed(x).to(x.dtype()); }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {smoothed(dy).to(dy.dtype())}; }
};

}  // namespace

FlashVars flash(const Var& q, const Var& k, const Var& v, const Var& m, FlashArgs args,
                std::optional<BlockLists> lists) {
  Flash f{.args = std::move(args), .lists = std::move(lists)};
  auto out = apply(std::move(f), q, k, v, m);
  return {out[0], out[1]};
}

Var full_lse(const Var& q, const Var& k, double scale) {
  return apply(FullLse{.scale = scale}, q, k);
}

Var smooth_tokens(const Var& k) { return apply(SmoothTokens{}, k); }

void cast_low(Var& q, Var& k, Var& v) {
  std::array<Var, 3> in{q, k, v};
  detail::apply_cast_policy(Cast::low, in);
  q = in[0], k = in[1], v = in[2];
}

double default_scale(const Var& q) { return 1 / std::sqrt(static_cast<double>(q.dim(3))); }

}  // namespace tenun::attn
