// Flash attention forward by wgmma and TMA: bf16.
#include "tenun/cuda/attention/flash_hopper.h"

namespace tenun::TENUN_BACKEND::attention {

bool flash_forward_hopper_bf16(const FlashForward& a) { return run_flash_hopper<bf16>(a); }

}  // namespace tenun::TENUN_BACKEND::attention
