// The family of small matrix products that every CPU attention kernel shares:
//
//   C[m][lane] (+)= sum_k A(m, k) * B[k][lane]
//
// B and C are row-major with whole cache lines of lanes (pad(n) elements); A is read one element at
// a time, so that it may be any strided or transposed view. All sums over k run in order: the bits
// depend on the sizes and the instruction set only. Safe for the per-level sources.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tenun::simd {

/// Two bf16 or four bytes that are neighbours along k; may alias and be unaligned.
struct [[gnu::packed, gnu::may_alias]] Group {
  uint32_t bits;
};

/// Lanes are padded to whole cache lines of 4-byte or 8-byte elements.
template <class T>
[[nodiscard]] constexpr int64_t pad(int64_t n) {
  constexpr auto lanes = static_cast<int64_t>(64 / sizeof(T));
  return (n + lanes - 1) / lanes * lanes;
}

enum class Into : uint8_t { set, add };

/// Element i, j of a matrix at p[i * row + j * col].
template <class T>
struct Strided {
  const T* p;
  int64_t row, col;
};

struct ProductKernels {
  /// n: lanes, a multiple of pad<float>(1) = 16 (of 8 for double).
  void (*f32)(int64_t m, int64_t n, int64_t k, Strided<float> a, const float* b, int64_t ldb,
              float* c, int64_t ldc, Into into);
  void (*f64)(int64_t m, int64_t n, int64_t k, Strided<double> a, const double* b, int64_t ldb,
              double* c, int64_t ldc, Into into);
  /// k counts pairs; B is [k][ldb] pairs. f32 sums.
  void (*bf16)(int64_t m, int64_t n, int64_t k, Strided<Group> a, const Group* b, int64_t ldb,
               float* c, int64_t ldc, Into into);
  /// k counts quads; A holds signed bytes, B unsigned ones. Exact 32-bit sums.
  void (*s8u8)(int64_t m, int64_t n, int64_t k, Strided<Group> a, const Group* b, int64_t ldb,
               int32_t* c, int64_t ldc, Into into);
  /// y[c][r] = x[r][c] for r < rows, c < cols.
  void (*transpose_f32)(const float* x, int64_t ldx, int64_t rows, int64_t cols, float* y,
                        int64_t ldy);
  void (*transpose_f64)(const double* x, int64_t ldx, int64_t rows, int64_t cols, double* y,
                        int64_t ldy);
};

namespace avx2 {
extern const ProductKernels product_kernels;
}
namespace avx512 {
extern const ProductKernels product_kernels;
}
namespace avx512_bf16 {
extern const ProductKernels product_kernels;
}

}  // namespace tenun::simd
