// Packing for the matrix product, for the per-level sources (rules: ops/simd/isa.h). A source says
// how its elements become groups: four groups along k from one lane (`along`), or one group of four
// lanes (`across`); two of each for f64.
#pragma once
#include "tenun/ops/simd/gemm_kernels.h"
#include "tenun/ops/simd/vector.h"

namespace tenun::simd::TENUN_ISA {

TENUN_VECTOR __m128i load16(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
TENUN_VECTOR __m128i load8(const void* p) {
  return _mm_loadl_epi64(static_cast<const __m128i*>(p));
}
TENUN_VECTOR __m128i load4(const void* p) { return _mm_loadu_si32(p); }

template <class E>
struct AsIs {  // f32, f64
  using From = E;
  using To = E;
  static constexpr int kGroup = 1;
  TENUN_VECTOR static __m128i along(const E* p) { return load16(p); }
  TENUN_VECTOR static __m128i across(const E* p, int64_t) { return load16(p); }
  TENUN_VECTOR static E one(const E* p, int64_t, int64_t) { return *p; }
};

struct Pairs {  // bf16
  using From = uint16_t;
  using To = uint32_t;
  static constexpr int kGroup = 2;
  TENUN_VECTOR static __m128i along(const From* p) { return load16(p); }
  TENUN_VECTOR static __m128i across(const From* p, int64_t k_stride) {
    return _mm_unpacklo_epi16(load8(p), load8(p + k_stride));
  }
  TENUN_VECTOR static To one(const From* p, int64_t k_stride, int64_t count) {
    return p[0] | (count > 1 ? static_cast<To>(p[k_stride]) << 16 : 0);
  }
};

template <int Flip>  // 0x80 adds 128 to each byte
struct Quads {
  using From = uint8_t;
  using To = uint32_t;
  static constexpr int kGroup = 4;
  TENUN_VECTOR static __m128i flip(__m128i x) {
    return _mm_xor_si128(x, _mm_set1_epi8(static_cast<char>(Flip)));
  }
  TENUN_VECTOR static __m128i along(const From* p) { return flip(load16(p)); }
  TENUN_VECTOR static __m128i across(const From* p, int64_t k_stride) {
    const __m128i even = _mm_unpacklo_epi8(load4(p), load4(p + k_stride));
    const __m128i odd = _mm_unpacklo_epi8(load4(p + 2 * k_stride), load4(p + 3 * k_stride));
    return flip(_mm_unpacklo_epi16(even, odd));
  }
  TENUN_VECTOR static To one(const From* p, int64_t k_stride, int64_t count) {
    To x = 0;
    for (int64_t i = 0; i < 4 && i < count; ++i)
      x |= static_cast<To>(p[i * k_stride] ^ Flip) << (8 * i);
    return x;
  }
};

struct WidenBf16 {
  using From = uint16_t;
  using To = float;
  static constexpr int kGroup = 1;
  TENUN_VECTOR static __m128i along(const From* p) {
    return _mm_unpacklo_epi16(_mm_setzero_si128(), load8(p));
  }
  TENUN_VECTOR static __m128i across(const From* p, int64_t) { return along(p); }
  TENUN_VECTOR static To one(const From* p, int64_t, int64_t) {
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(*p) << 16)));
  }
};

struct WidenF16 {
  using From = uint16_t;
  using To = float;
  static constexpr int kGroup = 1;
  TENUN_VECTOR static __m128i along(const From* p) {
    return _mm_castps_si128(_mm_cvtph_ps(load8(p)));
  }
  TENUN_VECTOR static __m128i across(const From* p, int64_t) { return along(p); }
  TENUN_VECTOR static To one(const From* p, int64_t, int64_t) {
    return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(*p)));
  }
};

