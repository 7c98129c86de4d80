#include "tenun/ops/simd/isa.h"

#include <cstdlib>
#include <string>

#include "tenun/core/check.h"
#include "tenun/core/cpu_features.h"
#include "tenun/ops/attention/kernels/kernels.h"
#include "tenun/ops/attention/kernels/linear_kernels.h"
#include "tenun/ops/simd/gemm_kernels.h"
#include "tenun/ops/simd/product_kernels.h"

namespace tenun::simd {
namespace {

bool has(std::string_view features, std::initializer_list<std::string_view> wanted) {
  const std::string list = fmt::format(" {} ", features);
  for (const std::string_view w : wanted)
    if (list.find(fmt::format(" {} ", w)) == std::string::npos) return false;
  return true;
}

}  // namespace

std::string_view name(Isa isa) {
  return isa == Isa::avx512_bf16 ? "avx512_bf16" : isa == Isa::avx512 ? "avx512" : "avx2";
}

bool supported(Isa isa) {
  static const std::string features = cpu_features();
  static const bool v4 = has(features, {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"});
  static const bool dot = v4 && has(features, {"avx512vnni", "avx512bf16"});
  return isa == Isa::avx512_bf16 ? dot : isa == Isa::avx512 ? v4 : true;
}

Isa isa_from(std::string_view text) {
  Isa best = Isa::avx2;
  std::string all;
  for (const Isa level : kLevels) {
    if (supported(level)) best = level;
    if (text == name(level)) {
      check<ConfigError>(supported(level), "TENUN_CPU_ISA",
                         "this processor has no {}; its features: {}", text, cpu_features());
      return level;
    }
    all += fmt::format("{}{}", all.empty() ? "" : ", ", name(level));
  }
  check<ConfigError>(text.empty(), "TENUN_CPU_ISA", "'{}' is none of {}", text, all);
  return best;
}

Isa active_isa() {
  static const Isa isa = [] {
    const char* const text = std::getenv("TENUN_CPU_ISA");
    return isa_from(text == nullptr ? "" : text);
  }();
  return isa;
}

const GemmKernels& gemm_kernels(Isa isa) {
  return choose(isa, avx2::gemm_kernels, avx512::gemm_kernels, avx512_bf16::gemm_kernels);
}

const ProductKernels& product_kernels(Isa isa) {
  return choose(isa, avx2::product_kernels, avx512::product_kernels, avx512_bf16::product_kernels);
}
const FlashKernels& flash_kernels(Isa isa) {
  return choose(isa, avx2::flash_kernels, avx512::flash_kernels, avx512_bf16::flash_kernels);
}
const FlashBackwardKernels& flash_backward_kernels(Isa isa) {
  return choose(isa, avx2::flash_backward_kernels, avx512::flash_backward_kernels,
                avx512_bf16::flash_backward_kernels);
}
const LinearFamily& linear_kernels(Isa isa) {
  return choose(isa, avx2::linear_kernels, avx512::linear_kernels, avx512_bf16::linear_kernels);
}
const PackKernels& pack_kernels(Isa isa) {
  return choose(isa, avx2::pack_kernels, avx512::pack_kernels, avx512_bf16::pack_kernels);
}

}  // namespace tenun::simd
