// The host's part of cuda/hopper.h on a GPU. The driver is asked for the function that makes tensor
// maps, so that the program does not need the driver's library to start.
#include "tenun/cuda/hopper.h"

#include <cuda.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "tenun/core/error.h"

namespace tenun::TENUN_BACKEND {
namespace {

static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) &&
              alignof(TensorMap) >= alignof(CUtensorMap));

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encode() {
  static const Encode f = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult status{};
#if CUDART_VERSION >= 12050
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                               12000, cudaEnableDefault, &status);
#else
    const cudaError_t error =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &status);
#endif
    return error == cudaSuccess && status == cudaDriverEntryPointSuccess
               ? reinterpret_cast<Encode>(found)
               : nullptr;
  }();
  return f;
}

__global__ void look_for_hopper_code(int* found) {
#if defined(TENUN_HOPPER_CODE)
  *found = 1;
#else
  *found = 0;
#endif
}
/// Of the machine code in the program the driver takes what fits the device: is it that of sm_90a?
bool has_hopper_code() {
  int major = 0, minor = 0, device = 0, answer = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) != cudaSuccess ||
      major != 9 || minor != 0)
    return false;
  auto* const found = static_cast<int*>(allocate_raw(sizeof(int)));
  if (found == nullptr) return false;
  launch(look_for_hopper_code, dim3(1), dim3(1), 0, found);
  copy_raw(&answer, found, sizeof(int), Way::to_host);
  release_raw(found);
  return answer == 1;
}

}  // namespace

bool hopper_asked_for() {
  const char* const e = std::getenv("TENUN_CUDA_HOPPER");
  return e != nullptr && std::strcmp(e, "1") == 0;
}
bool use_hopper() {
  static const bool use = hopper_asked_for() && has_hopper_code() && encode() != nullptr;
  return use;
}

TensorMap tensor_map(const TensorSource& x) {
  const auto bytes = [&](int64_t n, int64_t s) {  // of one element any stride will do
    return static_cast<cuuint64_t>(2 * (n == 1 ? (x.columns + 7) / 8 * 8 : s));
  };
  const cuuint64_t sizes[4] = {static_cast<cuuint64_t>(x.columns), static_cast<cuuint64_t>(x.rows),
                               static_cast<cuuint64_t>(x.heads),
                               static_cast<cuuint64_t>(x.batches)};
  const cuuint64_t strides[3] = {bytes(x.rows, x.row), bytes(x.heads, x.head),
                                 bytes(x.batches, x.batch)};
  const cuuint32_t box[4] = {kBoxColumns, kBoxRows, 1, 1}, steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result = encode()(
      &map,
      x.dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
      const_cast<void*>(x.p), sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw DeviceError(std::string(detail::device_call == nullptr ? "cuda" : detail::device_call) +
                      ": the driver makes no tensor map: error " +
                      std::to_string(static_cast<int>(result)));
  TensorMap made;
  std::memcpy(&made, &map, sizeof made);
  return made;
}

}  // namespace tenun::TENUN_BACKEND
