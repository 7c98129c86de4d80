// The small steps between the attention kernels (ops/attention/row_functors.h): a warp takes a row.
#include "tenun/cuda/attention/register.h"
#include "tenun/cuda/device_code.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

constexpr int64_t kWarps = kThreads / 32;

template <class F>
__global__ void __launch_bounds__(kThreads, 1) rows_kernel(const F f, int64_t rows) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row < rows) f(row, threadIdx.x % 32, 32);
}

template <class F>
void run(const F& f, int64_t rows, int64_t) {
  launch(rows_kernel<F>, dim3(static_cast<unsigned>((rows + kWarps - 1) / kWarps)), dim3(kThreads),
         0, f, rows);
}
template <class... F>
void use(attn::FunctorList<F...>) {
  (attn::kernel::rows<F>.set(kDevice, run<F>), ...);
}

}  // namespace

void register_rows() {
  use(attn::RowFunctors<float>{});
  use(attn::RowFunctors<double>{});
}

}  // namespace tenun::TENUN_BACKEND::attention
