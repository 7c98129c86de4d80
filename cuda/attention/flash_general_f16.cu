// Flash attention with soft weights, dropout or any scale on the tensor cores (general.h): f16.
#include "tenun/cuda/attention/flash_gradient.h"
#include "tenun/cuda/attention/flash_tensor.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_general_f16(const FlashForward& a) { run_flash_tensor<f16, true>(a); }
void flash_backward_general_f16(const FlashBackward& a) { run_flash_gradient<f16, true>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
