// What the processor can do. The library is compiled for x86-64-v3 (AVX2, FMA, F16C); faster
// kernels are chosen at run time (ops/simd/isa.h), and TENUN_CPU_ISA=avx2|avx512|avx512_bf16
// overrides the choice.
#pragma once
#include <string>

namespace tenun {

/// DeviceError with the missing feature if this processor lacks the baseline. Called by
/// tenun::init().
void require_baseline_cpu();
[[nodiscard]] std::string cpu_features();  ///< "avx2 fma f16c avx512f ... avx512bf16"

}  // namespace tenun
