#include "tenun/core/version.h"

#include "tenun/core/check.h"
#include "tenun/core/cpu_features.h"

namespace tenun {
namespace {
std::string& status() {
  static std::string text = "this build has no CUDA backend";
  return text;
}
}  // namespace

const char* version() { return TENUN_VERSION; }
std::string cuda_status() { return status(); }
void set_cuda_status(std::string text) { status() = std::move(text); }

std::string cpu_features() {
  std::string s;
#if defined(__x86_64__)
  const auto add = [&](bool has, const char* feature) {
    if (has) s += (s.empty() ? "" : " ") + std::string(feature);
  };
  __builtin_cpu_init();
  add(__builtin_cpu_supports("avx2"), "avx2");
  add(__builtin_cpu_supports("fma"), "fma");
  add(__builtin_cpu_supports("f16c"), "f16c");
  add(__builtin_cpu_supports("avx512f"), "avx512f");
  add(__builtin_cpu_supports("avx512vnni"), "avx512vnni");
  add(__builtin_cpu_supports("avx512bf16"), "avx512bf16");
#endif
  return s;
}

void require_baseline_cpu() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const char* missing = !__builtin_cpu_supports("avx2")   ? "AVX2"
                        : !__builtin_cpu_supports("fma")  ? "FMA"
                        : !__builtin_cpu_supports("f16c") ? "F16C"
                                                          : nullptr;
  check<DeviceError>(missing == nullptr, "cpu",
                     "this processor has no {}; Tenun needs x86-64-v3 (2013 and later)",
                     missing == nullptr ? "" : missing);
#endif
}

}  // namespace tenun
