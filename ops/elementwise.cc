#include "tenun/ops/elementwise.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

using fn::Side;

constexpr bool covers(Side reads, Side side) { return reads == side || reads == Side::both; }

// The dtype in which two operands meet. Floats have been brought together by Cast::widest before.
DType meet(DType a, DType b) {
  if (is_floating(a)) return is_floating(b) && epsilon_of(b) < epsilon_of(a) ? b : a;
  if (is_floating(b)) return b;
  if (a == b) return a;
  if ((a == DType::i8 && b == DType::u8) || (a == DType::u8 && b == DType::i8)) return DType::i32;
  if (size_of(a) != size_of(b)) return size_of(a) > size_of(b) ? a : b;
  return a == DType::boolean ? b : a;
}

template <class F>
DType result_type(const Tensor& a, const Tensor& b) {
  const DType d = meet(a.dtype(), b.dtype());
  if (is_floating(d)) return d;
  if constexpr (!F::integers) return DType::f32;
  check<DTypeError>(d != DType::boolean, F::name,
                    "bool with bool; use logical_and, logical_or or logical_xor, or cast first");
  return d;
}

template <class F>
struct Binary {
  static constexpr const char* name = F::name;
  static constexpr Cast cast = Cast::widest;
  Saved a, b;
  Shape shape_a, shape_b;

  Tensor forward(const Ctx& c, const Tensor& a_, const Tensor& b_) {
    if (c.recording) {
      shape_a = a_.shape(), shape_b = b_.shape();
      const auto wanted = [&](Side s) {
        return (c.needs[0] && covers(F::left_reads, s)) ||
               (c.needs[1] && covers(F::right_reads, s));
      };
      if (wanted(Side::left)) a = a_;
      if (wanted(Side::right)) b = b_;
    }
    return map_to(result_type<F>(a_, b_), F{}, a_, b_);
  }

  // What does not depend on the operands is summed first, so the smaller tensor is mapped. G is not
  // even named where a side's gradient is dy itself.
  template <class G, Side Reads, bool Mapped>
  Tensor gradient(const Tensor& dy, const Shape& shape) const {
    if constexpr (Reads == Side::none && Mapped)
      return map(G{}, sum_to(dy, shape));
    else if constexpr (Reads == Side::none)
      return sum_to(dy, shape);
    else if constexpr (Reads == Side::both)
      return sum_to(map(G{}, dy, a.get(), b.get()), shape);
    else
      return sum_to(map(G{}, dy, Reads == Side::left ? a.get() : b.get()), shape);
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    constexpr bool left = requires(F f) { f.left(1.0f); };
    constexpr bool right = requires(F f) { f.right(1.0f); };
    Grads<2> d;
    if (c.needs[0]) d[0] = gradient<fn::LeftGrad<F>, F::left_reads, left>(dy, shape_a);
    if (c.needs[1]) d[1] = gradient<fn::RightGrad<F>, F::right_reads, right>(dy, shape_b);
    return d;
  }
};

struct WhereOp {
  static constexpr const char* name = "where";
  static constexpr Cast cast = Cast::widest;
  Saved cond;
  Shape shape_a, shape_b;

  Tensor forward(const Ctx& c, const Tensor& cond_, const Tensor& a, const Tensor& b) {
    const Tensor flags = cond_.to(DType::boolean);
    if (c.recording) cond = flags, shape_a = a.shape(), shape_b = b.shape();
    return map_to(meet(a.dtype(), b.dtype()), fn::Where{}, flags, a, b);
  }
  Grads<3> backward(const Ctx& c, const Tensor& dy) {
    Grads<3> d;
    if (c.needs[1]) d[1] = sum_to(map_to(dy.dtype(), fn::WhereGrad{true}, cond.get(), dy), shape_a);
    if (c.needs[2])
      d[2] = sum_to(map_to(dy.dtype(), fn::WhereGrad{false}, cond.get(), dy), shape_b);
    return d;
  }
};

template <class F>
Var binary(const Var& a, const Var& b) {
  (void)broadcast_shapes(a.shape(), b.shape(), F::name);
  return apply(Binary<F>{}, a, b);
}
template <class Op>
Var compare(const Var& a, const Var& b) {
  return Var(map_to(DType::boolean, fn::Compare<Op>{}, a.value(), b.value()));
}
// A number in the precision of x, so that eq(x, 0.1) finds the f32 that is nearest to 0.1.
Var number(double s, const Var& x) {
  const bool wide = x.dtype() == DType::f64 || !is_floating(x.dtype());
  return Var(Tensor::scalar(s, wide ? DType::f64 : DType::f32, x.device()));
}

}  // namespace

Var add(const Var& a, const Var& b) { return binary<fn::Add>(a, b); }
Var sub(const Var& a, const Var& b) { return binary<fn::Sub>(a, b); }
Var mul(const Var& a, const Var& b) { return binary<fn::Mul>(a, b); }
Var div(const Var& a, const Var& b) { return binary<fn::Div>(a, b); }
Var maximum(const Var& a, const Var& b) { return binary<fn::Maximum>(a, b); }
Var minimum(const Var& a, const Var& b) { return binary<fn::Minimum>(a, b); }
Var pow(const Var& base, const Var& exponent) { return binary<fn::Pow>(base, exponent); }

Var where(const Var& cond, const Var& a, const Var& b) {
  check<DTypeError>(!is_floating(cond.dtype()), "where",
                    "the condition must be bool or integer, got {}", cond.value());
  (void)broadcast_shapes(broadcast_shapes(cond.shape(), a.shape(), "where"), b.shape(), "where");
  return apply(WhereOp{}, cond, a, b);
}

Var eq(const Var& a, const Var& b) { return compare<fn::Eq>(a, b); }
Var ne(const Var& a, const Var& b) { return compare<fn::Ne>(a, b); }
Var lt(const Var& a, const Var& b) { return compare<fn::Lt>(a, b); }
Var le(const Var& a, const Var& b) { return compare<fn::Le>(a, b); }
Var gt(const Var& a, const Var& b) { return compare<fn::Lt>(b, a); }
Var ge(const Var& a, const Var& b) { return compare<fn::Le>(b, a); }
Var eq(const Var& x, double s) { return eq(x, number(s, x)); }
Var ne(const Var& x, double s) { return ne(x, number(s, x)); }
Var lt(const Var& x, double s) { return lt(x, number(s, x)); }
Var le(const Var& x, double s) { return le(x, number(s, x)); }
Var gt(const Var& x, double s) { return gt(x, number(s, x)); }
Var ge(const Var& x, double s) { return ge(x, number(s, x)); }
Var logical_and(const Var& a, const Var& b) { return compare<fn::And>(a, b); }
Var logical_or(const Var& a, const Var& b) { return compare<fn::Or>(a, b); }
Var logical_xor(const Var& a, const Var& b) { return compare<fn::Xor>(a, b); }
Var logical_not(const Var& x) {
  return Var(map_to(DType::boolean, fn::Test<fn::Not>{}, x.value()));
}
Var isnan(const Var& x) { return Var(map_to(DType::boolean, fn::Test<fn::IsNan>{}, x.value())); }
Var isfinite(const Var& x) {
  return Var(map_to(DType::boolean, fn::Test<fn::IsFinite>{}, x.value()));
}

}  // namespace tenun
