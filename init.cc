// The one file outside tools/ and tests/ that knows the backends.
#include "tenun/init.h"

#include "tenun/core/cpu_features.h"
#include "tenun/cuda/cuda.h"

namespace tenun {

void init() {
  require_baseline_cpu();
  cuda::init();
}

}  // namespace tenun
