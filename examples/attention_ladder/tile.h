// What the fast rungs share: e^x for whole vectors, a product of small matrices, and the state of
// the online softmax for a tile of queries.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tenun/examples/attention_ladder/ladder.h"

namespace ladder {

/// e^x to about 1e-7, without branches and table, so that the compiler makes vector code of a loop
/// over it: e^x = 2^n 2^f with n = round(x log2 e), and 2^f by a polynomial on [-1/2, 1/2].
inline float exp_poly(float x) {
  const float y = std::max(x, -87.0F) * 1.44269504F;
  const float shifted = y + 12582912.0F;  // 1.5 * 2^23: the mantissa now ends in round(y)
  const float f = y - (shifted - 12582912.0F);
  float p = 1.5403530e-4F;
  p = p * f + 1.3333558e-3F;
  p = p * f + 9.6181291e-3F;
  p = p * f + 5.5504109e-2F;
  p = p * f + 2.4022651e-1F;
  p = p * f + 6.9314718e-1F;
  p = p * f + 1.0F;
  return std::bit_cast<float>(std::bit_cast<int32_t>(p) + (std::bit_cast<int32_t>(shifted) << 23));
}

/// Eight floats as one value: arithmetic on it works on all of them at once (a vector extension
/// that GCC and Clang share). Some products need it spelled out; simple loops the compiler turns
/// into the same by itself.
typedef float Eight __attribute__((vector_size(32)));
inline Eight load(const float* p) {
  Eight v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Eight v) { std::memcpy(p, &v, sizeof v); }

/// c (rows x cols) += a (rows x inner) * b (inner x cols); lda, ldb, ldc: distance between rows;
/// rows a multiple of 4, cols of 8. Four rows by sixteen columns of c stay in registers while
/// `inner` runs: every value of a and b that is loaded serves several products.
inline void multiply_add(float* c, int ldc, const float* a, int lda, const float* b, int ldb,
                         int rows, int inner, int cols) {
  const auto block = [&]<int kEights>(int i, int j) {
    Eight sum[4][kEights] = {};
    for (int t = 0; t < inner; ++t) {
      Eight row[kEights];
      for (int s = 0; s < kEights; ++s) row[s] = load(b + t * ldb + j + 8 * s);
      for (int r = 0; r < 4; ++r)
        for (int s = 0; s < kEights; ++s) sum[r][s] += a[(i + r) * lda + t] * row[s];
    }
    for (int r = 0; r < 4; ++r)
      for (int s = 0; s < kEights; ++s) {
        float* const to = c + (i + r) * ldc + j + 8 * s;
        store(to, load(to) + sum[r][s]);
      }
  };
  for (int i = 0; i < rows; i += 4) {
    int j = 0;
    for (; j + 16 <= cols; j += 16) block.template operator()<2>(i, j);
    for (; j < cols; j += 8) block.template operator()<1>(i, j);
  }
}

/// to (cols x rows) = from (rows x cols) transposed.
inline void transpose(float* to, const float* from, int rows, int cols) {
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < cols; ++j) to[j * rows + i] = from[i * cols + j];
}

/// The online softmax of kBlockQ queries: feed it tiles of scores, in any order.
struct OnlineTile {
  int d;
  float max[kBlockQ], sum[kBlockQ];
  Floats o;  // kBlockQ x d, not yet divided by sum

  explicit OnlineTile(int dim) : d(dim), o(static_cast<size_t>(kBlockQ * dim)) {
    std::fill_n(max, kBlockQ, -INFINITY);
    std::fill_n(sum, kBlockQ, 0.0F);
  }
  /// s: kBlockQ x kBlockK scores of these keys; overwritten with their exponentials.
  void take(float* s, const float* v) {
    for (int i = 0; i < kBlockQ; ++i) {
      float* const row = s + i * kBlockK;
      float top = max[i];
      for (int j = 0; j < kBlockK; ++j) top = std::max(top, row[j]);
      const float shrink =
          exp_poly(max[i] - top);  // 1 where the maximum stays; e^-inf = 0 at first
      max[i] = top;
      float lane[8] = {};
      for (int j = 0; j < kBlockK; j += 8)
        for (int l = 0; l < 8; ++l) {
          row[j + l] = exp_poly(row[j + l] - top);
          lane[l] += row[j + l];
        }
      float total = 0;
      for (const float x : lane) total += x;
      sum[i] = sum[i] * shrink + total;
      for (int c = 0; c < d; ++c) o[static_cast<size_t>(i * d + c)] *= shrink;
    }
    multiply_add(o.data(), d, s, kBlockK, v, d, kBlockQ, kBlockK, d);
  }
  /// The finished rows, times `weight`, added to `out`.
  void add_to(float* out, float weight = 1) const {
    for (int i = 0; i < kBlockQ; ++i)
      for (int c = 0; c < d; ++c)
        out[i * d + c] += weight * o[static_cast<size_t>(i * d + c)] / sum[i];
  }
};

}  // namespace ladder
