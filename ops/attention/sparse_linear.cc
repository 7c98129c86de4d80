#include "tenun/ops/attention/sparse_linear.h"

#include "tenun/autograd/function.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"
#include "tenun/ops/sum.h"

namespace tenun::attn {
namespace {

Tensor gated_lse(const Tensor& lse, const Tensor& gate, int64_t block_q) {
  Tensor y(lse.shape(), lse.dtype(), lse.device());
  visit<DType::f32, DType::f64>(lse.dtype(), "sparse_linear", [&]<class T>() {
    run_rows(lse.device(), lse.numel(), 8, [&] {
      return GatedLse<T>{lse.data<T>(), gate.data<T>(), y.mutable_data<T>(),
                         lse.dim(2),    gate.dim(2),    block_q};
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
    Tensor g({q_.dim(0), q_.dim(1), tm}, compute_dtype(q_.dtype()), q_.device());
    const Tensor logit = alpha.to(g.dtype()).contiguous();
    visit<DType::f32, DType::f64>(g.dtype(), name, [&]<class T>() {
      run_rows(g.device(), g.numel(), 50, [&] {
        return Gates<T>{logit.data<T>(),
                        q_.dim(1),
                        tm,
                        tn,
                        alpha.rank() == 2,
                        lists.row_start.data<int64_t>(),
                        nullptr,
                        g.mutable_data<T>()};
      });
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
      return wanted ? Tensor(like.shape(), type, like.device()) : Tensor();
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
    Tensor slope(g.shape(), g.dtype(), g.device());
    visit<DType::f32, DType::f64>(g.dtype(), name, [&]<class T>() {
      run_rows(g.device(), g.numel(), 4 * lists.block_q, [&] {
        return GateGradient<T>{
            delta.data<T>(), dot.data<T>(), g.data<T>(),  slope.mutable_data<T>(),
            delta.dim(2),    g.dim(2),      lists.block_q};
      });
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
