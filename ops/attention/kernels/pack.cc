// Compiled once a level: the packing kernels.
#include "tenun/ops/simd/pack.h"

#include "tenun/ops/attention/kernels/ahead.h"
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

// The larger magnitude: as bits they are in the order of the numbers, with NaN above all.
TENUN_VECTOR F32 larger(F32 most, F32 x) {
#if defined(__AVX512F__)
  return as_float(_mm512_max_epi32(as_bits(most), as_bits(abs(x))));
#else
  return as_float(_mm256_max_epi32(as_bits(most), as_bits(abs(x))));
#endif
}
float largest_of_lanes(F32 magnitudes) {
  alignas(64) int32_t bits[kL];
  store_bits(bits, as_bits(magnitudes));
  int32_t most = 0;
  for (const int32_t b : bits) most = b > most ? b : most;
  float x;
  __builtin_memcpy(&x, &most, 4);
  return x;
}
TENUN_VECTOR int32_t sum32(Bits x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_epi32(x);
#else
  __m128i h = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  h = _mm_add_epi32(h, _mm_unpackhi_epi64(h, h));
  return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 1)));
#endif
}

// Folds all rows into one, a few vectors of channels at a time so that rows are read in order.
template <class F>
TENUN_VECTOR void fold_rows(const float* x, int64_t stride, int64_t rows, int64_t channels,
                            float* y, const F& f) {
  int64_t c = 0;
  for (; c + 4 * kL <= channels; c += 4 * kL) {
    F32 s[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) s[i] = load(y + c + i * kL);
    for (int64_t r = 0; r < rows; ++r)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) s[i] = f(s[i], load(x + r * stride + c + i * kL));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) store(y + c + i * kL, s[i]);
  }
  for (; c < channels; c += kL) {
    F32 s = some(y + c, channels - c);
    for (int64_t r = 0; r < rows; ++r) s = f(s, some(x + r * stride + c, channels - c));
    put(y + c, channels - c, s);
  }
}
void largest_of(const float* x, int64_t stride, int64_t rows, int64_t channels, float* most) {
  fold_rows(x, stride, rows, channels, most, [](F32 a, F32 b) { return larger(a, b); });
}
void sum_of(const float* x, int64_t stride, int64_t rows, int64_t channels, float* total) {
  fold_rows(x, stride, rows, channels, total, [](F32 a, F32 b) { return a + b; });
}

float key_bytes(const float* x, int64_t stride, int64_t rows, int64_t channels, int64_t depth,
                const float* mean, int8_t* y, int32_t* start) {
  F32 most[4] = {};
  for (int64_t c = 0; c < channels; c += kL) {
    const F32 m = some(mean + c, channels - c);
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i)
        most[i] = larger(most[i], some(x + (r + i) * stride + c, channels - c) - m);
    for (; r < rows; ++r) most[0] = larger(most[0], some(x + r * stride + c, channels - c) - m);
  }
  const float unit =
      largest_of_lanes(larger(larger(most[0], most[1]), larger(most[2], most[3]))) / 127;
  // No integer stands for a NaN or an infinity: the unit alone says it.
  const bool finite = unit - unit == 0;
  const F32 by = broadcast(unit >= 1.2e-38f ? 1 / unit : 0.0f);  // 1 / a smaller one is infinite
  for (int64_t r = 0; r < rows; ++r) {
    fetch_row(x + (rows + r) * stride, channels);  // behind these come the next ones
    Bits all = {};
    for (int64_t c = 0; c < depth; c += kL) {
      const Bits b =
          finite
              ? to_int(by * (some(x + r * stride + c, channels - c) - some(mean + c, channels - c)))
              : Bits{};
      all = add32(all, b);
      put_bytes(y + r * depth + c, depth - c, b);
    }
    start[r] = -128 * sum32(all);
  }
  return unit;
}

void value_quads(const float* x, int64_t stride, int64_t rows, int64_t channels, int64_t depth,
                 const float* inverse, Group* y) {
  for (int64_t r = 0; r < rows; r += 4) {
    for (int64_t i = 0; i < 4; ++i) fetch_row(x + (rows + r + i) * stride, channels);
    for (int64_t c = 0; c < depth; c += kL) {
      F32 v[4] = {};
      const int64_t left = channels - c;
      for (int64_t i = 0; i < 4 && r + i < rows; ++i)
        v[i] = some(x + (r + i) * stride + c, left) * some(inverse + c, left);
      put(reinterpret_cast<float*>(y + r / 4 * depth + c), depth - c,
          as_float(quad<Sign::both>(v[0], v[1], v[2], v[3])));
    }
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

void widen(const uint16_t* x, int64_t stride, int64_t rows, int64_t channels, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const uint16_t* const from = x + r * stride;
    float* const to = y + r * channels;
    int64_t c = 0;
    for (; c + kL <= channels; c += kL) {
#if defined(__AVX512F__)
      const Bits b =
          _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + c)));
#else
      const Bits b =
          _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + c)));
#endif
      store(to + c, as_float(left32<16>(b)));
    }
    for (; c < channels; ++c) {
      const uint32_t b = static_cast<uint32_t>(from[c]) << 16;
      __builtin_memcpy(to + c, &b, 4);
    }
  }
}
void narrow(const float* x, int64_t n, uint16_t* y) {
  int64_t i = 0;
  for (; i + 2 * kL <= n; i += 2 * kL) store_bits(y + i, join(load(x + i), load(x + i + kL)));
  for (; i < n; i += kL) {
    alignas(64) uint16_t z[2 * kL];
    store_bits(z, join(some(x + i, n - i), F32{}));
    for (int64_t c = 0; c < kL && i + c < n; ++c) y[i + c] = z[c];
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

extern const PackKernels pack_kernels{largest_of,  sum_of,           key_bytes, value_quads,
                                      value_pairs, value_pairs_bf16, widen,     narrow};

}  // namespace tenun::simd::TENUN_ISA
