// CUDA's vocabulary for a kernel that is compiled as plain C++: qualifiers, indices, shared memory,
// barriers, warp operations, atomics and intrinsics. Kernels get it through cuda/device_code.h.
// TMA, mbarrier and wgmma are in hopper.h. What is not here is not emulated: clusters, cooperative
// groups.
//
// Atomics on f32 are there for kernels whose result does not depend on the order.
#pragma once
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <source_location>
#include <tuple>

#include "tenun/tests/cuda_emulation/block.h"
#include "tenun/tests/cuda_emulation/graph.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define threadIdx (tenun::emulation::self().thread)
#define blockIdx (tenun::emulation::block->index)
#define blockDim (tenun::emulation::block->size)
#define gridDim (tenun::emulation::block->grid)

#define TENUN_UNROLL
#define TENUN_NO_UNROLL
// An array of `count` elements in shared memory, and the one whose size the launch says.
#define TENUN_SHARED(T, name, count)     \
  static constexpr char name##_site = 0; \
  T* const name = static_cast<T*>(       \
      tenun::emulation::shared_memory(&name##_site, sizeof(T) * static_cast<size_t>(count)))
#define TENUN_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(tenun::emulation::dynamic_shared_memory())

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

static inline void __syncthreads(std::source_location at = std::source_location::current()) {
  tenun::emulation::block_barrier(static_cast<int>(at.line()));
}
static inline void __syncwarp(unsigned mask = ~0u) {
  tenun::emulation::warp_barrier(mask, nullptr, nullptr);
}

namespace tenun::emulation {

template <class T>
struct Exchange {
  T value;
  int source;
  T result;
};
template <class T>
T exchange(unsigned mask, T value, int source) {
  Exchange<T> x{value, source, value};
  warp_barrier(
      mask,
      [](void* const lanes[32], uint32_t m) {
        for (int l = 0; l < 32; ++l)
          if ((m >> l & 1u) != 0) {
            auto* const to = static_cast<Exchange<T>*>(lanes[l]);
            // A lane that the mask does not name has no value; its reader keeps its own.
            if (const auto* from = static_cast<Exchange<T>*>(lanes[to->source & 31]))
              to->result = from->value;
          }
      },
      &x);
  return x.result;
}
inline unsigned ballot(unsigned mask, bool vote) {
  struct Vote {
    bool yes;
    unsigned result;
  } v{vote, 0};
  warp_barrier(
      mask,
      [](void* const lanes[32], uint32_t m) {
        unsigned all = 0;
        for (int l = 0; l < 32; ++l)
          if ((m >> l & 1u) != 0 && static_cast<Vote*>(lanes[l])->yes) all |= 1u << l;
        for (int l = 0; l < 32; ++l)
          if ((m >> l & 1u) != 0) static_cast<Vote*>(lanes[l])->result = all;
      },
      &v);
  return v.result;
}

}  // namespace tenun::emulation

template <class T>
T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  const int l = tenun::emulation::lane();
  return tenun::emulation::exchange(mask, v, (l & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int bits) {
  return tenun::emulation::exchange(mask, v, tenun::emulation::lane() ^ bits);
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
  const int l = tenun::emulation::lane(), s = l + static_cast<int>(by);
  return tenun::emulation::exchange(mask, v, (s & ~(width - 1)) == (l & ~(width - 1)) ? s : l);
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
  const int l = tenun::emulation::lane(), s = l - static_cast<int>(by);
  return tenun::emulation::exchange(mask, v, s >= (l & ~(width - 1)) ? s : l);
}
static inline unsigned __ballot_sync(unsigned mask, int vote) {
  return tenun::emulation::ballot(mask, vote != 0);
}
static inline int __any_sync(unsigned mask, int vote) {
  return tenun::emulation::ballot(mask, vote != 0) != 0 ? 1 : 0;
}
static inline int __all_sync(unsigned mask, int vote) {
  return tenun::emulation::ballot(mask, vote == 0) == 0 ? 1 : 0;
}

template <class T>
T atomicAdd(T* p, T v) {
  return std::atomic_ref<T>(*p).fetch_add(v, std::memory_order_relaxed);
}
template <class T>
T atomicOr(T* p, T v) {
  return std::atomic_ref<T>(*p).fetch_or(v, std::memory_order_relaxed);
}
template <class T>
T atomicMin(T* p, T v) {
  std::atomic_ref<T> a(*p);
  T old = a.load(std::memory_order_relaxed);
  while (v < old && !a.compare_exchange_weak(old, v, std::memory_order_relaxed)) {
  }
  return old;
}
template <class T>
T atomicMax(T* p, T v) {
  std::atomic_ref<T> a(*p);
  T old = a.load(std::memory_order_relaxed);
  while (old < v && !a.compare_exchange_weak(old, v, std::memory_order_relaxed)) {
  }
  return old;
}
static inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

static inline int __popc(unsigned v) { return std::popcount(v); }
static inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
static inline int __ffs(int v) {
  return v == 0 ? 0 : std::countr_zero(static_cast<unsigned>(v)) + 1;
}
static inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
static inline float __int_as_float(int v) { return std::bit_cast<float>(v); }
static inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
static inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
static inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
/// Byte i of the result is byte (which >> 4 i) & 7 of the eight bytes of x and y.
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned which) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i)
    r |= static_cast<unsigned>(bytes >> (which >> 4 * i & 7u) * 8 & 0xffu) << 8 * i;
  return r;
}
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
template <class T>
T __ldg(const T* p) {
  return *p;
}
