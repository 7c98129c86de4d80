// Feature maps of the linear branch on panels of queries, for the per-level sources (rules:
// ops/simd/isa.h). Queries lie in the lanes ([channel][kPanel] arrays), so maxima, denominators and
// products run down the columns. Phi<T, Low>: Low writes phi in pairs of bf16 for products of
// bf16; its exponential's relative error of 7.5e-5 is far below their rounding.
#pragma once
#include "tenun/ops/attention/kernels/kernels.h"
#include "tenun/ops/simd/exp2.h"
#include "tenun/ops/simd/pack.h"
#include "tenun/ops/simd/product.h"

namespace tenun::simd::TENUN_ISA {

/// 1 / x, and 0 for 0.
template <class V>
TENUN_VECTOR V inverse(V x) {
  const V zero = {}, one = broadcast(decltype(sum(x))(1));
  return x == zero ? zero : one / x;
}

template <class T, bool Low>
struct PhiKind {
  using type = FloatKind<T>;
};
template <>
struct PhiKind<float, true> {
  using type = Bf16Kind;
};

template <class T, bool Low>
struct Phi {
  using V = typename Vector<T>::type;
  using Kind = typename PhiKind<T, Low>::type;
  using Element = typename Kind::Element;
  static constexpr int kL = kLanes<T>, NV = kVectors, kColumn = NV * kL;
  static constexpr int kVecs = static_cast<int>(kPanel) / kL, kDegree = Low ? 3 : 5;
  static constexpr T kLog2e = static_cast<T>(1.4426950408889634);
  static constexpr int64_t kGroup = Low ? 2 : 1;

  // NaN in a stays.
  TENUN_VECTOR static V min_of(V a, V b) { return V{} - max(V{} - b, V{} - a); }
  // The maps that work on each channel by itself.
  TENUN_VECTOR static V single(Feature feature, V x) {
    const V zero = {}, e = max(zero, x);  // in this order NaN stays
    if (feature == Feature::relu) return e;
    return e + exp2<kDegree>(min_of(x, zero) * broadcast(kLog2e));  // x + 1, or e^x: e^0 = 1
  }

  // w = phi(q) up to the scale that it shares with its denominator, and norm = 1 / (phi . z + eps).
  // x(channel, lane): q^T.
  template <class X>
  static void queries(Feature feature, const X& x, int64_t d, const T* z, T eps, Element* w,
                      V (&norm)[kVecs]) {
    for (int c = 0; c < kVecs; c += NV) {
      const int64_t lane = c * kL;
      V most[NV], den[NV], total[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        most[v] = den[v] = V{};
        total[v] = broadcast(feature == Feature::softmax ? T(0) : T(1));
      }
      if (feature == Feature::softmax) {
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) most[v] = x(0, lane + v * kL);
        for (int64_t f = 1; f < d; ++f)
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) most[v] = max(most[v], x(f, lane + v * kL));
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) most[v] = most[v] * broadcast(kLog2e);
      }
      for (int64_t f = 0; f < d; f += kGroup)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) {
          V e[kGroup] = {};
#pragma GCC unroll 2
          for (int g = 0; g < kGroup; ++g) {
            if (f + g >= d) break;
            const V y = x(f + g, lane + v * kL);
            if (feature == Feature::softmax) {
              e[g] = exp2<kDegree>(fms(y, broadcast(kLog2e), most[v]));
              total[v] = total[v] + e[g];
            } else {
              e[g] = single(feature, y);
            }
            den[v] = fma(broadcast(z[f + g]), e[g], den[v]);
          }
          Element* const to = w + f / kGroup * kPanel + lane + v * kL;
          if constexpr (Low)
            store_bits(to, pair(e[0], e[1]));
          else
            store(to, e[0]);
        }
        // The scale of phi cancels but for eps, which is in units of the normalised features.
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) norm[c + v] = inverse(fma(broadcast(eps), total[v], den[v]));
    }
  }

  // o^T = keep o^T + share H^T w of M channels from d on; h: H, row-major, `wide` elements a row.
  template <int M>
  TENUN_VECTOR static void strip(const Element* h, int64_t wide, int64_t steps, const Element* w,
                                 const V* share, T keep, T* o) {
    typename Kind::Sum acc[M][NV];
    clear<Kind>(acc);
    product<Kind>(acc, h, 1, wide, w, kPanel, steps);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        T* const at = o + m * kPanel + v * kL;
        const V y = acc[m][v] * share[v];
        store(at, keep == 0 ? y : fma(broadcast(keep), load(at), y));
      }
  }
  // All rows of o^T, a multiple of 8 that is not above `wide`. keep = 0: o^T is only written.
  static void mix(const Element* h, int64_t wide, int64_t steps, const Element* w,
                  const V (&share)[kVecs], T keep, int64_t rows, T* o) {
    constexpr int kStrip = kRows<NV>;
    for (int c = 0; c < kVecs; c += NV) {
      const int64_t lane = c * kL;
      int64_t d = 0;
      for (; d + kStrip <= rows; d += kStrip)
        strip<kStrip>(h + d, wide, steps, w + lane, share + c, keep, o + d * kPanel + lane);
      if constexpr (kStrip == 6)
        for (; d < rows; d += 2)
          strip<2>(h + d, wide, steps, w + lane, share + c, keep, o + d * kPanel + lane);
    }
  }
};

}  // namespace tenun::simd::TENUN_ISA
