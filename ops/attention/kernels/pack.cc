// Compiled once a level: the packing kernels.
#include "tenun/ops/simd/pack.h"

#include "tenun/ops/attention/kernels/kernels.h"

namespace tenun::simd::TENUN_ISA {
namespace {

constexpr int kL = kLanes<float>;

// Up to one vector of channels, zeros beyond.
TENUN_VECTOR F32 some(const float* x, int64_t left) {
  if (left >= kL) return load(x);
  alignas(64) float y[kL] = {};
  for (int64_t i = 0; i < left; ++i) y[i] = x[i];
  return load(y);
}
TENUN_VECTOR void put(float* y, int64_t left, F32 x) {
  if (left >= kL) return store(y, x);
  alignas(64) float z[kL];
  store(z, x);
  for (int64_t i = 0; i < left; ++i) y[i] = z[i];
}

// The low bytes of 32-bit lanes; `left` is a multiple of 8.
TENUN_VECTOR void put_bytes(int8_t* y, int64_t left, Bits x) {
#if defined(__AVX512F__)
  const __m128i b = _mm512_cvtsepi32_epi8(x);
  if (left >= kL)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), b);
  else
    _mm_storel_epi64(reinterpret_cast<__m128i*>(y), b);
#else
  (void)left;
  const __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(y), _mm_packs_epi16(w, w));
#endif
}

void largest_of(const float* x, int64_t stride, int64_t rows, int64_t channels, float* most) {
  for (int64_t c = 0; c < channels; c += kL) {
    F32 m = some(most + c, channels - c);
    for (int64_t r = 0; r < rows; ++r) m = max(m, abs(some(x + r * stride + c, channels - c)));
    put(most + c, channels - c, m);
  }
}

// Four sums a channel: additions do not wait for each other.
void sum_of(const float* x, int64_t stride, int64_t rows, int64_t channels, float* total) {
  for (int64_t c = 0; c < channels; c += kL) {
    F32 s[4] = {};
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) s[i] = s[i] + some(x + (r + i) * stride + c, channels - c);
    for (; r < rows; ++r) s[0] = s[0] + some(x + r * stride + c, channels - c);
    put(total + c, channels - c, some(total + c, channels - c) + ((s[0] + s[1]) + (s[2] + s[3])));
  }
}

float key_bytes(const float* x, int64_t stride, int64_t rows, int64_t channels, int64_t depth,
                const float* mean, int8_t* y, int32_t* start) {
  F32 most = {};
  for (int64_t c = 0; c < channels; c += kL) {
    const F32 m = some(mean + c, channels - c);
    for (int64_t r = 0; r < rows; ++r)
      most = max(most, abs(some(x + r * stride + c, channels - c) - m));
  }
  const float unit = largest(most) / 127;
  const F32 by = broadcast(unit > 0 ? 1 / unit : 0.0f);
  for (int64_t r = 0; r < rows; ++r) {
    Bits all = {};
    int64_t c = 0;
    for (; c < depth; c += kL) {
      const Bits b =
          to_int(by * (some(x + r * stride + c, channels - c) - some(mean + c, channels - c)));
      all = add32(all, b);
      put_bytes(y + r * depth + c, depth - c, b);
    }
    alignas(64) int32_t sums[kL];
    store_bits(sums, all);
    int32_t s = 0;
    for (const int32_t i : sums) s += i;
    start[r] = -128 * s;
  }
  return unit;
}

void value_quads(const float* x, int64_t stride, int64_t rows, int64_t channels, int64_t depth,
                 const float* inverse, Group* y) {
  for (int64_t r = 0; r < rows; r += 4)
    for (int64_t c = 0; c < depth; c += kL) {
      F32 v[4] = {};
      const int64_t left = channels - c;
      for (int64_t i = 0; i < 4 && r + i < rows; ++i)
        v[i] = some(x + (r + i) * stride + c, left) * some(inverse + c, left);
      put(reinterpret_cast<float*>(y + r / 4 * depth + c), depth - c,
          as_float(quad<Sign::both>(v[0], v[1], v[2], v[3])));
    }
}

void value_pairs(const float* x, int64_t stride, int64_t rows, int64_t channels, int64_t depth,
                 Group* y) {
  for (int64_t r = 0; r < rows; r += 2)
    for (int64_t c = 0; c < depth; c += kL) {
      const F32 a = some(x + r * stride + c, channels - c),
                b = r + 1 < rows ? some(x + (r + 1) * stride + c, channels - c) : F32{};
      put(reinterpret_cast<float*>(y + r / 2 * depth + c), depth - c, as_float(pair(a, b)));
    }
}

void value_pairs_bf16(const uint16_t* x, int64_t stride, int64_t rows, int64_t depth, Group* y) {
  for (int64_t r = 0; r < rows; r += 2) {
    const uint16_t *const a = x + r * stride, *const b = a + stride;
    Group* const out = y + r / 2 * depth;
    if (r + 1 < rows)
      for (int64_t c = 0; c < depth; ++c) out[c].bits = a[c] | static_cast<uint32_t>(b[c]) << 16;
    else
      for (int64_t c = 0; c < depth; ++c) out[c].bits = a[c];
  }
}

}  // namespace

extern const PackKernels pack_kernels{largest_of,  sum_of,      key_bytes,
                                      value_quads, value_pairs, value_pairs_bf16};

}  // namespace tenun::simd::TENUN_ISA
