// Host twins of the PTX wrappers of cuda/ptx.h: matrix products of a warp, ldmatrix, asynchronous
// copies. One collective does what the 32 lanes do together; fragments are laid out as on the
// device. Products of floats are summed in f32, in the order of k, and added to what there was
// rounded towards zero, as tensor cores do.
#pragma once
#include "tenun/core/dtype.h"
#include "tenun/tests/cuda_emulation/emulation.h"

namespace tenun::emulation {

enum class Operand : uint8_t { bf16, f16, s8, e4m3, tf32 };
void mma(Operand type, void* d, const unsigned (&a)[4], unsigned b0, unsigned b1);
/// Three products of TF32 at once: lanes wait for each other once.
void mma_tf32_pairs(float* d, const unsigned (&a)[4], const unsigned (&a_rest)[4],
                    const unsigned (&b)[2], const unsigned (&b_rest)[2]);
void ldmatrix(unsigned (&r)[4], const void* row, bool transposed);
void copy_async(const Copy& copy);
void commit_copies();
void wait_copies(size_t groups_left);

}  // namespace tenun::emulation

namespace tenun::TENUN_BACKEND {

inline void mma_bf16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  emulation::mma(emulation::Operand::bf16, d, a, b0, b1);
}
inline void mma_f16(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  emulation::mma(emulation::Operand::f16, d, a, b0, b1);
}
inline void mma_s8(int (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  emulation::mma(emulation::Operand::s8, d, a, b0, b1);
}
inline unsigned to_tf32(float x) {
  const auto bits = std::bit_cast<unsigned>(x);
  return std::isfinite(x) ? (bits + 0x1000u) & ~0x1fffu : bits;
}
inline void mma_tf32(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  emulation::mma(emulation::Operand::tf32, d, a, b0, b1);
}
inline void mma_tf32_pairs(float (&d)[4], const unsigned (&a)[4], const unsigned (&a_rest)[4],
                           const unsigned (&b)[2], const unsigned (&b_rest)[2]) {
  emulation::mma_tf32_pairs(d, a, a_rest, b, b_rest);
}
inline void mma_e4m3(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  emulation::mma(emulation::Operand::e4m3, d, a, b0, b1);
}
inline void ldmatrix_x4(unsigned (&r)[4], const void* row) { emulation::ldmatrix(r, row, false); }
inline void ldmatrix_x4_t(unsigned (&r)[4], const void* row) { emulation::ldmatrix(r, row, true); }
inline void cp_async16(void* to, const void* from, bool valid = true) {
  emulation::copy_async({to, from, valid});
}
inline void cp_commit() { emulation::commit_copies(); }
template <int N>
void cp_wait() {
  emulation::wait_copies(N);
}
inline unsigned pack_bf16(float lo, float hi) {
  return bf16(lo).bits | static_cast<unsigned>(bf16(hi).bits) << 16;
}
inline unsigned pack_f16(float lo, float hi) {
  return f16(lo).bits | static_cast<unsigned>(f16(hi).bits) << 16;
}
inline unsigned mul_f16x2(unsigned a, unsigned b) {
  const auto half = [](unsigned v) {
    return static_cast<float>(std::bit_cast<f16>(static_cast<uint16_t>(v)));
  };
  return pack_f16(half(a) * half(b), half(a >> 16) * half(b >> 16));
}
/// Subnormal numbers are 0 (.ftz).
inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? 0.0f : x; }
inline float ex2(float x) { return flushed(std::exp2(flushed(x))); }
inline float lg2(float x) { return std::log2(flushed(x)); }
inline void opaque(int&) {}
inline void in_order() {}

}  // namespace tenun::TENUN_BACKEND
