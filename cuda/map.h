// Elementwise kernels: the slots of ops/map.h on the GPU. Plain data only, so that the .cu file
// needs neither tensors nor fmt. Instantiated in map.cu; a functor's line there and its line in
// register.cc bring it to CUDA.
#pragma once
#include <cstdint>

#include "tenun/core/dtype.h"

namespace tenun::cuda {

inline constexpr int kMapRank = 6, kMapInputs = 4;

/// A contiguous output and strided inputs of its shape (stride 0 along broadcast axes), one dtype.
struct MapArgs {
  DType dtype = DType::f32;  ///< f32, f64, bf16 or f16
  int rank = 0;
  bool flat = false;  ///< all inputs are contiguous
  int64_t numel = 0;
  int64_t sizes[kMapRank] = {};
  int64_t strides[kMapInputs][kMapRank] = {};
  const void* in[kMapInputs] = {};
  void* out = nullptr;
};

/// Runs the kernel on the current device's default stream. nullptr, or CUDA's message.
template <class F>
const char* launch_map(const MapArgs& args, const F& f);

}  // namespace tenun::cuda
