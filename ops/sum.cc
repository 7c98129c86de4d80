#include "tenun/ops/sum.h"

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"

namespace tenun {
namespace {

constexpr int64_t kChunk = 4096;  // elements of a row that one partial sum covers

// g(value, output index) is what is added up: the value itself, or its squared distance from a
// center.
template <class T, class G>
double sum_run(const T* p, int64_t n, int64_t out, G g) {
  using C = Compute<T>;
  constexpr int kLanes =
      16;  // independent sums: vector registers, and a shorter chain of roundings
  constexpr int64_t kFlush = 64 * kLanes;  // then they go into a double
  double total = 0;
  int64_t i = 0;
  while (i + kLanes <= n) {
    C lane[kLanes] = {};
    for (const int64_t end = std::min(n, i + kFlush); i + kLanes <= end; i += kLanes)
      for (int k = 0; k < kLanes; ++k) lane[k] += g(static_cast<C>(p[i + k]), out);
    for (const C v : lane) total += static_cast<double>(v);
  }
  for (; i < n; ++i) total += static_cast<double>(g(static_cast<C>(p[i]), out));
  return total;
}

template <class T, class Y, class G>
void sum_rows(Y* y, const T* x, int64_t rows, int64_t n, double scale, G g) {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  if (chunks <= 1) {
    parallel_for(0, rows, std::max<int64_t>(1, kChunk * 8 / std::max<int64_t>(n, 1)),
                 [&](int64_t b, int64_t e) {
                   for (int64_t r = b; r < e; ++r)
                     y[r] = Y(static_cast<Compute<T>>(scale * sum_run(x + r * n, n, r, g)));
                 });
    return;
  }
  std::vector<double> part(static_cast<size_t>(rows * chunks));
  parallel_for(0, rows * chunks, 8, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const int64_t r = i / chunks, at = i % chunks * kChunk;
      part[static_cast<size_t>(i)] = sum_run(x + r * n + at, std::min(kChunk, n - at), r, g);
    }
  });
  for (int64_t r = 0; r < rows; ++r) {
    double total = 0;
    for (int64_t c = 0; c < chunks; ++c) total += part[static_cast<size_t>(r * chunks + c)];
    y[r] = Y(static_cast<Compute<T>>(scale * total));
  }
}

// Columns: blocks of rows make partial rows, which are then added in order.
template <class T, class Y, class G>
void sum_columns(Y* y, const T* x, int64_t outer, int64_t rows, int64_t cols, double scale, G g) {
  using C = Compute<T>;
  constexpr int64_t kRows = 64;
  const int64_t blocks = std::max<int64_t>(1, (rows + kRows - 1) / kRows);
  std::vector<C> part(static_cast<size_t>(outer * blocks * cols));
  parallel_for(0, outer * blocks,
               std::max<int64_t>(1, kChunk * 8 / (kRows * std::max<int64_t>(cols, 1))),
               [&](int64_t b, int64_t e) {
                 for (int64_t i = b; i < e; ++i) {
                   C* __restrict p = part.data() + i * cols;
                   const int64_t a = i / blocks, first = i % blocks * kRows;
                   const int64_t last = std::min(rows, first + kRows);
                   for (int64_t r = first; r < last; ++r) {
                     const T* __restrict row = x + (a * rows + r) * cols;
                     for (int64_t c = 0; c < cols; ++c)
                       p[c] += g(static_cast<C>(row[c]), a * cols + c);
                   }
                 }
               });
  parallel_for(0, outer * cols, kChunk, [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) {
      const C* p = part.data() + i / cols * blocks * cols + i % cols;
      double total = 0;
      for (int64_t k = 0; k < blocks; ++k) total += static_cast<double>(p[k * cols]);
      y[i] = Y(static_cast<C>(scale * total));
    }
  });
}

template <class T, class Y, class G>
void sum_any(Tensor& y, const Tensor& x, double scale, G g) {
  Y* const out = y.mutable_data<Y>();
  if (x.dim(2) == 1)
    sum_rows(out, x.data<T>(), x.dim(0), x.dim(1), scale, g);
  else
    sum_columns(out, x.data<T>(), x.dim(0), x.dim(1), x.dim(2), scale, g);
}

