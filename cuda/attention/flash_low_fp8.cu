// Flash attention forward on the tensor cores: values in FP8 (E4M3), scores in INT8, 16 bit or f32.
#include "tenun/cuda/attention/flash_low.h"

namespace tenun::TENUN_BACKEND::attention {

void flash_forward_low_fp8(const FlashForward& a) {
  a.in.k.dtype == DType::i8     ? run_flash_low<E4M3>(a)
  : a.in.k.dtype == DType::f32  ? run_flash_low_values<float, E4M3>(a)
  : a.in.k.dtype == DType::bf16 ? run_flash_low_values<bf16, E4M3>(a)
                                : run_flash_low_values<f16, E4M3>(a);
}

}  // namespace tenun::TENUN_BACKEND::attention
