#include "tenun/tests/fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, size_t size) {
  return tenun::fuzz::run(tenun::fuzz::npy, data, size);
}
