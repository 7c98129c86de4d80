#include <fmt/core.h>

#include "tenun/core/version.h"
#include "tenun/cuda/cuda.h"
#include "tenun/cuda/gpu.h"
#include "tenun/cuda/register.h"

namespace tenun::cuda {
namespace {

bool start() {
  const GpuReport r = look_for_gpus();
  if (r.gpus == 0) {
    set_cuda_status(fmt::format("in this build, but not usable: {}", r.problem));
    return false;
  }
  register_kernels();
  // Tensors stay on the CPU until the backend has its memory operations (DeviceOps), too.
  set_cuda_status(
      fmt::format("{} GPU{} found (the first: {}, sm_{}{}); this version keeps tensors "
                  "on the CPU",
                  r.gpus, r.gpus == 1 ? "" : "s", r.name, r.major, r.minor));
  return true;
}

}  // namespace

bool init() {
  static const bool found = start();
  return found;
}

}  // namespace tenun::cuda
