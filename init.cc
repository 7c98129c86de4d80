// The one file outside tools/ and tests/ that knows the backends.
#include "tenun/init.h"

#include "tenun/core/cpu_features.h"
#include "tenun/cuda/cuda.h"
#include "tenun/ops/simd/isa.h"

namespace tenun {

void init() {
  require_baseline_cpu();
  (void)simd::active_isa();  // a bad TENUN_CPU_ISA is an error now, not in the first product
  cuda::init();
  emulated::init();
}

}  // namespace tenun
