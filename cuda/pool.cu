// Max pooling and its gradient (ops/pool.h), one thread for each element of the result: the
// gradient asks every window that covers a pixel whether the pixel won it, so nothing is added by
// two threads. And separable resampling (ops/resample.h), with which average pooling is done too.
#include "tenun/ops/pool.h"

#include <vector>

#include "tenun/cuda/elements.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/resample.h"

namespace tenun::TENUN_BACKEND {
namespace {

struct PoolArgs {
  int64_t planes, h, w, out_h, out_w;
  Windows windows;
};
PoolArgs pool_args(const Tensor& image, const Tensor& out, const Windows& w) {
  return {image.dim(0), image.dim(1), image.dim(2), out.dim(1), out.dim(2), w};
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    max_pool(T* y, int32_t* winners, const T* x, const PoolArgs a) {
  using C = Compute<T>;
  const Windows& k = a.windows;
  for_each_item(a.planes * a.out_h * a.out_w, [&](int64_t i) {
    const int64_t row = i / a.out_w;
    const T* const plane = x + row / a.out_h * a.h * a.w;
    const int64_t top = row % a.out_h * k.stride.h - k.padding.h;
    const int64_t left = i % a.out_w * k.stride.w - k.padding.w;
    const int64_t r0 = top < 0 ? 0 : top, c0 = left < 0 ? 0 : left;
    const int64_t r1 = top + k.kernel.h < a.h ? top + k.kernel.h : a.h;
    const int64_t c1 = left + k.kernel.w < a.w ? left + k.kernel.w : a.w;
    int64_t best = r0 * a.w + c0;
    C most = static_cast<C>(plane[best]);
    for (int64_t r = r0; r < r1; ++r)
      for (int64_t c = c0; c < c1; ++c) {
        const C value = static_cast<C>(plane[r * a.w + c]);
        // A NaN wins, and stays: nothing is greater than it, but a later NaN is as good.
        if (value > most || value != value) most = value, best = r * a.w + c;
      }
    y[i] = T(most);
    if (winners != nullptr) winners[i] = static_cast<int32_t>(best);
  });
}

/// The first and last + 1 window of n that cover `at`, along an axis.
struct Cover {
  int64_t first, end;
  __device__ Cover(int64_t at, int64_t kernel, int64_t stride, int64_t padding, int64_t n) {
    const int64_t before =
        at + padding - kernel;  // a window that starts here is the last too early
    first = before < 0 ? 0 : before / stride + 1;
    end = (at + padding) / stride + 1;
    if (end > n) end = n;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    max_pool_backward(T* dx, const T* dy, const int32_t* winners, const PoolArgs a) {
  using C = Compute<T>;
  const Windows& k = a.windows;
  for_each_item(a.planes * a.h * a.w, [&](int64_t i) {
    const int64_t plane = i / (a.h * a.w), pixel = i - plane * a.h * a.w;
    const Cover rows(pixel / a.w, k.kernel.h, k.stride.h, k.padding.h, a.out_h);
    const Cover columns(pixel % a.w, k.kernel.w, k.stride.w, k.padding.w, a.out_w);
    C sum = 0;
    for (int64_t r = rows.first; r < rows.end; ++r)
      for (int64_t c = columns.first; c < columns.end; ++c) {
        const int64_t at = (plane * a.out_h + r) * a.out_w + c;
        if (winners[at] == pixel) sum += static_cast<C>(dy[at]);
      }
    dx[i] = T(sum);
  });
}

void max_pool2d(Tensor& y, Tensor& index, const Tensor& x, const Windows& w) {
  if (y.numel() == 0) return;
  int32_t* const winners = index.defined() ? index.mutable_data<int32_t>() : nullptr;
  visit_float(x.dtype(), "max_pool2d", [&]<class T>() {
    launch(max_pool<T>, grid_for(y.numel()), kThreads, 0, y.mutable_data<T>(), winners, x.data<T>(),
           pool_args(x, y, w));
  });
}
void max_pool2d_backward(Tensor& dx, const Tensor& dy, const Tensor& index, const Windows& w) {
  if (dx.numel() == 0) return;
  visit_float(dy.dtype(), "max_pool2d", [&]<class T>() {
    launch(max_pool_backward<T>, grid_for(dx.numel()), kThreads, 0, dx.mutable_data<T>(),
           dy.data<T>(), index.data<int32_t>(), pool_args(dx, dy, w));
  });
}

/// An AxisTable in device memory.
template <class C>
struct DeviceTable {
  int64_t inputs, outputs;
  const int64_t *first, *offset;
  const C* weight;
};

/// A thread makes one pixel: the sum over its rows of the sums over the rows of the plane.
template <class T, class C>
__global__ void __launch_bounds__(kThreads, 1)
    resample_pixels(T* y, const T* x, int64_t planes, const DeviceTable<C> rows,
                    const DeviceTable<C> columns) {
  for_each_item(planes * rows.outputs * columns.outputs, [&](int64_t i) {
    const int64_t row = i / columns.outputs, c = i - row * columns.outputs;
    const int64_t plane = row / rows.outputs, r = row - plane * rows.outputs;
    const int64_t taps = rows.offset[r + 1] - rows.offset[r];
    const T* const corner = x + (plane * rows.inputs + rows.first[r]) * columns.inputs;
    C sum = 0;
    for (int64_t k = columns.offset[c]; k < columns.offset[c + 1]; ++k) {
      const T* from = corner + columns.first[c] + (k - columns.offset[c]);
      C mixed = 0;
      for (int64_t t = 0; t < taps; ++t, from += columns.inputs)
        mixed += rows.weight[rows.offset[r] + t] * static_cast<C>(*from);
      sum += columns.weight[k] * mixed;
    }
    y[i] = T(sum);
  });
}

/// Holds the parts of a table on the device for the duration of a call.
template <class C>
struct Uploaded {
  Tensor first, offset, weight;
  DeviceTable<C> table;
  Uploaded(const AxisTable& t, Device device)
      : first(Tensor::from(t.first, {t.outputs()}).to(device)),
        offset(Tensor::from(t.offset, {t.outputs() + 1}).to(device)),
        weight(Tensor::from(std::vector<C>(t.weight.begin(), t.weight.end()),
                            {static_cast<int64_t>(t.weight.size())})
                   .to(device)),
        table{t.inputs, t.outputs(), first.data<int64_t>(), offset.data<int64_t>(),
              weight.data<C>()} {}
};

void resample(Tensor& y, const Tensor& x, const AxisTable& rows, const AxisTable& columns) {
  visit_float(x.dtype(), "resample", [&]<class T>() {
    using C = Compute<T>;
    const Uploaded<C> r(rows, x.device()), c(columns, x.device());
    launch(resample_pixels<T, C>, grid_for(y.numel()), kThreads, 0, y.mutable_data<T>(),
           x.data<T>(), x.dim(0), r.table, c.table);
  });
}

}  // namespace

void register_pool() {
  kernel::max_pool2d.set(kDevice, max_pool2d);
  kernel::max_pool2d_backward.set(kDevice, max_pool2d_backward);
  kernel::resample.set(kDevice, resample);
}

}  // namespace tenun::TENUN_BACKEND
