// The linear branch and the combiners as recorded ops.
#include "tenun/autograd/function.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"
#include "tenun/ops/attention/tile.h"
#include "tenun/ops/functors.h"
#include "tenun/ops/functors_norm.h"
#include "tenun/ops/functors_other.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"
#include "tenun/ops/sum.h"

namespace tenun::attn {
namespace {

struct LinearBranch {
  static constexpr const char* name = "linear_attention";
  LinearArgs args{};
  Saved q{}, k{}, v{}, m{};
  DType type_m = DType::f32;

  // Flags become lists, which need no weight per pair of blocks.
  [[nodiscard]] LinearArgs arguments(const Tensor& m_, DType type,
                                     std::optional<BlockLists>& lists) const {
    LinearArgs a = args;
    if (m_.defined() && m_.dtype() == DType::u8)
      a.lists = &lists.emplace(block_lists(m_, args.block_q, args.block_k));
    else if (m_.defined())
      a.weight = map(fn::Complement{}, m_.to(compute_dtype(type)));
    return a;
  }
  Tensor forward(const Ctx& c, const Tensor& q_, const Tensor& k_, const Tensor& v_,
                 const Tensor& m_) {
    if (c.recording) {
      q = q_, k = k_, v = v_;
      if (m_.defined()) m = m_, type_m = m_.dtype();
    }
    std::optional<BlockLists> lists;
    return linear_forward(q_, k_, v_, arguments(m_, q_.dtype(), lists));
  }
  Grads<4> backward(const Ctx& c, const Tensor& dy) {
    const Tensor &qs = q.get(), &ks = k.get(), &vs = v.get();
    std::optional<BlockLists> lists;
    const LinearArgs a = arguments(m.defined() ? m.get() : Tensor(), qs.dtype(), lists);
    const auto room = [&](bool wanted, const Tensor& like) {
      return wanted ? Tensor(like.shape(), compute_dtype(qs.dtype()), like.device()) : Tensor();
    };
    LinearGrads g{room(c.needs[0], qs), room(c.needs[1], ks), room(c.needs[2], vs),
                  room(c.needs[3], a.weight)};
    kernel::linear_backward(qs.device(), g, dy, qs, ks, vs, a);
    if (g.dweight.defined()) g.dweight = map(fn::Neg{}, g.dweight).to(type_m);
    return {g.dq.to(qs.dtype()), g.dk.to(qs.dtype()), g.dv.to(qs.dtype()), g.dweight};
  }
};

// f(row of (B H N), gate) over all rows, in parallel.
template <class T, class F>
void each_gated_row(const Tensor& x, const Tensor& gate, int64_t block_q, F&& f) {
  const int64_t n = x.dim(2), tm = gate.dim(2);
  const T* const g = gate.data<T>();
  parallel_for(0, x.dim(0) * x.dim(1) * n, grain(4 * x.dim(3)), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) f(i, g[i / n * tm + i % n / block_q]);
  });
}

void mix_forward_cpu(Tensor& o, const Tensor& a_, const Tensor& b_, const Tensor& gate,
                     int64_t block_q) {
  const Tensor a = compute_rows(a_).contiguous(), b = compute_rows(b_).contiguous();
  Tensor wide = o.dtype() == a.dtype() ? o : Tensor(o.shape(), a.dtype());
  visit<DType::f32, DType::f64>(a.dtype(), "mix", [&]<class T>() {
    const T *const x = a.data<T>(), *const y = b.data<T>();
    T* const out = wide.mutable_data<T>();
    const int64_t d = a.dim(3);
    each_gated_row<T>(a, gate, block_q, [&](int64_t i, T g) {
      // A closed gate must not let a NaN or infinity of the other branch through.
      for (int64_t c = i * d; c < (i + 1) * d; ++c)
        out[c] = g == 1 ? x[c] : g * x[c] + (1 - g) * y[c];
    });
  });
  if (o.dtype() != a.dtype()) o.copy_(wide);
}

void mix_backward_cpu(Tensor& da, Tensor& db, Tensor& dgate, const Tensor& dy_, const Tensor& a_,
                      const Tensor& b_, const Tensor& gate, int64_t block_q) {
  const Tensor a = compute_rows(a_).contiguous(), b = compute_rows(b_).contiguous(),
               dy = compute_rows(dy_).contiguous();
  visit<DType::f32, DType::f64>(a.dtype(), "mix", [&]<class T>() {
    const auto room = [](Tensor& t) { return t.defined() ? t.mutable_data<T>() : nullptr; };
    const T *const x = a.data<T>(), *const y = b.data<T>(), *const in = dy.data<T>();
    T *const dx = room(da), *const dyy = room(db), *const dg = room(dgate);
    const int64_t d = a.dim(3), n = a.dim(2), tm = gate.dim(2);
    each_gated_row<T>(a, gate, block_q, [&](int64_t i, T g) {
      for (int64_t c = i * d; c < (i + 1) * d && dx != nullptr; ++c) dx[c] = g * in[c];
      for (int64_t c = i * d; c < (i + 1) * d && dyy != nullptr; ++c) dyy[c] = (1 - g) * in[c];
    });
    if (dg == nullptr) return;
    parallel_for(0, gate.numel(), grain(4 * block_q * d), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % tm * block_q, last = std::min(first + block_q, n);
        double sum = 0;
        for (int64_t c = (i / tm * n + first) * d; c < (i / tm * n + last) * d; ++c)
          sum += static_cast<double>(in[c]) * static_cast<double>(x[c] - y[c]);
        dg[i] = static_cast<T>(sum);
      }
    });
  });
}

