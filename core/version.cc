#include "tenun/core/version.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "tenun/core/check.h"
#include "tenun/core/cpu_features.h"

namespace tenun {
namespace {
std::string& status() {
  static std::string text = "this build has no CUDA backend";
  return text;
}

#if defined(__x86_64__)
// __builtin_cpu_supports of clang 14 does not know these two; CPUID does. Whether the system saves
// the wide registers is known from AVX2 and AVX-512F.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1u) != 0;
}
bool has_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx512f") != 0 && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
         (a >> 5 & 1u) != 0;
}
#endif
}  // namespace

const char* version() { return TENUN_VERSION; }
std::string cuda_status() { return status(); }
void set_cuda_status(std::string text) { status() = std::move(text); }

std::string cpu_features() {
  std::string s;
#if defined(__x86_64__)
  const auto add = [&](bool has, const char* feature) {
    if (has) s += fmt::format("{}{}", s.empty() ? "" : " ", feature);
  };
  __builtin_cpu_init();
  add(__builtin_cpu_supports("avx2"), "avx2");
  add(__builtin_cpu_supports("fma"), "fma");
  add(has_f16c(), "f16c");
  add(__builtin_cpu_supports("avx512f"), "avx512f");
  add(__builtin_cpu_supports("avx512bw"), "avx512bw");
  add(__builtin_cpu_supports("avx512cd"), "avx512cd");
  add(__builtin_cpu_supports("avx512dq"), "avx512dq");
  add(__builtin_cpu_supports("avx512vl"), "avx512vl");
  add(__builtin_cpu_supports("avx512vnni"), "avx512vnni");
  add(has_avx512_bf16(), "avx512bf16");
#endif
  return s;
}

void require_baseline_cpu() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const char* missing = !__builtin_cpu_supports("avx2")  ? "AVX2"
                        : !__builtin_cpu_supports("fma") ? "FMA"
                        : !has_f16c()                    ? "F16C"
                                                         : nullptr;
  check<DeviceError>(missing == nullptr, "cpu",
                     "this processor has no {}; Tenun needs x86-64-v3 (2013 and later)",
                     missing == nullptr ? "" : missing);
#endif
}

}  // namespace tenun
