#include "tenun/ops/attention/tile.h"

#include "tenun/core/log.h"

namespace tenun::attn {

Tensor compute_rows(const Tensor& x) {
  const Tensor wide = x.to(compute_dtype(x.dtype()));
  return wide.strides()[wide.rank() - 1] == 1 || wide.dim(-1) == 1 ? wide : wide.contiguous();
}

void note_plain_kernel(const char* reason) {
  logging::warn_once(
      fmt::format("attention on the GPU: {}: not on the tensor cores, slower", reason));
}

}  // namespace tenun::attn
