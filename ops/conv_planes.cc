// conv2d for groups of one input channel. A tap adds a scaled, shifted plane to another one; both
// stay in the first-level cache, and the rows are long enough for vectors.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/ops/conv_cpu.h"
#include "tenun/ops/conv_runs.h"

namespace tenun {
namespace {

// Plane `i` of a tensor of planes of n elements, as C.
template <class T, class C>
const C* read_plane(const Tensor& t, int64_t i, int64_t n, std::vector<C>& buffer) {
  const T* const from = t.data<T>() + i * n;
  if constexpr (std::is_same_v<T, C>) {
    return from;
  } else {
    std::copy_n(from, n, buffer.begin());
    return buffer.data();
  }
}

int64_t grain_for(const ConvShape& s) {  // planes of one task
  return std::max<int64_t>(1, (1 << 18) / std::max<int64_t>(s.positions() * s.taps(), 1));
}

// f(tap, run) for all taps and output rows.
template <class F>
void for_taps(const ConvShape& s, F&& f) {
  for (int64_t r = 0, tap = 0; r < s.windows.kernel.h; ++r)
    for (int64_t q = 0; q < s.windows.kernel.w; ++q, ++tap)
      for_runs(s, 0, s.positions(), r, q, [&](const Run& run) { f(tap, run); });
}

template <class T>
void forward(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias, const ConvShape& s) {
  using C = Compute<T>;
  const int64_t n = s.positions(), pixels = s.image.h * s.image.w, outs = s.out_channels;
  const int64_t stride = s.windows.stride.w;
  T* const out = y.mutable_data<T>();
  parallel_for(0, s.batch * outs, grain_for(s), [&](int64_t first, int64_t last) {
    std::vector<C> sum(static_cast<size_t>(n)), buffer(static_cast<size_t>(pixels));
    for (int64_t i = first; i < last; ++i) {
      const int64_t o = i % outs, plane = i / outs * s.groups + o / s.out_group();
      const C* const in = read_plane<T>(x, plane, pixels, buffer);
      const T* const taps = w.data<T>() + o * s.taps();
      std::fill(sum.begin(), sum.end(), bias.defined() ? static_cast<C>(bias.data<T>()[o]) : C(0));
      for_taps(s, [&](int64_t tap, const Run& run) {
        const C k = static_cast<C>(taps[tap]);
        C* __restrict to = sum.data() + run.at;
        const C* __restrict from = in + run.from;
        if (stride == 1)
          for (int64_t j = 0; j < run.count; ++j) to[j] += k * from[j];
        else
          for (int64_t j = 0; j < run.count; ++j) to[j] += k * from[j * stride];
      });
      for (int64_t j = 0; j < n; ++j) out[i * n + j] = T(sum[static_cast<size_t>(j)]);
    }
  });
}

template <class T>
void grad_x(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s) {
  using C = Compute<T>;
  const int64_t n = s.positions(), pixels = s.image.h * s.image.w, outs = s.out_group();
  const int64_t stride = s.windows.stride.w;
  T* const out = dx.mutable_data<T>();
  parallel_for(0, s.batch * s.groups, grain_for(s), [&](int64_t first, int64_t last) {
    std::vector<C> sum(static_cast<size_t>(pixels)), buffer(static_cast<size_t>(n));
    for (int64_t i = first; i < last; ++i) {
      std::fill(sum.begin(), sum.end(), C(0));
      for (int64_t m = 0; m < outs; ++m) {
        const C* const d = read_plane<T>(dy, i * outs + m, n, buffer);
        const T* const taps = w.data<T>() + (i % s.groups * outs + m) * s.taps();
        for_taps(s, [&](int64_t tap, const Run& run) {
          const C k = static_cast<C>(taps[tap]);
          C* __restrict to = sum.data() + run.from;
          const C* __restrict from = d + run.at;
          if (stride == 1)
            for (int64_t j = 0; j < run.count; ++j) to[j] += k * from[j];
          else
            for (int64_t j = 0; j < run.count; ++j) to[j * stride] += k * from[j];
        });
      }
      for (int64_t j = 0; j < pixels; ++j) out[i * pixels + j] = T(sum[static_cast<size_t>(j)]);
    }
  });
}

// A task owns an output channel: its sums run over the batch in order.
template <class T>
void grad_w(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s) {
  using C = Compute<T>;
  constexpr int64_t kWidth = 16;
  const int64_t n = s.positions(), pixels = s.image.h * s.image.w, outs = s.out_channels;
  const int64_t stride = s.windows.stride.w, taps = s.taps();
  T* const out = dw.mutable_data<T>();
  parallel_for(0, outs, 1, [&](int64_t first, int64_t last) {
    std::vector<C> in_buffer(static_cast<size_t>(pixels)), d_buffer(static_cast<size_t>(n));
    std::vector<C> lanes(static_cast<size_t>(taps * kWidth));
    for (int64_t o = first; o < last; ++o) {
      std::fill(lanes.begin(), lanes.end(), C(0));
      for (int64_t b = 0; b < s.batch; ++b) {
        const C* const in = read_plane<T>(x, b * s.groups + o / s.out_group(), pixels, in_buffer);
        const C* const d = read_plane<T>(dy, b * outs + o, n, d_buffer);
        for_taps(s, [&](int64_t tap, const Run& run) {
          C* __restrict lane = lanes.data() + tap * kWidth;
          const C* __restrict u = d + run.at, * __restrict v = in + run.from;
          int64_t j = 0;
          if (stride == 1)
            for (; j + kWidth <= run.count; j += kWidth)
              for (int64_t k = 0; k < kWidth; ++k) lane[k] += u[j + k] * v[j + k];
          for (int64_t k = 0; j < run.count; ++j, ++k) lane[k % kWidth] += u[j] * v[j * stride];
        });
      }
      for (int64_t tap = 0; tap < taps; ++tap) {
        C total = 0;
        for (int64_t k = 0; k < kWidth; ++k) total += lanes[static_cast<size_t>(tap * kWidth + k)];
        out[o * taps + tap] = T(total);
      }
    }
  });
}

}  // namespace

void conv2d_planes_cpu(Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias,
                       const ConvShape& s) {
  visit_float(x.dtype(), "conv2d", [&]<class T>() { forward<T>(y, x, w, bias, s); });
}
void conv2d_planes_dx_cpu(Tensor& dx, const Tensor& dy, const Tensor& w, const ConvShape& s) {
  visit_float(dy.dtype(), "conv2d", [&]<class T>() { grad_x<T>(dx, dy, w, s); });
}
void conv2d_planes_dw_cpu(Tensor& dw, const Tensor& dy, const Tensor& x, const ConvShape& s) {
  visit_float(dy.dtype(), "conv2d", [&]<class T>() { grad_w<T>(dw, dy, x, s); });
}

}  // namespace tenun
