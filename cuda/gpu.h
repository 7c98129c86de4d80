// Private to cuda/: what the CUDA runtime says about this machine. Implemented in gpu.cu, so that
// no file that g++ compiles needs CUDA's headers.
#pragma once

namespace tenun::cuda {

struct GpuReport {
  int gpus = 0;
  const char* problem = nullptr;  ///< why there is none
  char name[256] = "";            ///< of the first one
  int major = 0, minor = 0;       ///< its compute capability
};
[[nodiscard]] GpuReport look_for_gpus() noexcept;

}  // namespace tenun::cuda
