// The family behind the CPU matrix product: packing of operands, and blocks of C from packed ones.
// Safe for the per-level sources (rules: ops/simd/isa.h).
//
// A is packed in panels of `rows` rows, B in panels of `lanes` columns; both as [groups][rows or
// lanes], zeros behind the last row or column. A group holds the neighbours along k that one
// multiplication takes: one f32 or f64, a pair of bf16, a quad of bytes. Where the level has no
// instruction for pairs, 16-bit elements become f32 while they are packed. Every element of C is
// summed over k in order, in chunks that depend on k alone: its bits do not depend on how C is cut
// into blocks.
#pragma once
#include <cstdint>

namespace tenun::simd {

/// Rows of A or columns of B: element (lane, k) at p[lane * lane_stride + k * k_stride].
struct GemmSource {
  const void* p;
  int64_t lanes, k, lane_stride, k_stride;
};

/// An m x n block of C from the panels a and b on, m <= kGemmRows.
struct GemmBlock {
  const void *a, *b;
  int64_t a_panel, b_panel;  ///< bytes from one panel to the next
  int64_t m, n, k;
  void* c;
  int64_t ldc;       ///< in elements
  const void* bias;  ///< nullptr, or n values of C's type
  // Bytes only: c = (sum_k a b) * a_scale[i] * b_scale[j].
  const int32_t* a_sum;  ///< sum_k of each row of A: B is packed with 128 added to it
  const float *a_scale, *b_scale;
};
inline constexpr int kGemmRows = 96;

struct GemmKernel {
  int rows, lanes;         ///< of a panel of A, of B
  int group, group_bytes;  ///< elements along k, and the bytes that hold them
  void (*pack_a)(const GemmSource& from, void* to, int64_t panel_bytes);
  void (*pack_b)(const GemmSource& from, void* to, int64_t panel_bytes);
  void (*block)(const GemmBlock& g);
};

/// By the type of A and B; C has the same type, f32 for bytes.
struct GemmKernels {
  GemmKernel f32, f64, bf16, f16, s8;
};

namespace avx2 {
extern const GemmKernels gemm_kernels;
}
namespace avx512 {
extern const GemmKernels gemm_kernels;
}
namespace avx512_bf16 {
extern const GemmKernels gemm_kernels;
}

}  // namespace tenun::simd
