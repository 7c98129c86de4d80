// The one product behind every attention kernel: small matrices in the cache, 256-bit lanes.
//
//   C[m][lanes] (+)= sum_k A(m, k) * B[k][lanes]
//
// B and C are row-major with lanes along the row (their width rounded up to a whole vector, so rows
// are padded); A is read one element at a time, so it may be any strided or transposed view. All
// sums over k run in order: the bits depend on the sizes only. Types: float and double.
// Internal to ops/attention.
#pragma once
#include <cstdint>

#include "tenun/core/tensor.h"

namespace tenun::attn {

/// Elements of one vector.
template <class T>
inline constexpr int64_t kLanes = 32 / static_cast<int64_t>(sizeof(T));
/// Queries (or keys) of a panel: the lanes of one pass.
inline constexpr int64_t kPanel = 64;

template <class T>
[[nodiscard]] constexpr int64_t padded(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

/// An operand that is read element by element.
template <class T>
struct Broadcast {
  const T* p;
  int64_t row, col;  ///< strides of m and k
};

enum class Into { set, add };

/// C[m][0..n) from A (m x k) and B (k x n); n a multiple of kLanes<T>.
template <class T>
void tile_product(int64_t m, int64_t n, int64_t k, Broadcast<T> a, const T* b, int64_t ldb, T* c,
                  int64_t ldc, Into into);
extern template void tile_product(int64_t, int64_t, int64_t, Broadcast<float>, const float*,
                                  int64_t, float*, int64_t, Into);
extern template void tile_product(int64_t, int64_t, int64_t, Broadcast<double>, const double*,
                                  int64_t, double*, int64_t, Into);

/// y[c][r] = x[r][c] for r < rows, c < cols.
template <class T>
void transpose(const T* x, int64_t ldx, int64_t rows, int64_t cols, T* y, int64_t ldy);
extern template void transpose(const float*, int64_t, int64_t, int64_t, float*, int64_t);
extern template void transpose(const double*, int64_t, int64_t, int64_t, double*, int64_t);

/// y[c][r] = scale * x[r][c] for r < rows; the rest of every line of y (ld long) is set to zero.
template <class T>
void pack_transposed(const T* x, int64_t row_stride, int64_t rows, int64_t cols, T scale, T* y,
                     int64_t ld) {
  transpose(x, row_stride, rows, cols, y, ld);
  for (int64_t c = 0; c < cols; ++c) {
    T* const line = y + c * ld;
    if (scale != 1)
      for (int64_t r = 0; r < rows; ++r) line[r] *= scale;
    for (int64_t r = rows; r < ld; ++r) line[r] = 0;
  }
}

/// Pieces of work to give one task, where each costs about `flops`: the bounds depend on sizes
/// only.
[[nodiscard]] inline int64_t grain(int64_t flops) {
  constexpr int64_t kLeast = 400'000;
  return flops >= kLeast ? 1 : kLeast / (flops > 0 ? flops : 1);
}

/// Rows of one head: unit stride along the channels.
template <class T>
struct Rows {
  const T* p;
  int64_t stride;
  [[nodiscard]] const T* row(int64_t i) const { return p + i * stride; }
};

/// (B, H, N, D) tensor of type T with unit channel stride, cut into heads.
template <class T>
class Heads {
 public:
  explicit Heads(const Tensor& t)
      : p_(t.data<T>()),
        heads_(t.dim(1)),
        sb_(t.strides()[0]),
        sh_(t.strides()[1]),
        sn_(t.strides()[2]) {}
  [[nodiscard]] Rows<T> operator[](int64_t bh) const {
    return {p_ + bh / heads_ * sb_ + bh % heads_ * sh_, sn_};
  }

 private:
  const T* p_;
  int64_t heads_, sb_, sh_, sn_;
};

/// x in the compute type (f32, or f64 for f64) with unit stride along the last axis.
[[nodiscard]] Tensor compute_rows(const Tensor& x);
/// f64 for f64, else f32.
[[nodiscard]] inline DType compute_dtype(DType d) {
  return d == DType::f64 ? DType::f64 : DType::f32;
}

/// Memory of one task, from the caching allocator; pieces are aligned to whole cache lines.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t elements)
      : memory_({elements + 64}, dtype_of<T>), p_(memory_.mutable_data<T>()), left_(elements) {}
  T* take(int64_t n) {
    T* const at = p_;
    n = (n + 15) / 16 * 16;
    p_ += n, left_ -= n;
    return at;
  }

 private:
  Tensor memory_;
  T* p_;
  int64_t left_;
};

}  // namespace tenun::attn
