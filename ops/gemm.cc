#include "tenun/ops/gemm.h"

#define EIGEN_DONT_PARALLELIZE  // one level of threads: ours
#include <Eigen/Core>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"

namespace tenun {
namespace {

using Eigen::Dynamic;
using Stride = Eigen::OuterStride<>;
template <class T>
using RowMajor = Eigen::Map<const Eigen::Matrix<T, Dynamic, Dynamic, Eigen::RowMajor>, 0, Stride>;
template <class T>
using ColMajor = Eigen::Map<const Eigen::Matrix<T, Dynamic, Dynamic, Eigen::ColMajor>, 0, Stride>;
template <class T>
using Result = Eigen::Map<Eigen::Matrix<T, Dynamic, Dynamic, Eigen::RowMajor>, 0, Stride>;

// A matrix of a batch: pointer and the two strides, one of which is 1.
template <class T>
struct Matrix {
  const T* p;
  int64_t rows, cols, row_stride, col_stride;
  [[nodiscard]] bool row_major() const {
    return col_stride == 1 && (row_stride >= cols || rows == 1);
  }
  template <class F>
  void map(F&& f) const {
    if (row_major())
      f(RowMajor<T>(p, rows, cols, Stride(rows == 1 ? cols : row_stride)));
    else
      f(ColMajor<T>(p, rows, cols, Stride(cols == 1 ? rows : col_stride)));
  }
  [[nodiscard]] Matrix block(int64_t r, int64_t c, int64_t nr, int64_t nc) const {
    return {p + r * row_stride + c * col_stride, nr, nc, row_stride, col_stride};
  }
};

template <class T>
void multiply(T* c, int64_t ldc, const Matrix<T>& a, const Matrix<T>& b, const T* bias) {
  Result<T> out(c, a.rows, b.cols, Stride(ldc));
  if (bias != nullptr)
    for (int64_t r = 0; r < a.rows; ++r) std::copy_n(bias, b.cols, c + r * ldc);
  else
    out.setZero();
  a.map([&](const auto& x) { b.map([&](const auto& y) { out.noalias() += x * y; }); });
}

// Into how many panels an axis is cut: a power of two, so that two, four, ... threads share them
// evenly, with panels of at least `least` and work worth a task.
int64_t panels(int64_t n, int64_t least, double flops) {
  int64_t p = 1;
  while (p < 16 && n / (p * 2) >= least && flops / static_cast<double>(p * 2) > 4e6) p *= 2;
  return p;
}

template <class T>
void run(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& bias) {
  const int64_t batch = c.dim(0), m = c.dim(1), n = c.dim(2), k = a.dim(2);
  T* const out = c.mutable_data<T>();
  const T *const pa = a.data<T>(), *const pb = b.data<T>(),
                 *const pbias = bias.defined() ? bias.data<T>() : nullptr;
  const double flops =
      2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
  const bool split_rows = m >= n;
  const int64_t parts = batch >= 16 ? 1 : panels(split_rows ? m : n, 96, flops);
  const int64_t length = split_rows ? m : n, step = ((length + parts - 1) / parts + 7) / 8 * 8;
  const auto task = [&](int64_t i) {
    const int64_t at = i / parts, first = i % parts * step, count = std::min(step, length - first);
    if (count <= 0) return;
    const Matrix<T> x{pa + at * a.strides()[0], m, k, a.strides()[1], a.strides()[2]};
    const Matrix<T> y{pb + at * b.strides()[0], k, n, b.strides()[1], b.strides()[2]};
    T* const z = out + at * m * n;
    if (split_rows)
      multiply(z + first * n, n, x.block(first, 0, count, k), y, pbias);
    else
      multiply(z + first, n, x, y.block(0, first, k, count),
               pbias != nullptr ? pbias + first : nullptr);
  };
  const int64_t tasks = batch * parts;
  // Small products are cheaper in one thread than the start of a team.
  if (flops * static_cast<double>(batch) < 1e6) {
    for (int64_t i = 0; i < tasks; ++i) task(i);
  } else {
    const int64_t group = std::max<int64_t>(
        1, static_cast<int64_t>(1e6 * static_cast<double>(parts) / std::max(flops, 1.0)));
    parallel_for(0, tasks, group, [&](int64_t s, int64_t e) {
      for (int64_t i = s; i < e; ++i) task(i);
    });
  }
}

}  // namespace

void gemm_cpu(Tensor& c, const Tensor& a, const Tensor& b, const Tensor& bias) {
  check<DTypeError>(a.dtype() == b.dtype() && (!bias.defined() || bias.dtype() == a.dtype()),
                    "matmul", "operands of different types: {} x {}", a, b);
  if (c.numel() == 0) return;
  if (a.dtype() == DType::f64) return run<double>(c, a, b, bias);
  if (a.dtype() == DType::f32) return run<float>(c, a, b, bias);
  check<DTypeError>(is_floating(a.dtype()), "matmul",
                    "does not take {}; it takes f32, f64, bf16, f16", name(a.dtype()));
  // 16-bit storage: panels of f32. A broadcast operand is converted once.
  const auto widen = [](const Tensor& x) {
    return x.strides()[0] == 0 && x.dim(0) > 1 ? x.slice(0, 0, 1).to(DType::f32).expand(x.shape())
                                               : x.to(DType::f32);
  };
  Tensor wide(c.shape(), DType::f32);
  run<float>(wide, widen(a), widen(b), bias.defined() ? bias.to(DType::f32) : bias);
  c.copy_(wide);
}

}  // namespace tenun
