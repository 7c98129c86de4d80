// Flash attention with soft weights, dropout or any scale on the tensor cores (general.h): f32.
#include "tenun/cuda/attention/flash_gradient.h"
#include "tenun/cuda/attention/flash_tensor.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_general_f32(const FlashForward& a) { run_flash_tensor<float, true>(a); }
void flash_backward_general_f32(const FlashBackward& a) { run_flash_gradient<float, true>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
