// Tools for kernels that treat a tensor as rows (softmax, norms, cosine): rows are read and written
// in the compute type (float, or double for f64), whatever their dtype, so each kernel's arithmetic
// is compiled twice and mixed dtypes come free. A row of 16-bit numbers passes through a buffer
// that stays in the first-level cache.
//
//   by_compute({&y, &x}, [&]<class C>() {
//     const RowReader<C> in(x);  const RowWriter<C> out(y);
//     for_rows(rows, n, [&](int64_t begin, int64_t end) { RowBuffer<C> a(n), b(n); ... });
//   });
#pragma once
#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <memory>

#include "tenun/core/parallel.h"
#include "tenun/core/tensor.h"

namespace tenun {

/// f64 for f64, else f32: the type in which statistics and small sums are kept.
[[nodiscard]] constexpr DType compute_dtype(DType d) {
  return d == DType::f64 ? DType::f64 : DType::f32;
}
/// The narrowest floating type that holds both: f64 > f32 > 16-bit; bf16 with f16 gives f32.
[[nodiscard]] constexpr DType wider(DType a, DType b) {
  if (a == b) return a;
  return a == DType::f64 || b == DType::f64 ? DType::f64 : DType::f32;
}
/// Contiguous and in the compute type of `d`; itself if it is so already.
[[nodiscard]] inline Tensor in_compute(const Tensor& t, DType d) {
  return t.defined() ? t.to(compute_dtype(d)).contiguous() : t;
}

namespace detail {

template <class C>
using RowLoad = void (*)(C* out, const std::byte* from, int64_t n);
template <class C>
using RowStore = void (*)(std::byte* to, const C* from, int64_t n);
template <class C>
[[nodiscard]] RowLoad<C> row_load(DType d);
template <class C>
[[nodiscard]] RowStore<C> row_store(DType d);

/// Calls f<double>() if one of the tensors is f64, else f<float>().
template <class F>
void by_compute(std::initializer_list<const Tensor*> tensors, F&& f) {
  bool wide = false;
  for (const Tensor* t : tensors) wide = wide || (t->defined() && t->dtype() == DType::f64);
  if (wide)
    f.template operator()<double>();
  else
    f.template operator()<float>();
}

/// Uninitialised scratch for one row.
template <class C>
class RowBuffer {
 public:
  explicit RowBuffer(int64_t n)
      : data_(std::make_unique_for_overwrite<C[]>(static_cast<size_t>(n))) {}
  operator C*() const { return data_.get(); }  // NOLINT: it stands for its first element

 private:
  std::unique_ptr<C[]> data_;
};

/// Reads runs of elements as C; offsets count elements from the tensor's first one.
template <class C>
class RowReader {
 public:
  explicit RowReader(const Tensor& t)
      : data_(t.raw()), size_(size_of(t.dtype())), load_(row_load<C>(t.dtype())) {}
  const C* at(int64_t offset, int64_t n, C* buffer) const {
    const std::byte* p = data_ + offset * size_;
    if (load_ == nullptr) return reinterpret_cast<const C*>(p);
    load_(buffer, p, n);
    return buffer;
  }

 private:
  const std::byte* data_;
  int64_t size_;
  RowLoad<C> load_;  // nullptr: the tensor holds C
};

/// Writes runs of elements given as C: fill what at() returns, then call done() with the same
/// arguments.
template <class C>
class RowWriter {
 public:
  explicit RowWriter(Tensor& t)
      : data_(t.raw()), size_(size_of(t.dtype())), store_(row_store<C>(t.dtype())) {}
  C* at(int64_t offset, C* buffer) const {
    return store_ == nullptr ? reinterpret_cast<C*>(data_ + offset * size_) : buffer;
  }
  void done(int64_t offset, int64_t n, const C* buffer) const {
    if (store_ != nullptr) store_(data_ + offset * size_, buffer, n);
  }

 private:
  std::byte* data_;
  int64_t size_;
  RowStore<C> store_;
};

inline constexpr int64_t kRowGrain = 16384;  // elements of one task: 64 KiB of f32

/// parallel_for over rows of n elements.
template <class F>
void for_rows(int64_t rows, int64_t n, F&& f) {
  parallel_for(0, rows, std::max<int64_t>(1, kRowGrain / std::max<int64_t>(n, 1)), f);
}

// Adds the upper half of the lanes to the lower, down to one. Constant widths: a rolled loop here
// costs as much as summing a row of 64.
template <int kWidth, class C>
inline void fold_lanes(C* lane) {
  for (int k = 0; k < kWidth; ++k) lane[k] += lane[k + kWidth];
  if constexpr (kWidth > 1) fold_lanes<kWidth / 2>(lane);
}

/// Sums over i in [0, n) of the N numbers f(i), in independent lanes: vectorises, keeps the order
/// fixed, and rounds less than a running sum.
template <class C, int N, class F>
[[nodiscard]] inline std::array<C, N> lane_sums(int64_t n, F f) {
  constexpr int kLanes = 16;
  C lane[N][kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) {
      const std::array<C, N> v = f(i + k);
      for (int j = 0; j < N; ++j) lane[j][k] += v[static_cast<size_t>(j)];
    }
  for (int k = 0; k < kLanes && i + k < n; ++k) {
    const std::array<C, N> v = f(i + k);
    for (int j = 0; j < N; ++j) lane[j][k] += v[static_cast<size_t>(j)];
  }
  std::array<C, N> total;
  for (int j = 0; j < N; ++j) {
    fold_lanes<kLanes / 2>(lane[j]);
    total[static_cast<size_t>(j)] = lane[j][0];
  }
  return total;
}
template <class C, class F>
[[nodiscard]] inline C lane_sum(int64_t n, F f) {
  return lane_sums<C, 1>(n, [f](int64_t i) { return std::array<C, 1>{f(i)}; })[0];
}

/// Largest of x[0..n), n >= 1; a NaN is passed over (it shows up in what follows).
template <class C>
[[nodiscard]] inline C lane_max(const C* x, int64_t n) {
  constexpr int kLanes = 16;
  C lane[kLanes];
  C* __restrict l = lane;
  for (C& v : lane) v = -std::numeric_limits<C>::infinity();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const C* __restrict p = x + i;
#pragma GCC unroll 1  // unrolled first, the loop is not vectorised: 8 times slower
    for (int k = 0; k < kLanes; ++k) l[k] = p[k] > l[k] ? p[k] : l[k];
  }
  C best = -std::numeric_limits<C>::infinity();
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  for (const C v : lane) best = v > best ? v : best;
  return best;
}

}  // namespace detail
}  // namespace tenun
