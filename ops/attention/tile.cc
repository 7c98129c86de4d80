#include "tenun/ops/attention/tile.h"

namespace tenun::attn {
namespace {

template <class T>
struct Vector {
  typedef T aligned __attribute__((vector_size(32)));
  typedef T type __attribute__((vector_size(32), aligned(4), may_alias));
};
template <>
struct Vector<double> {
  typedef double aligned __attribute__((vector_size(32)));
  typedef double type __attribute__((vector_size(32), aligned(8), may_alias));
};

// M x NV vectors of C stay in registers over the whole sum.
template <class T, int M, int NV>
[[gnu::always_inline]] inline void strip(int64_t k, const T* a, int64_t row, int64_t col,
                                         const T* b, int64_t ldb, T* c, int64_t ldc, Into into) {
  using V = typename Vector<T>::aligned;
  using U = typename Vector<T>::type;
  constexpr int64_t kWidth = kLanes<T>;
  V acc[M][NV];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v)
      acc[m][v] = into == Into::add ? *reinterpret_cast<const U*>(c + m * ldc + v * kWidth) : V{};
  for (int64_t i = 0; i < k; ++i) {
    V lanes[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) lanes[v] = *reinterpret_cast<const U*>(b + v * kWidth);
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const T x = a[m * row];
#pragma GCC unroll 2
      for (int v = 0; v < NV; ++v) acc[m][v] += x * lanes[v];
    }
    a += col;
    b += ldb;
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < NV; ++v) *reinterpret_cast<U*>(c + m * ldc + v * kWidth) = acc[m][v];
}

// kUnitRow: neighbouring rows of A are neighbours in memory, so that addresses are constants.
template <class T, int NV, bool kUnitRow>
void column(int64_t m, int64_t k, const Broadcast<T>& a, const T* b, int64_t ldb, T* c, int64_t ldc,
            Into into) {
  const int64_t row = kUnitRow ? 1 : a.row;
  // Strips of 6 and 5 rows where possible: fewer would leave the multipliers waiting.
  const int64_t strips = (m + 5) / 6;
  for (int64_t s = 0, at = 0; s < strips; ++s) {
    const int64_t n = (m - at + (strips - s) - 1) / (strips - s);
    const T* const x = a.p + at * row;
    T* const y = c + at * ldc;
    switch (n) {
      case 6: strip<T, 6, NV>(k, x, row, a.col, b, ldb, y, ldc, into); break;
      case 5: strip<T, 5, NV>(k, x, row, a.col, b, ldb, y, ldc, into); break;
      case 4: strip<T, 4, NV>(k, x, row, a.col, b, ldb, y, ldc, into); break;
      case 3: strip<T, 3, NV>(k, x, row, a.col, b, ldb, y, ldc, into); break;
      case 2: strip<T, 2, NV>(k, x, row, a.col, b, ldb, y, ldc, into); break;
      default: strip<T, 1, NV>(k, x, row, a.col, b, ldb, y, ldc, into); break;
    }
    at += n;
  }
}

template <class T, int NV>
void column(int64_t m, int64_t k, const Broadcast<T>& a, const T* b, int64_t ldb, T* c, int64_t ldc,
            Into into) {
  if (a.row == 1)
    column<T, NV, true>(m, k, a, b, ldb, c, ldc, into);
  else
    column<T, NV, false>(m, k, a, b, ldb, c, ldc, into);
}

// One square of kLanes x kLanes elements in registers: neighbours are interleaved, then pairs, then
// halves.
template <class T>
[[gnu::always_inline]] inline void square(const T* x, int64_t ldx, T* y, int64_t ldy) {
  using V = typename Vector<T>::aligned;
  using U = typename Vector<T>::type;
  constexpr int kWidth = static_cast<int>(kLanes<T>);
  V a[kWidth], b[kWidth];
  for (int i = 0; i < kWidth; ++i) a[i] = *reinterpret_cast<const U*>(x + i * ldx);
  if constexpr (kWidth == 8) {
    for (int i = 0; i < 8; i += 2) {
      b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
      b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
      for (int j = 0; j < 2; ++j) {
        a[i + 2 * j] = __builtin_shufflevector(b[i + j], b[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        a[i + 2 * j + 1] =
            __builtin_shufflevector(b[i + j], b[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
      }
    for (int i = 0; i < 4; ++i) {
      b[i] = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
      b[i + 4] = __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
  } else {
    for (int i = 0; i < 4; i += 2) {
      b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 4, 2, 6);
      b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 1, 5, 3, 7);
    }
    for (int i = 0; i < 2; ++i) {
      a[i] = __builtin_shufflevector(b[i], b[i + 2], 0, 1, 4, 5);
      a[i + 2] = __builtin_shufflevector(b[i], b[i + 2], 2, 3, 6, 7);
    }
    for (int i = 0; i < 4; ++i) b[i] = a[i];
  }
  for (int i = 0; i < kWidth; ++i) *reinterpret_cast<U*>(y + i * ldy) = b[i];
}

}  // namespace

template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, Broadcast<T> a, const T* b, int64_t ldb, T* c,
                  int64_t ldc, Into into) {
  int64_t at = 0;
  for (; at + 2 * kLanes<T> <= n; at += 2 * kLanes<T>)
    column<T, 2>(m, k, a, b + at, ldb, c + at, ldc, into);
  for (; at < n; at += kLanes<T>) column<T, 1>(m, k, a, b + at, ldb, c + at, ldc, into);
}
template void tile_product(int64_t, int64_t, int64_t, Broadcast<float>, const float*, int64_t,
                           float*, int64_t, Into);
template void tile_product(int64_t, int64_t, int64_t, Broadcast<double>, const double*, int64_t,
                           double*, int64_t, Into);

template <class T>
void transpose(const T* x, int64_t ldx, int64_t rows, int64_t cols, T* y, int64_t ldy) {
  constexpr int64_t kWidth = kLanes<T>;
  const int64_t full_rows = rows / kWidth * kWidth, full_cols = cols / kWidth * kWidth;
  for (int64_t r = 0; r < full_rows; r += kWidth)
    for (int64_t c = 0; c < full_cols; c += kWidth)
      square(x + r * ldx + c, ldx, y + c * ldy + r, ldy);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < full_rows ? full_cols : 0; c < cols; ++c) y[c * ldy + r] = x[r * ldx + c];
}
template void transpose(const float*, int64_t, int64_t, int64_t, float*, int64_t);
template void transpose(const double*, int64_t, int64_t, int64_t, double*, int64_t);

Tensor compute_rows(const Tensor& x) {
  const Tensor wide = x.to(compute_dtype(x.dtype()));
  return wide.strides()[wide.rank() - 1] == 1 || wide.dim(-1) == 1 ? wide : wide.contiguous();
}

}  // namespace tenun::attn
