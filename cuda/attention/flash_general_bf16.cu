// Flash attention with soft weights, dropout or any scale on the tensor cores (general.h): bf16.
#include "tenun/cuda/attention/flash_gradient.h"
#include "tenun/cuda/attention/flash_tensor.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_general_bf16(const FlashForward& a) { run_flash_tensor<bf16, true>(a); }
void flash_backward_general_bf16(const FlashBackward& a) { run_flash_gradient<bf16, true>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
