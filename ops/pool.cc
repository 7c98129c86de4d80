#include "tenun/ops/pool.h"

#include <algorithm>
#include <limits>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/resample.h"

namespace tenun {
namespace {

int64_t grain_for(int64_t work) { return std::max<int64_t>(1, 65536 / std::max<int64_t>(work, 1)); }

template <class T>
void max_pool(Tensor& y, Tensor& index, const Tensor& x, const Windows& w) {
  const int64_t h = x.dim(1), v = x.dim(2), oh = y.dim(1), ow = y.dim(2);
  const T* const in = x.data<T>();
  T* const out = y.mutable_data<T>();
  int32_t* const winners = index.defined() ? index.mutable_data<int32_t>() : nullptr;
  using C = Compute<T>;
  parallel_for(
      0, x.dim(0) * oh, grain_for(ow * w.kernel.h * w.kernel.w), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const T* const plane = in + i / oh * h * v;
          const int64_t top = i % oh * w.stride.h - w.padding.h;
          const int64_t r0 = std::max<int64_t>(top, 0), r1 = std::min(h, top + w.kernel.h);
          for (int64_t j = 0; j < ow; ++j) {
            const int64_t left = j * w.stride.w - w.padding.w;
            const int64_t c0 = std::max<int64_t>(left, 0), c1 = std::min(v, left + w.kernel.w);
            int64_t best = r0 * v + c0;
            C most = static_cast<C>(plane[best]);
            for (int64_t r = r0; r < r1; ++r)
              for (int64_t c = c0; c < c1; ++c) {
                const C value = static_cast<C>(plane[r * v + c]);
                // A NaN wins, and stays: nothing is greater than it, but a later NaN is as good.
                const bool wins = value > most || value != value;
                most = wins ? value : most;
                best = wins ? r * v + c : best;
              }
            out[i * ow + j] = T(most);
            if (winners != nullptr) winners[i * ow + j] = static_cast<int32_t>(best);
          }
        }
      });
}

void max_pool2d_cpu(Tensor& y, Tensor& index, const Tensor& x, const Windows& w) {
  visit_float(x.dtype(), "max_pool2d", [&]<class T>() { max_pool<T>(y, index, x, w); });
}

// A plane belongs to one task, so overlapping windows add up in a fixed order.
void max_pool2d_backward_cpu(Tensor& dx, const Tensor& dy, const Tensor& index, const Windows&) {
  visit_float(dy.dtype(), "max_pool2d", [&]<class T>() {
    using C = Compute<T>;
    const int64_t n = dx.dim(1) * dx.dim(2), m = dy.dim(1) * dy.dim(2);
    const T* const from = dy.data<T>();
    const int32_t* const winners = index.data<int32_t>();
    T* const to = dx.mutable_data<T>();
    parallel_for(0, dx.dim(0), grain_for(n), [&](int64_t begin, int64_t end) {
      std::vector<C> sum(static_cast<size_t>(n));
      for (int64_t p = begin; p < end; ++p) {
        std::fill(sum.begin(), sum.end(), C(0));
        for (int64_t i = p * m; i < (p + 1) * m; ++i)
          sum[static_cast<size_t>(winners[i])] += static_cast<C>(from[i]);
        for (int64_t i = 0; i < n; ++i) to[p * n + i] = T(sum[static_cast<size_t>(i)]);
      }
    });
  });
}

Tensor planes(const Tensor& x) {
  return x.reshape({x.dim(0) * x.dim(1), x.dim(2), x.dim(3)}).contiguous();
}

struct MaxPool2d {
  static constexpr const char* name = "max_pool2d";
  Windows windows;
  Pair counts = 0;
  Shape shape{};
  Saved index{};

  Tensor forward(const Ctx& c, const Tensor& x) {
    shape = x.shape();
    Tensor y({x.dim(0), x.dim(1), counts.h, counts.w}, x.dtype(), x.device());
    const Shape flat{x.dim(0) * x.dim(1), counts.h, counts.w};
    Tensor y3 = y.view(flat), winners;
    if (c.recording && c.needs[0]) winners = Tensor(flat, DType::i32, x.device());
    kernel::max_pool2d(x.device(), y3, winners, planes(x), windows);
    if (winners.defined()) index = winners;
    return y;
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    Tensor dx(shape, dy.dtype(), dy.device());
    Tensor dx3 = dx.view({shape[0] * shape[1], shape[2], shape[3]});
    kernel::max_pool2d_backward(dy.device(), dx3, planes(dy), index.get(), windows);
    return {dx};
  }
};

// The mean over windows is separable: box tables for rows and columns.
struct AvgPool2d {
  static constexpr const char* name = "avg_pool2d";
  AxisTable rows, columns;

  Tensor forward(const Ctx&, const Tensor& x) { return resample(x, rows, columns); }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    return {resample(dy, rows.transposed(), columns.transposed())};
  }
};

AxisTable box_table(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t padding,
                    bool count_padding) {
  AxisTable table;
  table.inputs = in;
  for (int64_t i = 0; i < out; ++i) {
    const int64_t from = i * stride - padding;
    const int64_t a = std::max<int64_t>(from, 0), b = std::min(in, from + kernel);
    table.add(a, std::vector<double>(static_cast<size_t>(b - a),
                                     1.0 / static_cast<double>(count_padding ? kernel : b - a)));
  }
  return table;
}

Windows windows_of(const Var& x, const PoolOptions& o, Pair& counts, const char* op) {
  const Windows w{o.kernel, o.stride.value_or(o.kernel), o.padding, 1};
  counts = window_counts(x.shape(), w, op);
  check(w.padding.h * 2 <= w.kernel.h && w.padding.w * 2 <= w.kernel.w, op,
        "padding {} x {} is more than half of the kernel {} x {}: some windows would hold no pixel",
        w.padding.h, w.padding.w, w.kernel.h, w.kernel.w);
  return w;
}

}  // namespace

constinit Kernel<void(Tensor& y, Tensor& index, const Tensor& x, const Windows& w)>
    kernel::max_pool2d{"max_pool2d", max_pool2d_cpu};
constinit Kernel<void(Tensor& dx, const Tensor& dy, const Tensor& index, const Windows& w)>
    kernel::max_pool2d_backward{"max_pool2d_backward", max_pool2d_backward_cpu};

Var max_pool2d(const Var& x, const PoolOptions& o) {
  Pair counts = 0;
  const Windows w = windows_of(x, o, counts, "max_pool2d");
  check<ShapeError>(x.dim(2) * x.dim(3) <= std::numeric_limits<int32_t>::max(), "max_pool2d",
                    "x {} has planes of more than 2^31 pixels", x.value());
  return apply(MaxPool2d{w, counts}, x);
}

Var avg_pool2d(const Var& x, const PoolOptions& o) {
  Pair counts = 0;
  const Windows w = windows_of(x, o, counts, "avg_pool2d");
  return apply(
      AvgPool2d{
          box_table(x.dim(2), counts.h, w.kernel.h, w.stride.h, w.padding.h, o.count_include_pad),
          box_table(x.dim(3), counts.w, w.kernel.w, w.stride.w, w.padding.w, o.count_include_pad)},
      x);
}

}  // namespace tenun
