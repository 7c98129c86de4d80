// Packing for the matrix product, for the per-level sources (rules: ops/simd/isa.h). A source says
// how its elements become groups: four groups along k from one lane (`along`), or one group of four
// lanes (`across`); two of each for f64. Where four bytes of the source are a group, a whole vector
// of groups (`vector`). What comes next is prefetched: rows are too short for the processor to
// notice.
#pragma once
#include "tenun/ops/simd/gemm_kernels.h"
#include "tenun/ops/simd/pack.h"
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
  TENUN_VECTOR static F32 vector(const float* p) { return load(p); }
  TENUN_VECTOR static __m128i along(const E* p) { return load16(p); }
  TENUN_VECTOR static __m128i across(const E* p, int64_t) { return load16(p); }
  TENUN_VECTOR static E one(const E* p, int64_t, int64_t) { return *p; }
};

struct Pairs {  // bf16
  using From = uint16_t;
  using To = uint32_t;
  static constexpr int kGroup = 2;
  TENUN_VECTOR static F32 vector(const From* p) { return as_float(load_bits(p)); }
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
  TENUN_VECTOR static F32 vector(const From* p) {
    const auto all = static_cast<int32_t>(Flip * 0x01010101u);
    return as_float(differing(load_bits(p), broadcast(all)));
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

TENUN_VECTOR void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

/// Lanes [0, lanes) x groups [first, last), multiples of a square, from a source that is contiguous
/// along k.
template <class Source, int W>
TENUN_VECTOR void pack_along(const GemmSource& s, typename Source::To* to, int64_t lane,
                             int64_t lanes, int64_t first, int64_t last) {
  using To = typename Source::To;
  constexpr int kStep = 16 / static_cast<int>(sizeof(To));
  for (int64_t l = lane; l < lanes; l += kStep) {
    const auto* const row = static_cast<const typename Source::From*>(s.p) + l * s.lane_stride;
    for (int64_t g = first; g < last; g += kStep) {
      const auto* const from = row + g * Source::kGroup;
      __m128i x[kStep];
#pragma GCC unroll 4
      for (int i = 0; i < kStep; ++i) {
        x[i] = Source::along(from + i * s.lane_stride);
        prefetch(from + (i + W) * s.lane_stride);
      }
      square(x);
#pragma GCC unroll 4
      for (int i = 0; i < kStep; ++i)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + (g + i) * W + l), x[i]);
    }
  }
}

/// Half a square: two lanes of four groups of four bytes.
template <class Source, int W>
TENUN_VECTOR void pack_two(const GemmSource& s, typename Source::To* to, int64_t lane,
                           int64_t groups) {
  const auto put = [&](int64_t g, __m128i x) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to + g * W + lane), x);
  };
  const auto* const row = static_cast<const typename Source::From*>(s.p) + lane * s.lane_stride;
  for (int64_t g = 0; g < groups; g += 4) {
    const auto *const a = row + g * Source::kGroup, *const b = a + s.lane_stride;
    const __m128i x = Source::along(a), y = Source::along(b);
    prefetch(a + W * s.lane_stride), prefetch(b + W * s.lane_stride);
    const __m128i low = _mm_unpacklo_epi32(x, y), high = _mm_unpackhi_epi32(x, y);
    put(g, low), put(g + 1, _mm_unpackhi_epi64(low, low));
    put(g + 2, high), put(g + 3, _mm_unpackhi_epi64(high, high));
  }
}

/// Squares of whole vectors.
template <class Source, int W>
TENUN_VECTOR void pack_vectors(const GemmSource& s, typename Source::To* to, int64_t lanes,
                               int64_t groups) {
  constexpr int kN = kLanes<float>;
  for (int64_t l = 0; l < lanes; l += kN) {
    const auto* const row = static_cast<const typename Source::From*>(s.p) + l * s.lane_stride;
    for (int64_t g = 0; g < groups; g += kN) {
      F32 x[kN];
#pragma GCC unroll 16
      for (int i = 0; i < kN; ++i) {
        x[i] = Source::vector(row + i * s.lane_stride + g * Source::kGroup);
        prefetch(row + (i + kN) * s.lane_stride + g * Source::kGroup);
      }
      detail::butterfly<kN / 2>(x);
#pragma GCC unroll 16
      for (int i = 0; i < kN; ++i) store(reinterpret_cast<float*>(to) + (g + i) * W + l, x[i]);
    }
  }
}

