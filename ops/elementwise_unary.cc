#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"

namespace tenun {
namespace {

using fn::Reads;

template <class F>
inline constexpr bool exact_on_integers = requires {
  requires F::integers;
};

template <class F>
struct Unary {
  static constexpr const char* name = F::name;
  // What grows or cancels quickly leaves 16-bit types under Autocast.
  static constexpr Cast cast = requires { requires F::wants_f32; }
  ? Cast::f32 : Cast::keep;
  F f;
  Saved kept;

  Tensor forward(const Ctx& c, const Tensor& x) {
    Tensor y = map(f, x);
    if constexpr (F::reads == Reads::input) {
      if (c.recording) kept = x;
    } else if constexpr (F::reads == Reads::output) {
      if (c.recording) kept = y;
    }
    return y;
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    if constexpr (F::reads == Reads::nothing) {
      if constexpr (requires { f.grad(1.0f); })
        return {map(fn::Grad<F>{f}, dy)};
      else
        return {dy};
    } else {
      return {map(fn::Grad<F>{f}, dy, kept.get())};
    }
  }
};

template <class F>
void check_dtype(const Var& x) {
  check<DTypeError>(is_floating(x.dtype()) || (exact_on_integers<F> && x.dtype() != DType::boolean),
                    F::name, "does not take {}; cast it to f32 first", x.value());
}
template <class F>
Var unary(const Var& x, F f = {}) {
  check_dtype<F>(x);
  return apply(Unary<F>{.f = f, .kept = {}}, x);
}
template <class F>
Var step(const Var& x) {
  check_dtype<F>(x);
  return Var(map(F{}, x.value()));
}
// A number that meets an integer tensor must be whole.
const Var& whole(const Var& x, double s, const char* op) {
  check(is_floating(x.dtype()) || s == std::floor(s), op,
        "the number {} is not whole, but the tensor is {}; cast the tensor first", s, x.value());
  return x;
}
Var real(const Var& x) { return is_floating(x.dtype()) ? x : Var(x.value().to(DType::f32)); }

}  // namespace

Var add(const Var& x, double s) { return unary(whole(x, s, "add"), fn::AddScalar(s)); }
Var sub(const Var& x, double s) { return unary(whole(x, s, "sub"), fn::AddScalar(-s)); }
Var sub(double s, const Var& x) { return unary(whole(x, s, "sub"), fn::SubFromScalar(s)); }
Var mul(const Var& x, double s) { return unary(whole(x, s, "mul"), fn::MulScalar(s)); }
Var div(const Var& x, double s) { return unary(real(x), fn::DivScalar(s)); }
Var div(double s, const Var& x) { return unary(real(x), fn::ScalarDiv(s)); }
Var pow(const Var& x, double exponent) {
  if (exponent == 2) return square(x);
  if (exponent == 0.5) return sqrt(x);
  if (exponent == -0.5) return rsqrt(x);
  if (exponent == -1) return reciprocal(x);
  return unary(x, fn::PowScalar(exponent));
}
Var clamp(const Var& x, double lo, double hi) {
  check(lo <= hi, "clamp", "the bounds [{}, {}] are empty", lo, hi);
  if (is_floating(x.dtype())) return unary(x, fn::Clamp(lo, hi));
  // 2^62 is as good as infinity for the integer tensors that occur, and can be converted.
  const double most = 0x1p62;
  return unary(x, fn::Clamp(std::max(std::ceil(lo), -most), std::min(std::floor(hi), most)));
}

Var neg(const Var& x) { return unary<fn::Neg>(x); }
Var abs(const Var& x) { return unary<fn::Abs>(x); }
Var exp(const Var& x) { return unary<fn::Exp>(x); }
Var log(const Var& x) { return unary<fn::Log>(x); }
Var log1p(const Var& x) { return unary<fn::Log1p>(x); }
Var sqrt(const Var& x) { return unary<fn::Sqrt>(x); }
Var rsqrt(const Var& x) { return unary<fn::Rsqrt>(x); }
Var square(const Var& x) { return unary<fn::Square>(x); }
Var reciprocal(const Var& x) { return unary<fn::Reciprocal>(x); }
Var sin(const Var& x) { return unary<fn::Sin>(x); }
Var cos(const Var& x) { return unary<fn::Cos>(x); }
Var tan(const Var& x) { return unary<fn::Tan>(x); }
Var tanh(const Var& x) { return unary<fn::Tanh>(x); }
Var sigmoid(const Var& x) { return unary<fn::Sigmoid>(x); }
Var silu(const Var& x) { return unary<fn::Silu>(x); }
Gelu gelu_from_name(std::string_view name) {
  check(name == "none" || name == "tanh", "gelu", "unknown approximation '{}'; use none or tanh",
        name);
  return name == "tanh" ? Gelu::tanh : Gelu::none;
}
Var gelu(const Var& x, Gelu approximate) {
  return approximate == Gelu::tanh ? unary<fn::GeluTanh>(x) : unary<fn::Gelu>(x);
}
Var relu(const Var& x) { return unary<fn::Relu>(x); }
Var elu(const Var& x, double alpha) { return unary(x, fn::Elu(alpha)); }
Var softplus(const Var& x) { return unary<fn::Softplus>(x); }

Var sign(const Var& x) { return step<fn::Sign>(x); }
Var floor(const Var& x) { return step<fn::Floor>(x); }
Var ceil(const Var& x) { return step<fn::Ceil>(x); }
Var round(const Var& x) { return step<fn::Round>(x); }

}  // namespace tenun
