// Matrix product in INT8 arithmetic, for quantised inference and quantisation-aware training:
//   y = (q_a q_b) * s_a[row] * s_b[column],   q = round(x / s) in -127..127, s = amax / 127
// a [..., M, K] has a scale for every row, b [..., K, N] one for every column (of a weight [N, K],
// pass its transpose: one for every output). The sums are exact 32-bit integers. Batch axes
// broadcast. The gradient is straight-through, from the original operands: da = dy b^T, db = a^T
// dy, as for matmul. f64 computes the same definition in f64; Autocast: Cast::low.
//
//   Var y = int8_matmul(x, w.transpose(0, 1));
//
// Errors: ShapeError, DTypeError; ValueError for K > 131072 (the sums might overflow).
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"

namespace tenun {

[[nodiscard]] Var int8_matmul(const Var& a, const Var& b);

namespace kernel {
/// c[B][M][N] (f32, contiguous) = a_scale[B][M] b_scale[B][N] sum_k a[B][M][K] b[B][K][N]: i8
/// matrices of any strides, contiguous f32 scales.
extern Kernel<void(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& a_scale,
                   const Tensor& b_scale)>
    gemm_int8;
}  // namespace kernel

}  // namespace tenun
