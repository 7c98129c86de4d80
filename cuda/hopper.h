// What Hopper (sm_90a) has beyond the tensor cores of sm_80, for kernels that use it: boxes of a
// tensor that one thread asks for and that land in shared memory by themselves (TMA), barriers that
// count arrivals and bytes, products of a warpgroup (4 warps, 64 rows) whose operands lie in shared
// memory (wgmma). The PTX is in cuda/hopper_ptx.h, its twins in tests/cuda_emulation/hopper.h:
//
//   barrier_init(b, arrivals)          by one thread; then barriers_ready() and __syncthreads()
//   barrier_arrive(b)                  one arrival
//   barrier_expect(b, bytes)           one arrival, and the phase also waits for so many bytes
//   barrier_wait(b, parity)            until the phase with this parity is over; the first one has
//                                      parity 0, and on a fresh barrier parity 1 counts as over
//   load_box(to, map, b, column, row, head, batch)
//                                      what lies outside of the tensor arrives as zeros, and counts
//   wgmma_fence()                      before the first product after registers were written, and
//                                      after settle() of them
//   wgmma_abt<T>(d, a, b, add)         d (+)= A B^T: 64 x 16 and 128 x 16, described by matrix()
//   wgmma_ab<T>(d, a, b)               d += A B: A in registers as for mma_bf16, B 16 x N
//   wgmma_commit(), wgmma_wait<N>()    until at most N groups are under way; then settle(d)
//   more_registers<N>(), fewer_registers<N>()   by all warps of a warpgroup
//
// Sums of a warpgroup: warp w has rows 16 w ... 16 w + 15, and d[n] is its C fragment of columns
// 8 n ... 8 n + 7 (cuda/ptx.h). They, and an A in registers, belong to the product until the wait.
#pragma once
#include <cstdint>

#include "tenun/cuda/device_code.h"

namespace tenun::TENUN_BACKEND {

/// TENUN_CUDA_HOPPER=1; in the emulation what its settings say, which start with that.
[[nodiscard]] bool hopper_asked_for();
/// Are the kernels of this kind to be used? On a GPU they must be asked for, the device be an sm_90
/// and the machine code that runs on it be that for sm_90a. The first call waits for the device.
[[nodiscard]] bool use_hopper();

/// A tensor (batch, head, row, column) of 16-bit elements as TMA sees it, and the box that it
/// loads: kBoxRows rows of kBoxColumns columns. In shared memory a row of a box has 128 bytes,
/// whose 16-byte chunks are permuted by XOR with bits 7 to 9 of their address.
inline constexpr int kBoxRows = 64, kBoxColumns = 64, kBoxBytes = kBoxRows * kBoxColumns * 2;
/// The driver's kind, 128 bytes; gcc remarks on arguments of that alignment in the emulation.
struct alignas(kDevice == DeviceType::cuda ? 128 : 8) TensorMap {
  uint64_t words[16];
};
struct TensorSource {
  const void* p = nullptr;  ///< aligned to 16 bytes
  DType dtype = DType::bf16;
  int64_t columns = 0, rows = 0, heads = 1, batches = 1;
  int64_t row = 0, head = 0, batch = 0;  ///< strides in elements
};
/// Can TMA read it? Strides of more than one element must be positive multiples of 16 bytes.
[[nodiscard]] inline bool tensor_map_takes(const TensorSource& x) {
  const auto stride = [](int64_t n, int64_t s) {
    return n == 1 || (s > 0 && s % 8 == 0 && s < int64_t{1} << 39);
  };
  return reinterpret_cast<uintptr_t>(x.p) % 16 == 0 && stride(x.rows, x.row) &&
         stride(x.heads, x.head) && stride(x.batches, x.batch);
}
/// DeviceError if the driver refuses.
[[nodiscard]] TensorMap tensor_map(const TensorSource& x);

}  // namespace tenun::TENUN_BACKEND

// The body of a kernel for Hopper is there where this is defined: in code for sm_90a, and in the
// emulation. Elsewhere the kernel is empty, and use_hopper() keeps it from being started.
#if defined(__CUDACC__)
#include "tenun/cuda/hopper_ptx.h"
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TENUN_HOPPER_CODE 1
#endif
#else
#include "tenun/tests/cuda_emulation/hopper.h"
#define TENUN_HOPPER_CODE 1
#endif

namespace tenun::TENUN_BACKEND {

/// How wgmma finds a matrix that load_box brought, 16 elements deep, from `start` on. `leading`,
/// bytes: in A B, from 64 columns of B to the next 64 (not used in A B^T); 8 rows are 1024 bytes.
__device__ __forceinline__ uint64_t matrix(const void* start, int leading) {
  constexpr uint64_t kSwizzle128 = 1;
  return uint64_t{shared_address(start) & 0x3ffffu} >> 4 |
         static_cast<uint64_t>(leading >> 4) << 16 | uint64_t{1024 >> 4} << 32 | kSwizzle128 << 62;
}
/// The same matrix, `bytes` further on.
__device__ __forceinline__ uint64_t further(uint64_t matrix, int bytes) {
  return matrix + static_cast<uint64_t>(bytes >> 4);
}

}  // namespace tenun::TENUN_BACKEND
