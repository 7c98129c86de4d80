// The emulated device of a build without it.
#include "tenun/cuda/cuda.h"

namespace tenun::emulated {

bool init() { return false; }

}  // namespace tenun::emulated
