// Flash attention forward on the tensor cores: INT8 scores, values in f16.
#include "tenun/cuda/attention/flash_low.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_low_f16(const FlashForward& a) { run_flash_low<f16>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
