// Flash attention forward by wgmma and TMA: f16.
#include "tenun/cuda/attention/flash_hopper.h"

namespace tenun::TENUN_BACKEND::attention {

bool flash_forward_hopper_f16(const FlashForward& a) { return run_flash_hopper<f16>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
