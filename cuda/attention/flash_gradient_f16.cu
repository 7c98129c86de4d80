// Flash attention backward on the tensor cores: f16.
#include "tenun/cuda/attention/flash_gradient.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_backward_f16(const FlashBackward& a) { run_flash_gradient<f16, false>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
