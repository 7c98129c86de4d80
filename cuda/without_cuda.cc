// The CUDA backend of a build without CUDA.
#include "tenun/cuda/cuda.h"

namespace tenun::cuda {

bool init() { return false; }

}  // namespace tenun::cuda
