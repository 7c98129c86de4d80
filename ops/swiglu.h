// SwiGLU: y = silu(a) b for x = [a, b] along the last axis (arXiv 2002.05202); x [..., 2 h] gives
// y [..., h], any h. One pass forward and one backward; only x is saved.
//   da = dy b s (1 + a (1 - s)),  s = sigmoid(a);   db = dy a s
//
//   Var u = swiglu(linear(x, w12, b12));
//
// Errors: ShapeError for an odd last axis, DTypeError for integers.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"
#include "tenun/core/math.h"

namespace tenun {

[[nodiscard]] Var swiglu(const Var& x);

namespace fn {
/// The mathematics of one element, for host and device.
struct Swiglu {
  template <class T>
  TENUN_HD static T value(T a, T b) {
    return a * math::sigmoid(a) * b;
  }
  template <class T>
  TENUN_HD static void grad(T dy, T a, T b, T& da, T& db) {
    const T s = math::sigmoid(a), silu = a * s;
    da = dy * b * (s + silu * (T(1) - s));
    db = dy * silu;
  }
};
}  // namespace fn

namespace kernel {
/// x contiguous [R, 2 h], y [R, h]; dx like x, dy like y.
extern Kernel<void(Tensor& y, const Tensor& x)> swiglu;
extern Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& x)> swiglu_backward;
}  // namespace kernel

}  // namespace tenun
