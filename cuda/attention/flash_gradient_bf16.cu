// Flash attention backward on the tensor cores: bf16.
#include "tenun/cuda/attention/flash_gradient.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_backward_bf16(const FlashBackward& a) { run_flash_gradient<bf16, false>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
