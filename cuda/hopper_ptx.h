// PTX of cuda/hopper.h, which says what each wrapper does. Only for nvcc, and only used in code for
// sm_90a.
#pragma once
#include <cuda_runtime.h>

#include <type_traits>

#include "tenun/core/dtype.h"

namespace tenun::TENUN_BACKEND {

__device__ __forceinline__ void barrier_init(uint64_t* b, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0],%1;" ::"r"(shared_address(b)), "r"(arrivals)
               : "memory");
}
/// The barriers that this thread made are there for the other threads and for TMA.
__device__ __forceinline__ void barriers_ready() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(uint64_t* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _,[%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ __forceinline__ void barrier_expect(uint64_t* b, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _,[%0],%1;" ::"r"(shared_address(b)),
               "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void barrier_wait(uint64_t* b, int parity) {
  unsigned over;
  do {
    asm volatile(
        "{.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p,[%1],%2;\n"
        "selp.u32 %0,1,0,p;}"
        : "=r"(over)
        : "r"(shared_address(b)), "r"(parity)
        : "memory");
  } while (over == 0);
}

__device__ __forceinline__ void load_box(void* to, const TensorMap& map, uint64_t* b, int column,
                                         int row, int head, int batch) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0],[%1,{%3,%4,%5,%6}],[%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(b)), "r"(column), "r"(row), "r"(head), "r"(batch)
      : "memory");
}

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/// Registers of a product, which the compiler must not move across a fence or a wait: sums that a
/// wait has finished are read behind this place, what the next product needs is written before it.
template <class T, int N>
__device__ __forceinline__ void settle(T (&d)[N][4]) {
  TENUN_UNROLL
  for (int n = 0; n < N; ++n) {
    TENUN_UNROLL
    for (int e = 0; e < 4; ++e)
      if constexpr (std::is_same_v<T, float>)
        asm volatile("" : "+f"(d[n][e])::"memory");
      else
        asm volatile("" : "+r"(d[n][e])::"memory");
  }
}

// Registers of sums as operands of asm.
#define TENUN_SUMS_1(d, n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define TENUN_SUMS_4(d, n) \
  TENUN_SUMS_1(d, n), TENUN_SUMS_1(d, n + 1), TENUN_SUMS_1(d, n + 2), TENUN_SUMS_1(d, n + 3)
#define TENUN_SUMS_8(d, n) TENUN_SUMS_4(d, n), TENUN_SUMS_4(d, n + 4)
#define TENUN_REGISTERS_32                                                          \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21," \
  "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}"
#define TENUN_REGISTERS_64                                                           \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,"  \
  "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41," \
  "%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61," \
  "%62,%63}"
// Scales of A and B are 1; the last digits say whether A and B lie with their depth outermost.
#define TENUN_WGMMA_ABT(type)                                                             \
  asm volatile(                                                                           \
      "{.reg .pred p;\nsetp.ne.b32 p,%66,0;\n"                                            \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " TENUN_REGISTERS_64 \
      ",%64,%65,p,1,1,0,0;}"                                                              \
      : TENUN_SUMS_8(d, 0), TENUN_SUMS_8(d, 8)                                            \
      : "l"(a), "l"(b), "r"(static_cast<int>(add))                                        \
      : "memory")
#define TENUN_WGMMA_AB_128(type)                                                          \
  asm volatile(                                                                           \
      "{.reg .pred p;\nsetp.ne.b32 p,%69,0;\n"                                            \
      "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " TENUN_REGISTERS_64 \
      ",{%64,%65,%66,%67},%68,p,1,1,1;}"                                                  \
      : TENUN_SUMS_8(d, 0), TENUN_SUMS_8(d, 8)                                            \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1)                        \
      : "memory")
#define TENUN_WGMMA_AB_64(type)                                                          \
  asm volatile(                                                                          \
      "{.reg .pred p;\nsetp.ne.b32 p,%37,0;\n"                                           \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " " TENUN_REGISTERS_32 \
      ",{%32,%33,%34,%35},%36,p,1,1,1;}"                                                 \
      : TENUN_SUMS_8(d, 0)                                                               \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1)                       \
      : "memory")

template <class T>
__device__ __forceinline__ void wgmma_abt(float (&d)[16][4], uint64_t a, uint64_t b, bool add) {
  if constexpr (std::is_same_v<T, f16>)
    TENUN_WGMMA_ABT("f16");
  else
    TENUN_WGMMA_ABT("bf16");
}
template <class T>
__device__ __forceinline__ void wgmma_ab(float (&d)[16][4], const unsigned (&a)[4], uint64_t b) {
  if constexpr (std::is_same_v<T, f16>)
    TENUN_WGMMA_AB_128("f16");
  else
    TENUN_WGMMA_AB_128("bf16");
}
template <class T>
__device__ __forceinline__ void wgmma_ab(float (&d)[8][4], const unsigned (&a)[4], uint64_t b) {
  if constexpr (std::is_same_v<T, f16>)
    TENUN_WGMMA_AB_64("f16");
  else
    TENUN_WGMMA_AB_64("bf16");
}

#undef TENUN_SUMS_1
#undef TENUN_SUMS_4
#undef TENUN_SUMS_8
#undef TENUN_REGISTERS_32
#undef TENUN_REGISTERS_64
#undef TENUN_WGMMA_ABT
#undef TENUN_WGMMA_AB_128
#undef TENUN_WGMMA_AB_64

template <int N>
__device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

}  // namespace tenun::TENUN_BACKEND
