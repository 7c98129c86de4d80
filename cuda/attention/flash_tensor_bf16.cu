// Flash attention forward on the tensor cores: bf16.
#include "tenun/cuda/attention/flash_tensor.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_bf16(const FlashForward& a) { run_flash_tensor<bf16, false>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