void sum_middle_cpu(Tensor& y, const Tensor& x, double scale) {
  if (x.dtype() == DType::i64) {  // exact
    const int64_t a = x.dim(0), r = x.dim(1), c = x.dim(2);
    const int64_t* p = x.data<int64_t>();
    int64_t* q = y.mutable_data<int64_t>();
    for (int64_t i = 0; i < a * c; ++i) q[i] = 0;
    for (int64_t i = 0; i < a * r; ++i)
      for (int64_t j = 0; j < c; ++j) q[i / r * c + j] += p[i * c + j];
    return;
  }
  visit_float(x.dtype(), "sum", [&]<class T>() {
    const auto plain = [](Compute<T> v, int64_t) { return v; };
    if (y.dtype() == dtype_of<T>)
      sum_any<T, T>(y, x, scale, plain);
    else
      sum_any<T, Compute<T>>(y, x, scale, plain);
  });
}

void sum_squares_cpu(Tensor& y, const Tensor& x, const Tensor& center, double scale) {
  visit_float(x.dtype(), "sum_squares", [&]<class T>() {
    using C = Compute<T>;
    if (!center.defined()) {
      sum_any<T, C>(y, x, scale, [](C v, int64_t) { return v * v; });
      return;
    }
    const C* const m = center.data<C>();
    sum_any<T, C>(y, x, scale, [m](C v, int64_t i) { return (v - m[i]) * (v - m[i]); });
  });
}

// Are the axes of the mask neighbours? Axes of the others before and after, the reduced ones last.
bool neighbours(unsigned mask) {
  const unsigned run = mask >> __builtin_ctz(mask);
  return (run & (run + 1)) == 0;
}
Dims reduced_last(int rank, unsigned mask) {
  Dims order;
  for (const unsigned want : {0u, 1u})
    for (int i = 0; i < rank; ++i)
      if ((mask >> i & 1u) == want) order.push_back(i);
  return order;
}

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& x, double scale)> kernel::sum_middle{"sum",
                                                                                    sum_middle_cpu};
constinit Kernel<void(Tensor& y, const Tensor& x, const Tensor& center, double scale)>
    kernel::sum_squares{"sum_squares", sum_squares_cpu};

unsigned axis_mask(const std::vector<int>& dims, int rank, const char* op) {
  if (dims.empty()) return (1u << rank) - 1;
  unsigned mask = 0;
  for (const int d : dims) {
    const int axis = normalize_axis(d, rank, op);
    check((mask >> axis & 1u) == 0, op, "axis {} is named twice", d);
    mask |= 1u << axis;
  }
  return mask;
}

Shape reduced_shape(const Shape& shape, unsigned mask, bool keepdim) {
  Shape out;
  for (int i = 0; i < shape.size(); ++i) {
    if ((mask >> i & 1u) == 0)
      out.push_back(shape[i]);
    else if (keepdim)
      out.push_back(1);
  }
  return out;
}

Tensor reduce_view(const Tensor& x, unsigned mask) {
  if (mask == 0) return x.contiguous().view({x.numel(), 1, 1});
  int64_t a = 1, r = 1, c = 1;
  const int first = __builtin_ctz(mask);
  for (int i = 0; i < x.rank(); ++i) {
    if ((mask >> i & 1u) != 0)
      r *= x.dim(i);
    else if (!neighbours(mask) || i < first)
      a *= x.dim(i);
    else
      c *= x.dim(i);
  }
  if (neighbours(mask)) return x.contiguous().view({a, r, c});
  return x.permute(reduced_last(x.rank(), mask)).contiguous().view({a, r, 1});
}

Tensor undo_reduce_view(const Tensor& v, const Shape& shape, unsigned mask) {
  if (mask == 0 || neighbours(mask)) return v.view(shape);
  const Dims order = reduced_last(shape.size(), mask);
  Shape permuted;
  Dims back = order;
  for (int i = 0; i < order.size(); ++i) {
    permuted.push_back(shape[static_cast<int>(order[i])]);
    back[static_cast<int>(order[i])] = i;
  }
  return v.view(permuted).permute(back);
}

Tensor sum_axes(const Tensor& x, unsigned mask, bool keepdim, double scale) {
  const Shape shape = reduced_shape(x.shape(), mask, keepdim);
  if (mask == 0 && scale == 1) return x.reshape(shape);
  const Tensor v = reduce_view(x, mask);
  Tensor y({v.dim(0), v.dim(2)}, x.dtype(), x.device());
  kernel::sum_middle(x.device(), y, v, scale);
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
