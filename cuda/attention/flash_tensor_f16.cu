// Flash attention forward on the tensor cores: f16.
#include "tenun/cuda/attention/flash_tensor.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_f16(const FlashForward& a) { run_flash_tensor<f16, false>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
