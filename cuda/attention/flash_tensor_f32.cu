// Flash attention forward on the tensor cores: f32, as products of two TF32 numbers each.
#include "tenun/cuda/attention/flash_tensor.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_f32(const FlashForward& a) { run_flash_tensor<float, false>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
