// Flash attention forward on the tensor cores: values in INT8, scores in INT8, 16 bit or f32.
#include "tenun/cuda/attention/flash_low.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_low_int8(const FlashForward& a) {
  a.in.k.dtype == DType::i8     ? run_flash_low<int8_t>(a)
  : a.in.k.dtype == DType::f32  ? run_flash_low_values<float, int8_t>(a)
  : a.in.k.dtype == DType::bf16 ? run_flash_low_values<bf16, int8_t>(a)
                                : run_flash_low_values<f16, int8_t>(a);
}

}  // namespace tenun::TENUN_BACKEND::attention
