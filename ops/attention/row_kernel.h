// The skeleton of the small steps between the attention kernels: a functor says what happens to one
// row, once for host and device. On the CPU the rows are spread over threads; on a GPU a warp takes
// a row and its lanes take every 32nd channel. A functor that is not about channels works where
// `first` is 0. Nothing that one lane writes may be read by another.
//
//   struct Twice { static constexpr const char* name = "twice"; const float* x; float* y; int64_t
//   d;
//     TENUN_HD void operator()(int64_t row, int64_t first, int64_t step) const {
//       for (int64_t c = first; c < d; c += step) y[row * d + c] = 2 * x[row * d + c]; } };
//   run_rows(x.device(), rows, 2 * d, [&] { return Twice{x.data<float>(), ...}; });
//
// cuda/attention/rows.cu has the list of functors that a backend instantiates.
#pragma once
#include "tenun/core/kernel.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::attn {

namespace detail {
template <class F>
void rows_cpu(const F& f_, int64_t rows, int64_t flops) {
  const F f = f_;
  parallel_for(0, rows, grain(flops), [&](int64_t b, int64_t e) {
    for (int64_t i = b; i < e; ++i) f(i, 0, 1);
  });
}
}  // namespace detail

namespace kernel {
template <class F>
inline constinit Kernel<void(const F& f, int64_t rows, int64_t flops)> rows{F::name,
                                                                            detail::rows_cpu<F>};
}  // namespace kernel

/// The functor that `make` returns, for all rows, each of which costs about `flops`. `make` may
/// take pointers to the memory of the device.
template <class Make>
void run_rows(Device device, int64_t rows, int64_t flops, Make&& make) {
  using F = decltype(make());
  if (rows <= 0) return;
  if (device.type == DeviceType::cpu) return kernel::rows<F>(device, make(), rows, flops);
  const tenun::detail::DeviceCall call(F::name);
  kernel::rows<F>(device, make(), rows, flops);
}

}  // namespace tenun::attn
