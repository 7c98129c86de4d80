// Matrix products on the device (kernel::gemm, kernel::gemm_int8), as plain data:
//   c[i][m][n] = sum over k of a[i][m][k] b[i][k][n], then bias[n] is added, or the sums are
//   multiplied by a_scale[i][m] b_scale[i][n]
// Who computes them:
//   blas_product   cuBLASLt, where the GPU's machine has it (cuda/blas.cu); bias in the epilogue
//   mma_product    our kernel on the tensor cores, for bf16, f16 and i8 (cuda/matmul_mma.cu)
//   fma_product    our kernel in ordinary arithmetic, for f32 and f64 (cuda/matmul_fma.cu)
// Sums of 16-bit types run in f32, of i8 in exact 32-bit integers; one thread makes one element
// from first to last k, so the bits are the same in every run.
#pragma once
#include <cstdint>

#include "tenun/core/dtype.h"
#include "tenun/cuda/runtime.h"

namespace tenun::TENUN_BACKEND {

/// A batch of matrices, seen as lanes (rows of a, columns of b) by k; strides in elements.
struct Operand {
  const void* data = nullptr;
  int64_t batch_stride = 0, lane_stride = 0, k_stride = 0;
};
struct MatrixProduct {
  DType type = DType::f32;  ///< of a and b; c has it too, but is f32 for i8
  int64_t batch = 0, m = 0, n = 0, k = 0;
  Operand a, b;
  void* c = nullptr;                                   ///< contiguous
  const void* bias = nullptr;                          ///< [n] of `type`, or nullptr
  const float *a_scale = nullptr, *b_scale = nullptr;  ///< [batch][m], [batch][n], for i8
};

/// False where there is no library, or where it has no algorithm for these sizes and strides.
[[nodiscard]] bool blas_product(const MatrixProduct& p);
void mma_product(const MatrixProduct& p);
void fma_product(const MatrixProduct& p);

}  // namespace tenun::TENUN_BACKEND