struct Mix {
  static constexpr const char* name = "attention_mix";
  Tensor mask{};
  int64_t block_q;
  Saved a{}, b{}, gate{};
  Shape shape_alpha{};
  DType type_alpha = DType::f32;

  // Query blocks without a complement have gate 1, and thus no gradient into alpha.
  Tensor gates(const Tensor& x, const Tensor& alpha) const {
    const int64_t tm = blocks(x.dim(2), block_q), tn = mask.defined() ? mask.dim(3) : 0;
    Tensor g({x.dim(0), x.dim(1), tm}, compute_dtype(x.dtype()), x.device());
    const Tensor logit = alpha.to(g.dtype()).contiguous();
    const Tensor m = mask.defined() ? mask.to(g.dtype()).contiguous() : mask;
    visit<DType::f32, DType::f64>(g.dtype(), name, [&]<class T>() {
      run_rows(g.device(), g.numel(), 50 + tn, [&] {
        return Gates<T>{logit.data<T>(),
                        x.dim(1),
                        tm,
                        tn,
                        alpha.rank() == 2,
                        nullptr,
                        m.defined() ? m.data<T>() : nullptr,
                        g.mutable_data<T>()};
      });
    });
    return g;
  }
  Tensor forward(const Ctx& c, const Tensor& a_, const Tensor& b_, const Tensor& alpha) {
    const Tensor g = gates(a_, alpha);
    if (c.recording) {
      gate = g;
      if (c.needs[2]) a = a_, b = b_;
      shape_alpha = alpha.shape(), type_alpha = alpha.dtype();
    }
    Tensor o(a_.shape(), a_.dtype(), a_.device());
    kernel::mix_forward(a_.device(), o, a_, b_, g, block_q);
    return o;
  }
  Grads<3> backward(const Ctx& c, const Tensor& dy) {
    const Tensor& g = gate.get();
    const DType type = compute_dtype(dy.dtype());
    Tensor da, db, dgate;
    if (c.needs[0]) da = Tensor(dy.shape(), type, dy.device());
    if (c.needs[1]) db = Tensor(dy.shape(), type, dy.device());
    if (c.needs[2]) dgate = Tensor(g.shape(), type, dy.device());
    const Tensor &x = c.needs[2] ? a.get() : dy, &y = c.needs[2] ? b.get() : dy;
    kernel::mix_backward(dy.device(), da, db, dgate, dy, x, y, g, block_q);
    Grads<3> out{da.to(dy.dtype()), db.to(dy.dtype()), {}};
    if (c.needs[2]) {
      const Tensor slope = map(fn::MixSlope{}, dgate, g);
      Tensor sum = sum_axes(slope, shape_alpha.size() == 1 ? 0b101u : 0b001u, false);
      out[2] = sum.to(type_alpha);
    }
    return out;
  }
};

struct MeanSquaredDifference {
  static constexpr const char* name = "mean_squared_difference";
  static constexpr Cast cast = Cast::f32;
  Tensor b{};
  Saved difference{};
  DType type = DType::f32;
  Tensor forward(const Ctx& c, const Tensor& a) {
    type = a.dtype();
    const Tensor d = map(fn::Sub{}, a.to(compute_dtype(type)), b);
    b = {};
    if (c.recording) difference = d;
    const double by = 1 / static_cast<double>(std::max<int64_t>(a.numel(), 1));
    return sum_axes(map(fn::ScaledSquare{by}, d), (1u << a.rank()) - 1, false);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor& d = difference.get();
    const double by = 2 / static_cast<double>(std::max<int64_t>(d.numel(), 1));
    return {map(fn::TimesBy{by}, d, dy).to(type)};
  }
};

}  // namespace

constinit Kernel<void(Tensor& o, const Tensor& a, const Tensor& b, const Tensor& gate,
                      int64_t block_q)>
    kernel::mix_forward{"attention mix forward", mix_forward_cpu};
constinit Kernel<void(Tensor& da, Tensor& db, Tensor& dgate, const Tensor& dy, const Tensor& a,
                      const Tensor& b, const Tensor& gate, int64_t block_q)>
    kernel::mix_backward{"attention mix backward", mix_backward_cpu};

Var linear_complement(const Var& q, const Var& k, const Var& v, const Var& m, LinearArgs args) {
  LinearBranch b{.args = std::move(args)};
  return apply(std::move(b), q, k, v, m);
}

Var mix(const Var& a, const Var& b, const Var& alpha, const Tensor& mask, int64_t block_q) {
  Mix m{.mask = mask, .block_q = block_q};
  return apply(std::move(m), a, b, alpha);
}

Var mean_squared_difference(const Var& a, const Tensor& b) {
  return apply(MeanSquaredDifference{.b = b}, a);
}

}  // namespace tenun::attn
