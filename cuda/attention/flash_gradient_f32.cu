// Flash attention backward on the tensor cores: f32, as products of two TF32 numbers each.
#include "tenun/cuda/attention/flash_gradient.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_backward_f32(const FlashBackward& a) { run_flash_gradient<float, false>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
