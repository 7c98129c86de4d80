#include "tenun/ops/sum.h"

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"

namespace tenun {
namespace {

constexpr int64_t kChunk = 4096;  // elements of a row that one partial sum covers

template <class T>
double sum_run(const T* p, int64_t n) {
  using C = Compute<T>;
  constexpr int kLanes =
      16;  // independent sums: vector registers, and a shorter chain of roundings
  C lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) lane[k] += static_cast<C>(p[i + k]);
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(static_cast<C>(p[i]));
  for (const C v : lane) total += static_cast<double>(v);
  return total;
}

template <class T>
void sum_rows(T* y, const T* x, int64_t rows, int64_t n) {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  if (chunks <= 1) {
    parallel_for(0, rows, std::max<int64_t>(1, kChunk * 8 / std::max<int64_t>(n, 1)),
                 [&](int64_t b, int64_t e) {
                   for (int64_t r = b; r < e; ++r)
                     y[r] = T(static_cast<Compute<T>>(sum_run(x + r * n, n)));
                 });
    return;
  }
  std::vector<double> part(static_cast<size_t>(rows * chunks));
  parallel_for(0, rows * chunks, 8, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t at = i % chunks * kChunk;
      part[static_cast<size_t>(i)] = sum_run(x + i / chunks * n + at, std::min(kChunk, n - at));
    }
  });
  for (int64_t r = 0; r < rows; ++r) {
    double total = 0;
    for (int64_t c = 0; c < chunks; ++c) total += part[static_cast<size_t>(r * chunks + c)];
    y[r] = T(static_cast<Compute<T>>(total));
  }
}

// Columns: blocks of rows make partial rows, which are then added in order.
template <class T>
void sum_columns(T* y, const T* x, int64_t outer, int64_t rows, int64_t cols) {
  using C = Compute<T>;
  constexpr int64_t kRows = 64;
  const int64_t blocks = std::max<int64_t>(1, (rows + kRows - 1) / kRows);
  std::vector<C> part(static_cast<size_t>(outer * blocks * cols));
  parallel_for(0, outer * blocks,
               std::max<int64_t>(1, kChunk * 8 / (kRows * std::max<int64_t>(cols, 1))),
               [&](int64_t b, int64_t e) {
                 for (int64_t i = b; i < e; ++i) {
                   C* __restrict p = part.data() + i * cols;
                   const int64_t first = i % blocks * kRows, last = std::min(rows, first + kRows);
                   for (int64_t r = first; r < last; ++r) {
                     const T* __restrict row = x + (i / blocks * rows + r) * cols;
                     for (int64_t c = 0; c < cols; ++c) p[c] += static_cast<C>(row[c]);
                   }
                 }
               });
  parallel_for(0, outer * cols, kChunk, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const C* p = part.data() + i / cols * blocks * cols + i % cols;
      double total = 0;
      for (int64_t k = 0; k < blocks; ++k) total += static_cast<double>(p[k * cols]);
      y[i] = T(static_cast<C>(total));
    }
  });
}

void sum_middle_cpu(Tensor& y, const Tensor& x) {
  const int64_t a = x.dim(0), r = x.dim(1), c = x.dim(2);
  if (x.dtype() == DType::i64) {  // exact
    const int64_t* p = x.data<int64_t>();
    int64_t* q = y.mutable_data<int64_t>();
    for (int64_t i = 0; i < a * c; ++i) q[i] = 0;
    for (int64_t i = 0; i < a * r * c; ++i) q[i / (r * c) * c + i % c] += p[i];
    return;
  }
  visit_float(x.dtype(), "sum", [&]<class T>() {
    if (c == 1)
      sum_rows(y.mutable_data<T>(), x.data<T>(), a, r);
    else
      sum_columns(y.mutable_data<T>(), x.data<T>(), a, r, c);
  });
}

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& x)> kernel::sum_middle{"sum", sum_middle_cpu};

Tensor reduce_view(const Tensor& x, unsigned mask) {
  int first = -1, last = -1;
  bool neighbours = true;
  for (int i = 0; i < x.rank(); ++i)
    if ((mask >> i & 1u) != 0) {
      if (first < 0)
        first = i;
      else
        neighbours = neighbours && last == i - 1;
      last = i;
    }
  int64_t a = 1, r = 1, c = 1;
  if (first < 0) return x.contiguous().view({x.numel(), 1, 1});
  for (int i = 0; i < x.rank(); ++i) {
    if ((mask >> i & 1u) != 0)
      r *= x.dim(i);
    else if (!neighbours || i < first)
      a *= x.dim(i);
    else
      c *= x.dim(i);
  }
  if (neighbours) return x.contiguous().view({a, r, c});
  Dims order;
  for (int i = 0; i < x.rank(); ++i)
    if ((mask >> i & 1u) == 0) order.push_back(i);
  for (int i = 0; i < x.rank(); ++i)
    if ((mask >> i & 1u) != 0) order.push_back(i);
  return x.permute(order).contiguous().view({a, r, 1});
}

Tensor sum_axes(const Tensor& x, unsigned mask, bool keepdim) {
  Shape shape;
  for (int i = 0; i < x.rank(); ++i) {
    if ((mask >> i & 1u) == 0)
      shape.push_back(x.dim(i));
    else if (keepdim)
      shape.push_back(1);
  }
  if (mask == 0) return x.reshape(shape);
  const Tensor v = reduce_view(x, mask);
  Tensor y({v.dim(0), v.dim(2)}, x.dtype(), x.device());
  kernel::sum_middle(x.device(), y, v);
  return y.view(shape);
}

Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  unsigned mask = 0;
  const int extra = x.rank() - shape.size();
  check<ShapeError>(extra >= 0, "sum_to", "{} cannot be summed to {}", x, shape);
  for (int i = 0; i < x.rank(); ++i)
    if (i < extra || (shape[i - extra] == 1 && x.dim(i) != 1)) mask |= 1u << i;
  return sum_axes(x, mask, true).view(shape);
}

}  // namespace tenun
