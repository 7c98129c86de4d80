// The slots of the linear branch and of the mix: the passes of linear_plain.cu, whose products run
// on the tensor cores: of bf16 in bf16 (product_tensor.cu), of f16 in TF32, of f32 as sums of TF32
// numbers (product_tf32.cu). The sums of states over blocks are a product with the 0/1 matrix of
// the blocks, which reads every state once (attention.md 2.4).
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/operands.h"
#include "tenun/cuda/attention/register.h"
#include "tenun/cuda/runtime.h"
#include "tenun/ops/attention/linear.h"
#include "tenun/ops/attention/parts.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

using attn::LinearArgs;
using attn::LinearGrads;

/// What the products are formed in: f64 on the ordinary units, else on the tensor cores. f16 takes
/// TF32, which keeps its digits: states and quotients' gradients may leave its range.
enum class Products : uint8_t { f64, f32, bf16, tf32 };

/// One call's sizes and workspaces. Products in bf16 have operands of bf16 and sums of f32. Else
/// everything is in the compute type. S = d wide numbers are a state: num
/// and den (and padding).
struct Linear {
  DType type;  ///< C
  Products products;
  DType low;  ///< of the operands of products
  Device device;
  int64_t heads, nq, nk, d, wide;
  int64_t gate_block;        ///< queries of a gate
  int64_t block_q, block_k;  ///< of the states; without weights one row of blocks of 256 keys
  int64_t tm, tn, w_wide, state;
  Rows rows_q, rows_k, rows_v;
  const LinearArgs& args;
  Tensor phi_q, phi_k, values, w, key_states, row_states, quotients;

  Linear(const Tensor& q, const Tensor& k, const Tensor& v, const LinearArgs& args_)
      : type(attn::compute_dtype(q.dtype())),
        products(products_of(q)),
        low(products == Products::bf16 ? DType::bf16 : type),
        device(q.device()),
        heads(q.dim(0) * q.dim(1)),
        nq(q.dim(2)),
        nk(k.dim(2)),
        d(q.dim(3)),
        wide(products == Products::f64    ? d + 1
             : products == Products::bf16 ? d + 16
                                          : (d + 4) / 4 * 4),
        gate_block(args_.gate.defined() ? args_.block_q : nq),
        block_q(whole(args_) ? nq : args_.block_q),
        block_k(whole(args_) ? 256 : args_.block_k),
        tm((nq + block_q - 1) / block_q),
        tn((nk + block_k - 1) / block_k),
        w_wide(products != Products::f64 ? (tn + 7) / 8 * 8 : tn),
        state(d * wide),
        rows_q(rows_of(q)),
        rows_k(rows_of(k)),
        rows_v(rows_of(v)),
        args(args_) {
    check_heads(heads);
  }
  static Products products_of(const Tensor& q) {
    if (q.dtype() == DType::bf16 && q.dim(3) % 8 == 0) return Products::bf16;
    return q.dtype() == DType::f64   ? Products::f64
           : q.dtype() == DType::f32 ? Products::f32
                                     : Products::tf32;
  }
  static bool whole(const LinearArgs& a) { return !a.weight.defined() && a.lists == nullptr; }

  [[nodiscard]] Tensor tensor(int64_t n) const { return Tensor({n}, type, device); }
  [[nodiscard]] Tensor operand(int64_t n) const { return Tensor({n}, low, device); }
  /// The product; `to`: the type of its result.
  void multiply(Product p, DType to) const {
    p.c_dtype = to;
    switch (products) {
      case Products::f64: return product_f64(p);
      case Products::f32: return product_f32(p);
      case Products::bf16: return product_tensor(p);
      case Products::tf32: return product_tf32(p);
    }
  }
  [[nodiscard]] Features of_queries() const {
    return {rows_q,     static_cast<int>(args.feature_map),
            heads,      nq,
            d,          read(args.gate),
            gate_block, phi_q.defined() ? const_cast<std::byte*>(phi_q.raw()) : nullptr,
            low};
  }
  [[nodiscard]] Features of_keys() const {
    return {rows_k, static_cast<int>(args.feature_map),
            heads,  nk,
            d,      nullptr,
            1,      phi_k.defined() ? const_cast<std::byte*>(phi_k.raw()) : nullptr,
            low};
  }

  /// out_block = x^T y over the tokens of each block: x (n, d), y (n, wide) -> (d, wide).
  void states(const Tensor& x, const Tensor& y, int64_t n, int64_t block, int64_t count,
              Tensor& out) const {
    multiply({.a = {x.raw(), n * d, block * d, 1, d},
              .b = {y.raw(), n * wide, block * wide, wide, 1},
              .c = {out.raw(), count * state, state, wide, 1},
              .heads = heads,
              .blocks = count,
              .m = d,
              .n = wide,
              .k = block,
              .k_total = n},
             low);
  }
  /// out_a = sum over b of w(a, b) in_b for whole states; `turned`: w(b, a).
  void combine(const Tensor& in, int64_t from, Tensor& out, int64_t to, bool turned) const {
    multiply({.a = {w.raw(), tm * w_wide, 0, turned ? 1 : w_wide, turned ? w_wide : 1},
              .b = {in.raw(), from * state, 0, state, 1},
              .c = {out.raw(), to * state, 0, state, 1},
              .heads = heads,
              .m = to,
              .n = state,
              .k = from},
             low);
  }
  /// out (n, across) = x (n, deep) times the state of each block, or its transpose.
  void by_state(const Tensor& x, int64_t deep, const Tensor& all, int64_t count, bool turned,
                int64_t n, int64_t block, Tensor& out, int64_t across, bool accumulate) const {
    multiply({.a = {x.raw(), n * deep, block * deep, deep, 1},
              .b = {all.raw(), count * state, state, turned ? 1 : wide, turned ? wide : 1},
              .c = {out.raw(), n * across, block * across, across, 1},
              .heads = heads,
              .blocks = count,
              .m = block,
              .n = across,
              .k = deep,
              .m_total = n,
              .accumulate = accumulate},
             type);
  }

