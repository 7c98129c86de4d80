// PTX wrappers: products of a warp on the tensor cores, ldmatrix, asynchronous copies. Layouts of
// the fragments, with lane = 4 g + t:
//   A, 16 x 16 of 16 bits    a[r], half h: row g + 8 (r mod 2), column 2 t + 8 (r / 2) + h
//   A, 16 x 32 of 8 bits     a[r], byte h: row g + 8 (r mod 2), column 4 t + 16 (r / 2) + h
//   B, 16 x 8 of 16 bits     b[r], half h: row 2 t + 8 r + h, column g
//   B, 32 x 8 of 8 bits      b[r], byte h: row 4 t + 16 r + h, column g
//   A, 16 x 8 of 32 bits     a[r]: row g + 8 (r mod 2), column t + 4 (r / 2)
//   B, 8 x 8 of 32 bits      b[r]: row t + 4 r, column g
//   C, 16 x 8                d[e]: row g + 8 (e / 2), column 2 t + (e mod 2)
// The twins for the emulation are in tests/cuda_emulation/tensor_core.h. Only for nvcc.
#pragma once
#include <cuda_runtime.h>

namespace tenun::TENUN_BACKEND {

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Not volatile: pure functions of their operands, which the compiler may move.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_f16(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                        unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_s8(int (&d)[4], const unsigned (&a)[4], unsigned b0,
                                       unsigned b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// f32 rounded to TF32, halves away from 0, and the product of such numbers.
__device__ __forceinline__ unsigned to_tf32(float x) {
  unsigned r;
  asm("cvt.rna.tf32.f32 %0,%1;" : "=r"(r) : "f"(x));
  return r;
}
__device__ __forceinline__ void mma_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/// (A + a_rest) (B + b_rest) without the product of the rests, the small ones first.
__device__ __forceinline__ void mma_tf32_pairs(float (&d)[4], const unsigned (&a)[4],
                                               const unsigned (&a_rest)[4], const unsigned (&b)[2],
                                               const unsigned (&b_rest)[2]) {
  mma_tf32(d, a_rest, b[0], b[1]);
  mma_tf32(d, a, b_rest[0], b_rest[1]);
  mma_tf32(d, a, b[0], b[1]);
}
/// From sm_89 on.
__device__ __forceinline__ void mma_e4m3(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                         unsigned b1) {
  asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Four 8 x 8 matrices of 16 bits; lane 8 i + g gives the address of row g of matrix i.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_t(unsigned (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// 16 bytes from global to shared memory; `valid` = false writes zeros (the source must still be an
/// address inside the tensor).
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(shared_address(to)), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits until at most N groups are under way.
template <int N>
__device__ __forceinline__ void cp_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

__device__ __forceinline__ unsigned pack_bf16(float lo, float hi) {
  unsigned r;
  asm("cvt.rn.bf16x2.f32 %0,%1,%2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
__device__ __forceinline__ unsigned pack_f16(float lo, float hi) {
  unsigned r;
  asm("cvt.rn.f16x2.f32 %0,%1,%2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
__device__ __forceinline__ unsigned mul_f16x2(unsigned a, unsigned b) {
  unsigned r;
  asm("mul.rn.f16x2 %0,%1,%2;" : "=r"(r) : "r"(a), "r"(b));
  return r;
}
/// Four numbers to E4M3, at most 448, the first one in the lowest byte. From sm_89 on.
__device__ __forceinline__ unsigned pack_e4m3(float x0, float x1, float x2, float x3) {
  unsigned r;
  asm("{.reg .b16 l,h;"
      "cvt.rn.satfinite.e4m3x2.f32 l,%2,%1;"
      "cvt.rn.satfinite.e4m3x2.f32 h,%4,%3;"
      "mov.b32 %0,{l,h};}"
      : "=r"(r)
      : "f"(x0), "f"(x1), "f"(x2), "f"(x3));
  return r;
}
__device__ __forceinline__ float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float lg2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x));
  return y;
}
/// Hides where a value comes from, so that what is derived from it is computed again instead of
/// being kept in registers across a loop.
__device__ __forceinline__ void opaque(int& x) { asm volatile("" : "+r"(x)); }
/// Nothing is moved across: for code whose parts would take too many registers side by side.
__device__ __forceinline__ void in_order() { asm volatile("" ::: "memory"); }

}  // namespace tenun::TENUN_BACKEND