/// From a source that is contiguous along its lanes: W of them, or the multiple of a square below.
template <class Source, int W>
TENUN_VECTOR void pack_across(const GemmSource& s, typename Source::To* to, int64_t lanes,
                              int64_t groups) {
  constexpr int kStep = 16 / static_cast<int>(sizeof(typename Source::To));
  constexpr int64_t kAll = W / kStep * kStep;
  const auto put = [&](int64_t l, int64_t g) {
    const auto* const from =
        static_cast<const typename Source::From*>(s.p) + g * Source::kGroup * s.k_stride + l;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + g * W + l), Source::across(from, s.k_stride));
  };
  for (int64_t g = 0; g < groups; ++g)
    if (lanes == kAll)  // the usual case, with a known length
#pragma GCC unroll 16
      for (int64_t l = 0; l < kAll; l += kStep) put(l, g);
    else
      for (int64_t l = 0; l < lanes; l += kStep) put(l, g);
}

/// One panel, W wide; s.lanes <= W.
template <class Source, int W>
TENUN_VECTOR void pack_panel(const GemmSource& s, typename Source::To* to) {
  using From = typename Source::From;
  using To = typename Source::To;
  constexpr int kGroup = Source::kGroup, kStep = 16 / static_cast<int>(sizeof(To));
  const From* const from = static_cast<const From*>(s.p);
  const int64_t groups = (s.k + kGroup - 1) / kGroup, whole = s.k / kGroup;
  // Whole squares first: `lanes` lanes of `done` groups.
  int64_t lanes = 0, done = 0;
  if (s.k_stride == 1) {
    lanes = s.lanes / kStep * kStep, done = whole / kStep * kStep;
    int64_t wide = 0, deep = 0;
    if constexpr (W % kLanes<float> == 0 && requires { Source::vector(from); } && kStep == 4) {
      wide = lanes / kLanes<float> * kLanes<float>, deep = done / kLanes<float> * kLanes<float>;
      pack_vectors<Source, W>(s, to, wide, deep);
    }
    pack_along<Source, W>(s, to, 0, wide, deep, done);
    pack_along<Source, W>(s, to, wide, lanes, 0, done);
    if constexpr (kStep == 4) {
      if (s.lanes - lanes >= 2) {
        pack_two<Source, W>(s, to, lanes, done);
        lanes += 2;
      }
    }
  } else if (s.lane_stride == 1) {
    lanes = s.lanes / kStep * kStep, done = whole;
    pack_across<Source, W>(s, to, lanes, done);
  }
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t k = g * kGroup;
    for (int64_t l = g < done ? lanes : 0; l < s.lanes; ++l)
      to[g * W + l] = Source::one(from + l * s.lane_stride + k * s.k_stride, s.k_stride, s.k - k);
    for (int64_t l = s.lanes; l < W; ++l) to[g * W + l] = To{};
  }
}

/// Panels of W lanes, `panel_bytes` apart. A source that is contiguous along its lanes is read in
/// blocks of k, so that its cache lines serve all panels; small ones, since rows of a round size
/// share few places in the cache.
template <class Source, int W>
void pack(const GemmSource& s, void* target, int64_t panel_bytes) {
  using From = typename Source::From;
  const bool across = s.k_stride != 1;
  const int64_t block = across ? 16 * Source::kGroup : s.k;
  const auto* const from = static_cast<const From*>(s.p);
  for (int64_t k = 0; k < s.k; k += block) {
    if (across && s.lane_stride == 1)
      for (int64_t i = k + block; i < k + 2 * block && i < s.k; ++i)
        for (int64_t l = 0; l < s.lanes; l += 64 / static_cast<int64_t>(sizeof(From)))
          prefetch(from + i * s.k_stride + l);
    for (int64_t l = 0; l < s.lanes; l += W) {
      char* const panel = static_cast<char*>(target) + l / W * panel_bytes;
      pack_panel<Source, W>(
          {from + l * s.lane_stride + k * s.k_stride, s.lanes - l < W ? s.lanes - l : W,
           s.k - k < block ? s.k - k : block, s.lane_stride, s.k_stride},
          reinterpret_cast<typename Source::To*>(panel) + k / Source::kGroup * W);
    }
  }
}

}  // namespace tenun::simd::TENUN_ISA
