#include "tenun/ops/attention/sparse_linear.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/math.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/tile.h"
#include "tenun/ops/sum.h"

namespace tenun::attn {
namespace {

// f(row of (B, H, Nq), block of (B, H, T_m)) for all rows.
template <class F>
void each_query(const Tensor& gate, int64_t nq, int64_t block_q, F&& f) {
  const int64_t tm = gate.dim(2);
  parallel_for(0, gate.dim(0) * gate.dim(1) * nq, grain(8), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) f(i, i / nq * tm + i % nq / block_q);
  });
}

// With P = exp(s - lse) the gradient of the gated branch is that of P' = g P, which is exp(s -
// lse') with lse' = lse - ln(g): no scaled copy of dy. g = 0 gives +inf, that is P' = 0.
Tensor gated_lse(const Tensor& lse, const Tensor& gate, int64_t block_q) {
  Tensor y(lse.shape(), lse.dtype());
  visit<DType::f32, DType::f64>(lse.dtype(), "sparse_linear", [&]<class T>() {
    const T *const in = lse.data<T>(), *const g = gate.data<T>();
    T* const out = y.mutable_data<T>();
    each_query(gate, lse.dim(2), block_q, [&](int64_t i, int64_t block) {
      out[i] = in[i] - (g[block] == 1 ? T(0) : math::log(g[block]));
    });
  });
  return y;
}

struct SparseLinear {
  static constexpr const char* name = "sparse_linear_attention";
  FlashArgs args{};
  LinearArgs linear{};
  BlockLists lists{};
  bool complement = true;
  Saved q{}, k{}, v{}, exact{}, lse{}, gate{};
  Shape shape_alpha{};
  DType type_alpha = DType::f32;

  Tensor gates(const Tensor& q_, const Tensor& k_, const Tensor& alpha) const {
    const int64_t tm = blocks(q_.dim(2), lists.block_q), tn = blocks(k_.dim(2), lists.block_k);
    const int64_t heads = q_.dim(1);
    const auto logit = alpha.values<double>();
    const int64_t* const start = lists.row_start.data<int64_t>();
    Tensor g({q_.dim(0), heads, tm}, compute_dtype(q_.dtype()));
    visit<DType::f32, DType::f64>(g.dtype(), name, [&]<class T>() {
      T* const out = g.mutable_data<T>();
      for (int64_t i = 0; i < g.numel(); ++i) {
        const int64_t h = i / tm % heads;
        const double l = logit[static_cast<size_t>(alpha.rank() == 1 ? h : h * tm + i % tm)];
        out[i] = start[i + 1] - start[i] == tn ? T(1) : static_cast<T>(math::sigmoid(l));
      }
    });
    return g;
  }
  LinearArgs branch(const Tensor& g) const {
    LinearArgs a = linear;
    a.block_q = lists.block_q, a.block_k = lists.block_k;
    if (complement) a.lists = &lists;
    a.gate = g;
    return a;
  }

  std::array<Tensor, 2> forward(const Ctx& c, const Tensor& q_, const Tensor& k_, const Tensor& v_,
                                const Tensor& alpha) {
    FlashArgs a = args;
    a.lists = &lists;
    const Tensor g = gates(q_, k_, alpha);
    // The 8-bit kernels give f32: rounded once, after the mix.
    const DType type = compute_dtype(q_.dtype());
    Tensor o(q_.shape(), a.quant.any() ? type : q_.dtype(), q_.device());
    Tensor l({q_.dim(0), q_.dim(1), q_.dim(2)}, type, q_.device());
    Tensor apart = c.recording ? Tensor(o.shape(), o.dtype(), o.device()) : Tensor();
    if (kernel::sparse_linear_forward.has(q_.device().type)) {
      kernel::sparse_linear_forward(q_.device(), o, apart, l, q_, k_, v_, a, branch(g));
    } else {
      kernel::flash_forward(q_.device(), o, l, q_, k_, v_, a);
      if (c.recording) apart.copy_(o);
      kernel::linear_forward(q_.device(), o, q_, k_, v_, branch(g));
    }
    if (c.recording) {
      q = q_, k = k_, v = v_, lse = l, gate = g, exact = apart;
      shape_alpha = alpha.shape(), type_alpha = alpha.dtype();
    }
    return {o.to(q_.dtype()), l};
  }

  Grads<4> backward(const Ctx& c, const std::array<Tensor, 2>& dys) {
    const Tensor &qs = q.get(), &ks = k.get(), &vs = v.get(), &g = gate.get();
    const Tensor dy = dys[0].contiguous();
    const DType type = compute_dtype(qs.dtype());
    const auto room = [&](bool wanted, const Tensor& like) {
      return wanted ? Tensor(like.shape(), type) : Tensor();
    };
    const bool quant = args.quant.any();
    FlashArgs a = args;
    a.lists = &lists;
    FlashGrads f{room(c.needs[0], qs), room(c.needs[1], ks), room(c.needs[2], vs), {}};
    const Tensor delta = row_dot(dy, exact.get());
    kernel::flash_backward(qs.device(), f, dy, qs, quant ? smoothed(ks).to(qs.dtype()) : ks, vs,
                           gated_lse(lse.get(), g, lists.block_q), delta, a);
    LinearGrads l{f.dq, f.dk, f.dv, {}, room(c.needs[3], delta), true};
    kernel::linear_backward(qs.device(), l, dy, qs, ks, vs, branch(g));
    Grads<4> out{l.dq.to(qs.dtype()), l.dk.to(qs.dtype()), l.dv.to(qs.dtype()), {}};
    if (c.needs[3]) out[3] = alpha_gradient(g, delta, l.dot);
    return out;
  }
  // dL/dg = sum over the block's rows of dy . (O_s - O_l); full blocks have g = 1 and thus none.
  Tensor alpha_gradient(const Tensor& g, const Tensor& delta, const Tensor& dot) const {
    Tensor slope(g.shape(), g.dtype());
    visit<DType::f32, DType::f64>(g.dtype(), name, [&]<class T>() {
      const T *const x = delta.data<T>(), *const y = dot.data<T>(), *const gate_of = g.data<T>();
      T* const out = slope.mutable_data<T>();
      const int64_t nq = delta.dim(2), tm = g.dim(2);
      for (int64_t i = 0; i < g.numel(); ++i) {
        const int64_t first = i / tm * nq + i % tm * lists.block_q;
        const int64_t last = std::min(first + lists.block_q, (i / tm + 1) * nq);
        double sum = 0;
        for (int64_t r = first; r < last; ++r)
          sum += static_cast<double>(x[r]) - static_cast<double>(y[r]);
        const auto s = static_cast<double>(gate_of[i]);
        out[i] = static_cast<T>(sum * s * (1 - s));
      }
    });
    return sum_axes(slope, shape_alpha.size() == 1 ? 0b101u : 0b001u, false).to(type_alpha);
  }
};

}  // namespace

SparseLinearVars sparse_linear(const Var& q, const Var& k, const Var& v, const Var& alpha,
                               FlashArgs args, LinearArgs linear, BlockLists lists,
                               bool complement) {
  SparseLinear f{.args = std::move(args),
                 .linear = std::move(linear),
                 .lists = std::move(lists),
                 .complement = complement};
  auto out = apply(std::move(f), q, k, v, alpha);
  return {out[0], out[1].value()};
}

}  // namespace tenun::attn
