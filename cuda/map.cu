// Elementwise kernels; see map.h. One thread computes elements i, i + T, i + 2T, ... (T threads in
// all), so that neighbouring threads touch neighbouring memory.
#include "tenun/cuda/map.h"

#include "tenun/ops/functors_unary.h"

namespace tenun::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 8192;  // enough to fill any GPU; the loop does the rest

/// Offset of element i (row-major) in an input.
__device__ int64_t offset_of(const MapArgs& a, int input, int64_t i) {
  int64_t offset = 0;
  for (int axis = a.rank - 1; axis >= 0; --axis) {
    offset += i % a.sizes[axis] * a.strides[input][axis];
    i /= a.sizes[axis];
  }
  return offset;
}

template <class F, class T>
__global__ void __launch_bounds__(kThreads) map_kernel(const MapArgs a, const F f) {
  const auto load = [&](int input, int64_t i) {
    const auto* p = static_cast<const T*>(a.in[input]);
    return static_cast<Compute<T>>(p[a.flat ? i : offset_of(a, input, i)]);
  };
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < a.numel; i += stride) {
    Compute<T> y;
    if constexpr (F::arity == 1)
      y = f(load(0, i));
    else if constexpr (F::arity == 2)
      y = f(load(0, i), load(1, i));
    else
      y = f(load(0, i), load(1, i), load(2, i));
    static_cast<T*>(a.out)[i] = T(y);
  }
}

template <class F, class T>
void start(const MapArgs& a, const F& f) {
  const int64_t blocks = (a.numel + kThreads - 1) / kThreads;
  map_kernel<F, T>
      <<<static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), kThreads>>>(a, f);
}

}  // namespace

template <class F>
const char* launch_map(const MapArgs& a, const F& f) {
  if (a.numel == 0) return nullptr;
  switch (a.dtype) {
    case DType::f32: start<F, float>(a, f); break;
    case DType::f64: start<F, double>(a, f); break;
    case DType::bf16: start<F, bf16>(a, f); break;
    case DType::f16: start<F, f16>(a, f); break;
    default: return "elementwise kernels take floating types";
  }
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

template const char* launch_map(const MapArgs&, const fn::Add&);
template const char* launch_map(const MapArgs&, const fn::Sub&);
template const char* launch_map(const MapArgs&, const fn::Mul&);
template const char* launch_map(const MapArgs&, const fn::Exp&);
template const char* launch_map(const MapArgs&, const fn::Silu&);
template const char* launch_map(const MapArgs&, const fn::Grad<fn::Silu>&);

}  // namespace tenun::cuda
