// Flash attention forward on the tensor cores: INT8 scores, values in f32.
#include "tenun/cuda/attention/flash_low.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_low_f32(const FlashForward& a) { run_flash_low<float>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
