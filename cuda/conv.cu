// Two-dimensional convolution (ops/conv.h). With one group it is a matrix product with the columns
// of x, one row for each tap and channel:
//   columns [C kh kw][B][OH OW],   y[b] = w columns[b],   dcolumns[b] = w^T dy[b],
//   dw = dy columns^T (over all samples at once)
// where kernels of size 1 need no columns at all. The columns of as many samples as fit into
// kColumnsBytes are made at a time. With several groups (depthwise) memory is what takes the time:
// a thread makes one element from x and w themselves. In both cases the gradient of a pixel is
// gathered from the windows that cover it, so nothing is added by two threads.
#include "tenun/ops/conv.h"

#include <algorithm>

#include "tenun/cuda/reduce_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/matmul.h"

namespace tenun::TENUN_BACKEND {
namespace {

constexpr int64_t kColumnsBytes = int64_t{256} << 20;

/// The place that tap `t` of the window at `out` looks at; outside of the image where negative or
/// too large.
__device__ inline int64_t seen(int64_t out, int64_t t, int64_t stride, int64_t dilation,
                               int64_t padding) {
  return out * stride - padding + t * dilation;
}
/// The window whose tap `t` looks at place `at`; -1 if there is none among the n.
__device__ inline int64_t seen_by(int64_t at, int64_t t, int64_t stride, int64_t dilation,
                                  int64_t padding, int64_t n) {
  const int64_t start = at + padding - t * dilation;
  return start < 0 || start % stride != 0 || start / stride >= n ? -1 : start / stride;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    write_columns(T* columns, const T* x, int64_t count, const ConvShape s) {
  const Windows& w = s.windows;
  const int64_t plane = s.out.h * s.out.w;
  for_each_item(s.in_channels * w.kernel.h * w.kernel.w * count * plane, [&](int64_t i) {
    const int64_t p = i % plane, b = i / plane % count, row = i / plane / count;
    const int64_t t = row % (w.kernel.h * w.kernel.w), c = row / (w.kernel.h * w.kernel.w);
    const int64_t h = seen(p / s.out.w, t / w.kernel.w, w.stride.h, w.dilation.h, w.padding.h);
    const int64_t v = seen(p % s.out.w, t % w.kernel.w, w.stride.w, w.dilation.w, w.padding.w);
    const bool inside = h >= 0 && h < s.image.h && v >= 0 && v < s.image.w;
    columns[i] = inside ? x[((b * s.in_channels + c) * s.image.h + h) * s.image.w + v] : T{};
  });
}

/// dx of `count` samples from dcolumns [count][C kh kw][OH OW].
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    gather_columns(T* dx, const T* dcolumns, int64_t count, const ConvShape s) {
  using A = Compute<T>;
  const Windows& w = s.windows;
  for_each_item(count * s.in_channels * s.image.h * s.image.w, [&](int64_t i) {
    const int64_t v = i % s.image.w, h = i / s.image.w % s.image.h;
    const int64_t channel = i / s.image.w / s.image.h;  // of all samples
    A sum = 0;
    for (int64_t r = 0; r < w.kernel.h; ++r) {
      const int64_t y = seen_by(h, r, w.stride.h, w.dilation.h, w.padding.h, s.out.h);
      if (y < 0) continue;
      for (int64_t t = 0; t < w.kernel.w; ++t) {
        const int64_t z = seen_by(v, t, w.stride.w, w.dilation.w, w.padding.w, s.out.w);
        if (z < 0) continue;
        const int64_t row = (channel * w.kernel.h + r) * w.kernel.w + t;
        sum += static_cast<A>(dcolumns[(row * s.out.h + y) * s.out.w + z]);
      }
    }
    dx[i] = T(sum);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    add_bias(T* y, const T* bias, int64_t n, int64_t channels, int64_t plane) {
  for_each_item(n, [&](int64_t i) {
    using A = Compute<T>;
    y[i] = T(static_cast<A>(y[i]) + static_cast<A>(bias[i / plane % channels]));
  });
}

// ---- several groups: no columns

template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    convolve(T* y, const T* x, const T* weight, const T* bias, const ConvShape s, int64_t in,
             int64_t out) {  // channels of a group
  using A = Compute<T>;
  const Windows& w = s.windows;
  for_each_item(s.batch * s.out_channels * s.out.h * s.out.w, [&](int64_t i) {
    const int64_t q = i % s.out.w, p = i / s.out.w % s.out.h;
    const int64_t o = i / s.out.w / s.out.h % s.out_channels,
                  b = i / s.out.w / s.out.h / s.out_channels;
    A sum = bias == nullptr ? A(0) : static_cast<A>(bias[o]);
    for (int64_t c = 0; c < in; ++c) {
      const T* const plane = x + (b * s.in_channels + o / out * in + c) * s.image.h * s.image.w;
      const T* const taps = weight + (o * in + c) * w.kernel.h * w.kernel.w;
      for (int64_t r = 0; r < w.kernel.h; ++r) {
        const int64_t h = seen(p, r, w.stride.h, w.dilation.h, w.padding.h);
        if (h < 0 || h >= s.image.h) continue;
        for (int64_t t = 0; t < w.kernel.w; ++t) {
          const int64_t v = seen(q, t, w.stride.w, w.dilation.w, w.padding.w);
          if (v >= 0 && v < s.image.w)
            sum +=
                static_cast<A>(plane[h * s.image.w + v]) * static_cast<A>(taps[r * w.kernel.w + t]);
        }
      }
    }
    y[i] = T(sum);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    convolve_dx(T* dx, const T* dy, const T* weight, const ConvShape s, int64_t in, int64_t out) {
  using A = Compute<T>;
  const Windows& w = s.windows;
  for_each_item(s.batch * s.in_channels * s.image.h * s.image.w, [&](int64_t i) {
    const int64_t v = i % s.image.w, h = i / s.image.w % s.image.h;
    const int64_t c = i / s.image.w / s.image.h % s.in_channels;
    const int64_t b = i / s.image.w / s.image.h / s.in_channels;
    A sum = 0;
    for (int64_t o = c / in * out; o < (c / in + 1) * out; ++o) {
      const T* const plane = dy + (b * s.out_channels + o) * s.out.h * s.out.w;
      const T* const taps = weight + (o * in + c % in) * w.kernel.h * w.kernel.w;
      for (int64_t r = 0; r < w.kernel.h; ++r) {
        const int64_t y = seen_by(h, r, w.stride.h, w.dilation.h, w.padding.h, s.out.h);
        if (y < 0) continue;
        for (int64_t t = 0; t < w.kernel.w; ++t) {
          const int64_t z = seen_by(v, t, w.stride.w, w.dilation.w, w.padding.w, s.out.w);
          if (z >= 0)
            sum +=
                static_cast<A>(plane[y * s.out.w + z]) * static_cast<A>(taps[r * w.kernel.w + t]);
        }
      }
    }
    dx[i] = T(sum);
  });
}

/// dw: for each weight the sum over all samples and positions.
template <class T>
struct WeightSum {
  using Value = Compute<T>;
  T* dw;
  const T *dy, *x;
  ConvShape s;
  int64_t in, out;
  __device__ Value identity() const { return 0; }
  __device__ Value take(int64_t, int64_t r, int64_t at) const {
    const Windows& w = s.windows;
    const int64_t q = r % s.out.w, p = r / s.out.w % s.out.h, b = r / s.out.w / s.out.h;
    const int64_t t = at % w.kernel.w, u = at / w.kernel.w % w.kernel.h;
    const int64_t c = at / w.kernel.w / w.kernel.h % in, o = at / w.kernel.w / w.kernel.h / in;
    const int64_t h = seen(p, u, w.stride.h, w.dilation.h, w.padding.h);
    const int64_t v = seen(q, t, w.stride.w, w.dilation.w, w.padding.w);
    if (h < 0 || h >= s.image.h || v < 0 || v >= s.image.w) return 0;
    const int64_t channel = b * s.in_channels + o / out * in + c;
    return static_cast<Value>(x[(channel * s.image.h + h) * s.image.w + v]) *
           static_cast<Value>(dy[((b * s.out_channels + o) * s.out.h + p) * s.out.w + q]);
  }
  __device__ Value combine(Value a, Value b) const { return a + b; }
  __device__ void finish(Value v, int64_t at) const { dw[at] = T(v); }
};

// ---- one group

bool pointwise(const ConvShape& s) {
  return s.windows.kernel == Pair(1) && s.windows.stride == Pair(1) && s.windows.padding == Pair(0);
}

/// body(first, count) for stretches of the batch whose columns fit into memory.
template <class F>
void for_stretches(const ConvShape& s, DType d, F&& body) {
  const int64_t bytes = s.in_channels * s.taps() * s.positions() * size_of(d);
  const int64_t most = std::max<int64_t>(1, kColumnsBytes / std::max<int64_t>(bytes, 1));
  for (int64_t b = 0; b < s.batch; b += most) body(b, std::min(most, s.batch - b));
}
/// [C kh kw][count][OH OW] of the samples x.
Tensor columns_of(const Tensor& x, const ConvShape& s) {
  const int64_t count = x.dim(0);
  Tensor columns({s.in_channels * s.taps(), count, s.positions()}, x.dtype(), x.device());
  visit_float(x.dtype(), "conv2d", [&]<class T>() {
    launch(write_columns<T>, grid_for(columns.numel()), kThreads, 0, columns.mutable_data<T>(),
           x.data<T>(), count, s);
  });
  return columns;
}

void conv2d(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias, const ConvShape& s) {
  const auto with_type = [&]<class T>() {
    const T* const side = bias.defined() ? bias.data<T>() : nullptr;
    if (s.groups > 1)
      return launch(convolve<T>, grid_for(y.numel()), kThreads, 0, y.mutable_data<T>(), x.data<T>(),
                    w.data<T>(), side, s, s.in_group(), s.out_group());
    const int64_t rows = s.in_channels * s.taps();
    for_stretches(s, x.dtype(), [&](int64_t first, int64_t count) {
      const Tensor some = x.slice(0, first, first + count);
      const Tensor columns = pointwise(s) ? some.view({count, rows, s.positions()})
                                          : columns_of(some, s).transpose(0, 1);
      Tensor to = y.slice(0, first, first + count).view({count, s.out_channels, s.positions()});
      kernel::gemm(y.device(), to,
                   w.view({1, s.out_channels, rows}).expand({count, s.out_channels, rows}), columns,
                   {});
    });
    if (side != nullptr)
      launch(add_bias<T>, grid_for(y.numel()), kThreads, 0, y.mutable_data<T>(), side, y.numel(),
             s.out_channels, s.positions());
  };
  visit_float(x.dtype(), "conv2d", with_type);
}

void conv2d_dx(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s) {
  if (dx.numel() == 0) return;
  const auto with_type = [&]<class T>() {
    if (s.groups > 1)
      return launch(convolve_dx<T>, grid_for(dx.numel()), kThreads, 0, dx.mutable_data<T>(),
                    dy.data<T>(), w.data<T>(), s, s.in_group(), s.out_group());
    const int64_t rows = s.in_channels * s.taps();
    const Tensor turned = w.view({1, s.out_channels, rows}).transpose(1, 2);
    for_stretches(s, dx.dtype(), [&](int64_t first, int64_t count) {
      Tensor to = dx.slice(0, first, first + count);
      const Shape shape{count, rows, s.positions()};
      Tensor dcolumns = pointwise(s) ? to.view(shape) : Tensor(shape, dx.dtype(), dx.device());
      kernel::gemm(dx.device(), dcolumns, turned.expand({count, rows, s.out_channels}),
                   dy.slice(0, first, first + count).view({count, s.out_channels, s.positions()}),
                   {});
      if (!pointwise(s))
        launch(gather_columns<T>, grid_for(to.numel()), kThreads, 0, to.mutable_data<T>(),
               dcolumns.data<T>(), count, s);
    });
  };
  visit_float(dx.dtype(), "conv2d_dx", with_type);
}

void conv2d_dw(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s) {
  if (dw.numel() == 0) return;
  if (s.groups > 1)
    return visit_float(dw.dtype(), "conv2d_dw", [&]<class T>() {
      reduce_middle(WeightSum<T>{dw.mutable_data<T>(), dy.data<T>(), x.data<T>(), s, s.in_group(),
                                 s.out_group()},
                    dw.numel(), s.batch * s.positions(), 1);
    });
  // Stretches are summed in the compute type.
  const DType wide = dw.dtype() == DType::f64 ? DType::f64 : DType::f32;
  const int64_t rows = s.in_channels * s.taps();
  Tensor sum = Tensor::zeros({1, s.out_channels, rows}, wide, dw.device());
  for_stretches(s, dw.dtype(), [&](int64_t first, int64_t count) {
    const int64_t k = count * s.positions();
    const Tensor columns = columns_of(x.slice(0, first, first + count), s).view({1, rows, k});
    const Tensor d = dy.slice(0, first, first + count)
                         .view({count, s.out_channels, s.positions()})
                         .transpose(0, 1)
                         .contiguous()
                         .view({1, s.out_channels, k});
    Tensor part({1, s.out_channels, rows}, dw.dtype(), dw.device());
    kernel::gemm(dw.device(), part, d, columns.transpose(1, 2), {});
    if (count == s.batch)
      sum = part;
    else
      sum.add_(part.to(wide));
  });
  Tensor to = dw.view({1, s.out_channels, rows});
  to.copy_(sum);
}

}  // namespace

void register_conv() {
  kernel::conv2d.set(kDevice, conv2d);
  kernel::conv2d_dx.set(kDevice, conv2d_dx);
  kernel::conv2d_dw.set(kDevice, conv2d_dw);
}

}  // namespace tenun::TENUN_BACKEND
