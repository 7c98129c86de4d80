// The queries of a forward panel, for the per-level sources (rules: ops/simd/isa.h): Q^T as the
// score product wants it, and phi(Q) where the linear branch is mixed in, from one transpose.
#pragma once
#include "tenun/ops/attention/kernels/features.h"
#include "tenun/ops/attention/kernels/policy.h"
#include "tenun/ops/simd/pack.h"

namespace tenun::simd::TENUN_ISA {

template <class P>
struct Queries {
  using Real = typename P::Real;
  using V = typename Vector<Real>::type;
  using Features = Phi<Real, P::kLowMix>;
  static constexpr int kLane = kLanes<Real>;

  const ForwardPanel<Real>& p;
  int64_t steps;                    // elements along the channels of a score
  Real* qt;                         // the first depth * kPanel elements of the scratch memory
  V share[Features::kVecs];         // 1 / denominator of the linear branch
  typename Features::Element* phi;  // up to that

  explicit Queries(const ForwardPanel<Real>& panel)
      : p(panel), steps(panel.depth / P::kScoreGroup), qt(panel.scratch) {
    pack_queries();
  }

  // Lanes beyond the queries repeat what happens to be cheap: zeros.
  void pack_queries() {
    constexpr bool kPairs = P::kScoreGroup == 2;  // bf16: pairs are moved as they are
    const int64_t rows = kPairs ? steps : p.depth, columns = kPairs ? p.channels / 2 : p.channels;
    if (p.queries < kPanel || columns < rows)
      for (int64_t i = 0; i < rows * kPanel; i += kLane) store(qt + i, V{});
    transpose(static_cast<const Real*>(p.q), p.q_stride, p.queries, columns, qt, kPanel);
    if (p.mix != nullptr) map_queries();
    if constexpr (P::kScoreGroup == 4) {
      quantize_queries();
    } else if constexpr (P::kScoreGroup == 1) {
      const V by = broadcast(P::kScaled ? (p.q_unit > 0 ? 1 / p.q_unit : Real(0)) : p.scale);
      for (int64_t i = 0; i < p.depth * kPanel; i += kLane) {
        const V x = load(qt + i) * by;  // integers where scores are scaled
        store(qt + i, P::kScaled ? round(x) : x);
      }
    }
  }
  void map_queries() {
    phi = reinterpret_cast<typename Features::Element*>(p.mix->scratch);
    const auto x = [this](int64_t channel, int64_t lane) {
      if constexpr (P::kScoreGroup == 2) {
        const Bits two = load_bits(qt + channel / 2 * kPanel + lane);
        return channel % 2 == 0 ? first_bf16(two) : second_bf16(two);
      } else {
        return load(qt + channel * kPanel + lane);
      }
    };
    Features::queries(p.mix->feature, x, p.channels,
                      p.mix->state + p.channels * pad<Real>(p.channels), p.mix->eps, phi, share);
  }
  // Bytes q + 128 of four channels, over the floats that they come from (rows d / 4 <= d).
  void quantize_queries() {
    const F32 by = broadcast(p.q_unit > 0 ? 1 / p.q_unit : 0.0f), middle = broadcast(128.0f);
    for (int64_t d = 0; d < p.depth; d += 4)
      for (int64_t i = 0; i < kPanel; i += kLane) {
        const float* const x = qt + d * kPanel + i;
        const Bits y = quad<Sign::none>(fma(load(x), by, middle), fma(load(x + kPanel), by, middle),
                                        fma(load(x + 2 * kPanel), by, middle),
                                        fma(load(x + 3 * kPanel), by, middle));
        store_bits(qt + d / 4 * kPanel + i, y);
      }
  }
};

}  // namespace tenun::simd::TENUN_ISA