  /// Everything up to (num, den) of each query.
  void forward() {
    phi_q = operand(heads * nq * d), phi_k = operand(heads * nk * d);
    values = operand(heads * nk * wide);
    key_states = operand(heads * tn * state), row_states = operand(heads * tm * state);
    quotients = tensor(heads * nq * wide);
    features(of_queries(), type);
    features(of_keys(), type);
    extend({rows_v, heads, nk, d, wide, values.raw(), low}, type);
    w = operand(heads * tm * w_wide);
    const Tensor weight = args.weight.defined() ? args.weight.contiguous() : Tensor();
    list_weights({row_lists(args.lists), heads, tm, tn, w_wide, read(weight), w.raw(), low}, type);
    states(phi_k, values, nk, block_k, tn, key_states);
    combine(key_states, tn, row_states, tm, false);
    by_state(phi_q, d, row_states, tm, false, nq, block_q, quotients, wide, false);
  }
  [[nodiscard]] LinearOutput output() const {
    return {quotients.raw(), read(args.gate), heads,   nq,  d, wide,
            gate_block,      args.eps,        nullptr, type};
  }

  void backward(const Tensor& dy, LinearGrads& g) {
    Tensor dproduct = operand(heads * nq * wide);
    linear_gradient({output(), rows_of(dy), dproduct.raw(), write(g.dot), low}, type);
    if (g.dq.defined()) {
      Tensor dphi = tensor(heads * nq * d);
      by_state(dproduct, wide, row_states, tm, true, nq, block_q, dphi, d, false);
      feature_gradient({of_queries(), dphi.raw(), g.dq.raw(), g.accumulate}, type);
    }
    Tensor down = operand(heads * tm * state);
    states(phi_q, dproduct, nq, block_q, tm, down);
    if (g.dweight.defined())
      multiply({.a = {down.raw(), tm * state, 0, state, 1},
                .b = {key_states.raw(), tn * state, 0, 1, state},
                .c = {g.dweight.raw(), tm * tn, 0, tn, 1},
                .heads = heads,
                .m = tm,
                .n = tn,
                .k = state},
               type);
    if (!g.dk.defined() && !g.dv.defined()) return;
    Tensor up = operand(heads * tn * state);
    combine(down, tm, up, tn, true);
    if (g.dv.defined()) by_state(phi_k, d, up, tn, false, nk, block_k, g.dv, d, g.accumulate);
    if (!g.dk.defined()) return;
    Tensor dphi = tensor(heads * nk * d);
    by_state(values, wide, up, tn, true, nk, block_k, dphi, d, false);
    feature_gradient({of_keys(), dphi.raw(), g.dk.raw(), g.accumulate}, type);
  }
};

void linear_forward(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v,
                    const LinearArgs& args) {
  if (q.numel() == 0 || k.numel() == 0) {
    o.fill_(0);
    return;
  }
  Linear l(q, k, v, args);
  l.forward();
  LinearOutput out = l.output();
  out.o = o.raw(), out.o_dtype = o.dtype();
  linear_output(out, l.type);
}

void linear_backward(LinearGrads& g, const Tensor& dy, const Tensor& q, const Tensor& k,
                     const Tensor& v, const LinearArgs& args) {
  if (q.numel() == 0 || k.numel() == 0) {
    for (Tensor* t : {&g.dq, &g.dk, &g.dv})
      if (t->defined() && !g.accumulate) t->fill_(0);
    for (Tensor* t : {&g.dweight, &g.dot})
      if (t->defined()) t->fill_(0);
    return;
  }
  Linear l(q, k, v, args);
  l.forward();
  l.backward(dy, g);
}

Mix mix_of(const Tensor& a, const Tensor& b, const Tensor& gate, int64_t block_q) {
  Mix m;
  m.a = rows_of(a), m.b = rows_of(b);
  m.heads = a.dim(0) * a.dim(1), m.n = a.dim(2), m.d = a.dim(3), m.block = block_q;
  m.gate = gate.raw();
  return m;
}
void mix_forward(Tensor& o, const Tensor& a, const Tensor& b, const Tensor& gate, int64_t block_q) {
  Mix m = mix_of(a, b, gate, block_q);
  m.o = o.raw(), m.o_dtype = o.dtype();
  mix(m, gate.dtype());
}
void mix_backward(Tensor& da, Tensor& db, Tensor& dgate, const Tensor& dy, const Tensor& a,
                  const Tensor& b, const Tensor& gate, int64_t block_q) {
  mix_gradient({mix_of(a, b, gate, block_q), rows_of(dy), write(da), write(db), write(dgate)},
               gate.dtype());
}

}  // namespace

void register_linear() {
  attn::kernel::linear_forward.set(kDevice, linear_forward);
  attn::kernel::linear_backward.set(kDevice, linear_backward);
  attn::kernel::mix_forward.set(kDevice, mix_forward);
  attn::kernel::mix_backward.set(kDevice, mix_backward);
}

}  // namespace tenun::TENUN_BACKEND::attention
