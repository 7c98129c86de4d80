// The op around a matrix product of [..., M, K] x [..., K, N]: its checks, what it saves, and the
// two gradients, which are those of the exact product whatever the forward pass rounds
// (straight-through). Internal to matmul and int8_matmul.
#pragma once
#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/sum.h"

namespace tenun {

/// The axes before the matrix.
[[nodiscard]] inline Shape batch_of(const Tensor& x) {
  return {x.shape().begin(), x.shape().end() - 2};
}

inline void check_product(const char* op, const Tensor& a, const Tensor& b) {
  check<ShapeError>(a.rank() >= 2 && b.rank() >= 2, op, "needs matrices, got {} x {}", a, b);
  check<ShapeError>(a.dim(-1) == b.dim(-2), op, "inner sizes differ: {} x {}", a, b);
}

/// Op: `name`, and product(a, b).
template <class Op>
struct MatrixProduct {
  static constexpr const char* name = Op::name;
  static constexpr Cast cast = Cast::low;
  Saved a, b;
  Shape shape_a, shape_b;

  Tensor forward(const Ctx& c, const Tensor& a_, const Tensor& b_) {
    if (c.recording) {
      shape_a = a_.shape(), shape_b = b_.shape();
      if (c.needs[1]) a = a_;
      if (c.needs[0]) b = b_;
    }
    return Op::product(a_, b_);
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    Grads<2> g;
    if (c.needs[0]) g[0] = sum_to(matmul(dy, b.get().transpose(-2, -1)), shape_a);
    if (c.needs[1]) g[1] = sum_to(matmul(a.get().transpose(-2, -1), dy), shape_b);
    return g;
  }
};

}  // namespace tenun