/// A square of 128-bit rows: 4 x 4 elements of 4 bytes, or 2 x 2 of 8.
TENUN_VECTOR void square(__m128i (&x)[4]) {
  const __m128i a = _mm_unpacklo_epi32(x[0], x[1]), b = _mm_unpackhi_epi32(x[0], x[1]);
  const __m128i c = _mm_unpacklo_epi32(x[2], x[3]), d = _mm_unpackhi_epi32(x[2], x[3]);
  x[0] = _mm_unpacklo_epi64(a, c), x[1] = _mm_unpackhi_epi64(a, c);
  x[2] = _mm_unpacklo_epi64(b, d), x[3] = _mm_unpackhi_epi64(b, d);
}
TENUN_VECTOR void square(__m128i (&x)[2]) {
  const __m128i a = _mm_unpacklo_epi64(x[0], x[1]);
  x[1] = _mm_unpackhi_epi64(x[0], x[1]), x[0] = a;
}

/// One panel, W wide; s.lanes <= W.
template <class Source, int W>
TENUN_VECTOR void pack_panel(const GemmSource& s, typename Source::To* to) {
  using From = typename Source::From;
  using To = typename Source::To;
  constexpr int kGroup = Source::kGroup, kStep = 16 / static_cast<int>(sizeof(To));
  const From* const from = static_cast<const From*>(s.p);
  const int64_t groups = (s.k + kGroup - 1) / kGroup, whole = s.k / kGroup;
  const auto put = [&](int64_t l, int64_t g, __m128i x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + g * W + l), x);
  };
  // Whole squares first: `lanes` lanes of `done` groups.
  int64_t lanes = 0, done = 0;
  if (s.k_stride == 1) {
    lanes = s.lanes / kStep * kStep, done = whole / kStep * kStep;
    for (int64_t l = 0; l < lanes; l += kStep) {
      const From* const row = from + l * s.lane_stride;
      for (int64_t g = 0; g < done; g += kStep) {
        __m128i x[kStep];
#pragma GCC unroll 4
        for (int i = 0; i < kStep; ++i) x[i] = Source::along(row + i * s.lane_stride + g * kGroup);
        square(x);
#pragma GCC unroll 4
        for (int i = 0; i < kStep; ++i) put(l, g + i, x[i]);
      }
    }
  } else if (s.lane_stride == 1) {
    constexpr int64_t kAll = W / kStep * kStep;
    lanes = s.lanes / kStep * kStep, done = whole;
    for (int64_t g = 0; g < done; ++g) {
      const From* const row = from + g * kGroup * s.k_stride;
      if (lanes == kAll)  // the usual case, with a known length
#pragma GCC unroll 16
        for (int64_t l = 0; l < kAll; l += kStep) put(l, g, Source::across(row + l, s.k_stride));
      else
        for (int64_t l = 0; l < lanes; l += kStep) put(l, g, Source::across(row + l, s.k_stride));
    }
  }
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t k = g * kGroup;
    for (int64_t l = g < done ? lanes : 0; l < s.lanes; ++l)
      to[g * W + l] = Source::one(from + l * s.lane_stride + k * s.k_stride, s.k_stride, s.k - k);
    for (int64_t l = s.lanes; l < W; ++l) to[g * W + l] = To{};
  }
}

/// Panels of W lanes, `panel_bytes` apart. In blocks of k, so that the cache lines of a source that
/// is contiguous along its lanes serve all panels.
template <class Source, int W>
void pack(const GemmSource& s, void* target, int64_t panel_bytes) {
  const int64_t block = (s.k_stride == 1 ? 512 : 32) * Source::kGroup;
  const auto* const from = static_cast<const typename Source::From*>(s.p);
  for (int64_t k = 0; k < s.k; k += block)
    for (int64_t l = 0; l < s.lanes; l += W) {
      char* const panel = static_cast<char*>(target) + l / W * panel_bytes;
      pack_panel<Source, W>(
          {from + l * s.lane_stride + k * s.k_stride, s.lanes - l < W ? s.lanes - l : W,
           s.k - k < block ? s.k - k : block, s.lane_stride, s.k_stride},
          reinterpret_cast<typename Source::To*>(panel) + k / Source::kGroup * W);
    }
}

}  // namespace tenun::simd::TENUN_ISA
