// FP8 E4M3 (sign, 4 bits of exponent with bias 7, 3 of mantissa; largest 448; no infinity) in
// kernels: conversion, and products on the tensor cores, where the hardware has them (from sm_89
// on) and where it has not: every E4M3 number is an f16 number, so that widening is exact.
// Four numbers to a register. Layouts of fragments: cuda/ptx.h, "8 bits".
#pragma once
#include <bit>

#include "tenun/cuda/device_code.h"

namespace tenun::TENUN_BACKEND {

/// Names the type where a kernel is told the type of an operand.
struct E4M3 {};

/// The code of x in [0, 448], halves to even.
__device__ __forceinline__ unsigned e4m3_of_positive(float x) {
  const auto u = std::bit_cast<unsigned>(x);
  // Below 2^-6 steps of 2^-9: the units of floats from 2^14 on. Above, 20 bits of mantissa go.
  return x < 0.015625f ? std::bit_cast<unsigned>(x + 16384.0f) & 0xffu
                       : ((u + 0x7ffffu + (u >> 20 & 1u)) >> 20) - (120u << 3);
}
/// The code of any x: at most 448; NaN stays.
__device__ __forceinline__ unsigned e4m3_of(float x) {
  const unsigned sign = std::bit_cast<unsigned>(x) >> 24 & 0x80u;
  if (x != x) return sign | 0x7fu;
  const float size = fabsf(x);
  return sign | (size < 448.0f ? e4m3_of_positive(size) : 0x7eu);
}

/// Four numbers in [0, 448] to codes, the first one in the lowest byte.
__device__ __forceinline__ unsigned pack_positive_e4m3(float x0, float x1, float x2, float x3) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  return pack_e4m3(x0, x1, x2, x3);
#else
  return e4m3_of_positive(x0) | e4m3_of_positive(x1) << 8 | e4m3_of_positive(x2) << 16 |
         e4m3_of_positive(x3) << 24;
#endif
}

/// Bytes `which` (0x1404: 0 and 1; 0x3424: 2 and 3) to two f16. The bits of E4M3, moved to those of
/// f16, are a number 2^8 times too small: the difference of the biases.
__device__ __forceinline__ unsigned widen_e4m3(unsigned four, unsigned which) {
  const unsigned high = __byte_perm(four, 0u, which);
  return mul_f16x2((high & 0x80008000u) | (high >> 1 & 0x3f803f80u), 0x5c005c00u);  // 256, 256
}

/// d += A B for A of 16 x 32, B of 32 x 8, as two products of f16: k is taken in another order,
/// the same in A and in B.
__device__ __forceinline__ void mma_widened_e4m3(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                                 unsigned b1) {
  TENUN_UNROLL
  for (int r = 0; r < 2; ++r) {
    const unsigned x[4] = {widen_e4m3(a[2 * r], 0x1404), widen_e4m3(a[2 * r + 1], 0x1404),
                           widen_e4m3(a[2 * r], 0x3424), widen_e4m3(a[2 * r + 1], 0x3424)};
    const unsigned y = r == 0 ? b0 : b1;
    mma_f16(d, x, widen_e4m3(y, 0x1404), widen_e4m3(y, 0x3424));
  }
}
/// The same by the hardware's product where there is one.
__device__ __forceinline__ void product_e4m3(float (&d)[4], const unsigned (&a)[4], unsigned b0,
                                             unsigned b1) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
  mma_widened_e4m3(d, a, b0, b1);
#else
  mma_e4m3(d, a, b0, b1);
#endif
}

}  // namespace tenun::TENUN_BACKEND
