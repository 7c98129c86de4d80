#include "tenun/cuda/gpu.h"

#include <algorithm>
#include <cstring>

namespace tenun::cuda {

GpuReport look_for_gpus() noexcept {
  GpuReport r;
  // The runtime is linked in and looks for the driver by itself; version 0 means that there is
  // none.
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    r.problem = "no NVIDIA driver on this machine";
    return r;
  }
  const cudaError_t error = cudaGetDeviceCount(&r.gpus);
  if (error != cudaSuccess || r.gpus == 0) {
    r.gpus = 0;
    r.problem = error == cudaSuccess ? "the driver lists no GPU" : cudaGetErrorString(error);
    return r;
  }
  cudaDeviceProp first{};
  if (cudaGetDeviceProperties(&first, 0) == cudaSuccess) {
    std::memcpy(r.name, first.name, std::min(sizeof(r.name), sizeof(first.name)) - 1);
    r.major = first.major;
    r.minor = first.minor;
  }
  return r;
}

}  // namespace tenun::cuda
