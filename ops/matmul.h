// Matrix products. All sums run in f32 (f64 for f64), whatever the storage type.
//   matmul(a, b)      [..., M, K] x [..., K, N] -> [..., M, N]; batch axes broadcast
//   linear(x, w, b)   y = x w^T + b; x [..., in], w [out, in], b [out] (optional)
// Transposed views (x.transpose) cost nothing: the product reads either axis order.
// Gradients: da = dy b^T, db = a^T dy, summed over broadcast batch axes; dw = dy^T x, dbias =
// column sums of dy. Autocast: Cast::low. Errors: ShapeError, DTypeError.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"

namespace tenun {

[[nodiscard]] Var matmul(const Var& a, const Var& b);
[[nodiscard]] Var linear(const Var& x, const Var& weight, const Var& bias = {});

/// The product of tensors: what backward passes and other ops use.
[[nodiscard]] Tensor matmul(const Tensor& a, const Tensor& b);

namespace kernel {
/// c[i] = a[i] b[i] (+ bias on every row, if defined) for batches: a [B, M, K], b [B, K, N], c [B,
/// M, N] contiguous. In a and b one of the last two strides is 1; the batch stride may be 0.
extern Kernel<void(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& bias)> gemm;
}  // namespace kernel

/// For kernels: says once why products are slower than they could be.
void note_slow_matmul(const char* why);

}  // namespace tenun
