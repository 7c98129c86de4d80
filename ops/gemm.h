// The CPU matrix product behind kernel::gemm: operands are packed (converted, transposed) once,
// then blocks of C are computed from the packed panels (ops/simd/gemm_kernels.h). How C is cut
// depends on the sizes and the number of threads; its bits do not.
//
//   gemm_cpu(c, a, b, bias);   c[B][M][N] = a[B][M][K] b[B][K][N] + bias[N]
//
// f32, f64, bf16, f16 (f32 sums for 16 bits), any strides; a or b may have batch stride 0. Blocking
// after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
#pragma once
#include "tenun/core/tensor.h"

namespace tenun {

void gemm_cpu(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& bias);

/// c[B][M][N] (f32) = a_scale[B][M] b_scale[B][N] sum_k a[B][M][K] b[B][K][N] of i8 matrices, the
/// sums exact in 32 bits (K <= 2^17). Scales are contiguous f32.
void gemm_int8_cpu(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& a_scale,
                   const Tensor& b_scale);

}  // namespace tenun
