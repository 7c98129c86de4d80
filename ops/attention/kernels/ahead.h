// Rows that are wanted soon, for the per-level sources (rules: ops/simd/isa.h): fetched into the
// second-level cache piece by piece, beside the products of what is at hand.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "tenun/ops/simd/vector.h"

namespace tenun::simd::TENUN_ISA {

struct Ahead {
  const char* p;
  int64_t stride, bytes;  ///< of a row, in bytes
  int64_t rows;           ///< of a piece

  template <class E>
  static Ahead of(const E* p, int64_t stride, int64_t width, int64_t rows) {
    constexpr auto kSize = static_cast<int64_t>(sizeof(E));
    return {reinterpret_cast<const char*>(p), stride * kSize, width * kSize, rows};
  }
  /// n bytes in `pieces` pieces.
  static Ahead of_block(const void* p, int64_t n, int64_t pieces) {
    const int64_t bytes = (n / pieces + 63) / 64 * 64;
    return {static_cast<const char*>(p), bytes, bytes, 1};
  }
  TENUN_VECTOR void fetch(int64_t piece) const {
    for (int64_t r = piece * rows; r < (piece + 1) * rows; ++r)
      for (int64_t b = 0; b < bytes; b += 64) _mm_prefetch(p + r * stride + b, _MM_HINT_T1);
  }
};

/// A row of `n` elements.
template <class T>
TENUN_VECTOR void fetch_row(const T* p, int64_t n) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < n; i += kLine)
    _mm_prefetch(reinterpret_cast<const char*>(p + i), _MM_HINT_T1);
}

}  // namespace tenun::simd::TENUN_ISA
