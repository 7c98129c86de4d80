// The forward skeleton, for the per-level sources (rules: ops/simd/isa.h): one template for all
// element kinds (kernels/policy.h).
// Fused: scores are exponentiated in registers relative to the *old* maximum, and stored as P. That
// is exact unless a lane's maximum grows by more than 8 (P <= 256 after all); then the tile is done
// again in three phases: scores, maximum, exponential. So is the first tile, and every tile after
// one whose maximum grew that much, because widely spread scores would
// repeat tile after tile. Rounded P always takes three phases, because
// its definition includes the current tile's maximum.
#pragma once
#include "tenun/ops/attention/kernels/ahead.h"
#include "tenun/ops/attention/kernels/queries.h"
#include "tenun/ops/simd/exp2.h"
#include "tenun/ops/simd/pack.h"
#include "tenun/ops/simd/product.h"

namespace tenun::simd::TENUN_ISA {

inline constexpr double kLog127 = 6.988684686772166, kLog448 = 8.807354922057604;  // log2

template <class P>
struct Forward : Queries<P> {
  using Base = Queries<P>;
  using Base::kLane, Base::p, Base::phi, Base::qt, Base::share, Base::steps;
  using typename Base::Features, typename Base::Real, typename Base::V;
  using Score = typename P::Score;
  using Value = typename P::Value;
  using ScoreElement = typename Score::Element;
  using ValueElement = typename Value::Element;
  static constexpr int NV = kVectors, kColumn = NV * kLane;
  static constexpr int kM = P::kGroup == 4 ? 4 : kRows<NV>;  // whole groups of P in a strip
  static constexpr Real kCalm = 8;

  Real *ot, *s;
  ValueElement* packed;  // P as the value product wants it (s itself where that is Real)
  ScoreElement* tail;    // the last rows of K, padded to a strip
  Real* factors;         // of dropout
  bool calm[kPanel / kColumn];
  Ahead ahead[5];
  int aheads = 0;

  // One lane column during one tile.
  struct Column {
    int64_t lane;
    V scale[NV], ref[NV], most[NV], sum[NV];
  };

  explicit Forward(const ForwardPanel<Real>& panel) : Base(panel) {
    Real* at = p.scratch + p.depth * kPanel;  // behind qt
    ot = at, at += p.depth * kPanel;
    tail = reinterpret_cast<ScoreElement*>(at), at += 8 * p.depth;
    int64_t rows = 0;
    for (int64_t t = 0; t < p.tile_count; ++t)
      rows = p.tiles[t].count > rows ? p.tiles[t].count : rows;
    s = at, at += (rows + 8) * kPanel;
    packed = reinterpret_cast<ValueElement*>(P::kGroup == 1 ? s : at);
    factors = at;
    for (int64_t i = 0; i < p.depth * kPanel; i += kLane) store(ot + i, V{});
    for (int64_t i = 0; i < kPanel; i += kLane) {
      store(p.m + i, broadcast(-static_cast<Real>(__builtin_inf())));
      store(p.l + i, V{});
    }
    for (bool& c : calm) c = false;
  }

  // Scores of M keys from row j of the tile. Exp: P relative to c.ref; else the scores themselves.
  // Keys from `valid` on do not exist.
  template <int M, bool Exp, bool Tail>
  TENUN_VECTOR void strip(Column& c, const ScoreElement* k, int64_t stride, const int32_t* start,
                          int64_t j, int64_t valid) {
    typename Score::Sum acc[M][NV];
    V x[M][NV];
    if constexpr (P::kScoreGroup == 4) {
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) acc[m][v] = broadcast(!Tail || m < valid ? start[m] : 0);
    } else {
      clear<Score>(acc);
    }
    product<Score>(acc, k, stride, 1, reinterpret_cast<const ScoreElement*>(qt) + c.lane, kPanel,
                   steps);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        if constexpr (P::kScoreGroup == 4)
          x[m][v] = to_float(acc[m][v]);
        else
          x[m][v] = acc[m][v];
        if constexpr (Tail)
          if (m >= valid) x[m][v] = broadcast(-static_cast<Real>(__builtin_inf()));
      }
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      V most = c.most[v], sum = c.sum[v];
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        if (!Tail || m < valid) most = max(most, x[m][v]);
        if constexpr (Exp) {
          x[m][v] = probability(c, v, x[m][v]);
          sum = sum + x[m][v];
        }
        if constexpr (!Exp || P::kGroup == 1)
          store(s + (j + m) * kPanel + c.lane + v * kLane, x[m][v]);
      }
      c.most[v] = most, c.sum[v] = sum;
      if constexpr (Exp && P::kGroup == 2)
#pragma GCC unroll 16
        for (int m = 0; m < M; m += 2)
          store_bits(packed + (j + m) / 2 * kPanel + c.lane + v * kLane,
                     pair(x[m][v], x[m + 1][v]));
    }
  }
  TENUN_VECTOR V probability(const Column& c, int v, V x) const {
    if constexpr (P::kScaled)
      return exp2<P::kDegree>(fms(x, c.scale[v], c.ref[v]));
    else
      return exp2<P::kDegree>(x - c.ref[v]);
  }

  const ScoreElement* keys(const Tile& t) const {
    return static_cast<const ScoreElement*>(p.k) + t.begin * p.k_stride;
  }
  const ValueElement* values(const Tile& t) const {
    return static_cast<const ValueElement*>(p.v) + t.begin / P::kGroup * p.v_stride;
  }

  // The tile that comes next; behind the last one the first of the next panel, its queries, and the
  // room of the output.
  void look_ahead(int64_t t) {
    const bool last = t + 1 == p.tile_count;
    const Tile& next = last ? p.following : p.tiles[t + 1];
    ahead[0] = Ahead::of(keys(next), p.k_stride, steps, kM);
    ahead[1] = Ahead::of(values(next), p.v_stride, p.depth, (kM + P::kGroup - 1) / P::kGroup);
    aheads = 2;
    if (p.mix != nullptr && t < p.mix->soon_count) {
      const int64_t size = state_size<Real>(p.channels);
      ahead[aheads++] = Ahead::of_block(p.mix->states + p.mix->soon[t] * size,
                                        size * static_cast<int64_t>(sizeof(Real)), kPanel / kM);
    }
    if (!last || p.o == nullptr) return;
    constexpr int64_t kPer = P::kScoreGroup == 2 ? 2 : 1;
    ahead[aheads++] =
        Ahead::of(static_cast<const Real*>(p.q_next), p.q_stride, p.channels / kPer, kM);
    ahead[aheads++] = Ahead::of(static_cast<const Real*>(p.o), p.o_stride, p.channels / kPer, kM);
  }

  template <bool Exp>
  void scores(Column& c, const Tile& t) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      c.most[v] = broadcast(-static_cast<Real>(__builtin_inf()));
      c.sum[v] = V{};
    }
    const ScoreElement* const k = keys(t);
    const auto start = [&](int64_t row) {
      return P::kScoreGroup == 4 ? p.k_start + t.begin + row : nullptr;
    };
    int64_t j = 0;
    for (; j + kM <= t.count; j += kM) {
      if (c.lane == 0)
        for (int i = 0; i < aheads; ++i) ahead[i].fetch(j / kM);
      strip<kM, Exp, false>(c, k + j * p.k_stride, p.k_stride, start(j), j, kM);
    }
    if constexpr (kM != 4)
      if (j + 4 <= t.count) {
        strip<4, Exp, false>(c, k + j * p.k_stride, p.k_stride, start(j), j, 4);
        j += 4;
      }
    if constexpr (!Exp)
      if (j < t.count) last_keys(c, k + j * p.k_stride, start(j), j, t.count - j);
  }
  // Fewer keys than a strip has: from a copy, so that no row beyond the end is read.
  void last_keys(Column& c, const ScoreElement* k, const int32_t* start, int64_t j, int64_t valid) {
    for (int64_t r = 0; r < 4; ++r)
      for (int64_t i = 0; i < steps; ++i)
        tail[r * steps + i] = r < valid ? k[r * p.k_stride + i] : ScoreElement{};
    strip<4, false, true>(c, tail, steps, start, j, valid);
  }
  // Whether the tile is whole strips, as the fused form wants it.
  static bool whole(int64_t count) {
    const int64_t rest = count % kM;
    return rest == 0 || rest == 4;
  }

  // Scores to P in place, or packed, relative to c.ref.
  void exponentials(Column& c, int64_t count) {
    const int64_t rows = (count + P::kGroup - 1) / P::kGroup * P::kGroup;
    for (int64_t j = 0; j < rows; j += P::kGroup)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        V x[P::kGroup];
        Real* const at = s + j * kPanel + c.lane + v * kLane;
#pragma GCC unroll 4
        for (int g = 0; g < P::kGroup; ++g) {
          // Keys that fill up a group have no score: a scale of 0 would make NaN of their -inf.
          x[g] = j + g < count ? probability(c, v, load(at + g * kPanel)) : V{};
          c.sum[v] = c.sum[v] + x[g];
          if constexpr (P::kRound == Round::fp8) x[g] = e4m3(x[g]);
        }
        auto* const to = packed + j / P::kGroup * kPanel + c.lane + v * kLane;
        if constexpr (P::kGroup == 1)
          store(to, P::kRound == Round::int8 ? round(x[0]) : x[0]);
        else if constexpr (P::kGroup == 2)
          store_bits(to, pair(x[0], x[1]));
        else
          store_bits(to, quad<Sign::none>(x[0], x[1], x[2], x[3]));
      }
  }

  // O^T += V^T P^T for M channels; 8-bit: O^T = O^T r + V^T P^T.
  template <int M>
  TENUN_VECTOR void value_strip(int64_t lane, const ValueElement* v, int64_t d, int64_t groups,
                                const V (&r)[NV]) {
    typename Value::Sum acc[M][NV];
    Real* const out = ot + d * kPanel + lane;
    if constexpr (P::kGroup == 4)
      clear<Value>(acc);
    else
      load_sums<Value>(acc, out, kPanel);
    product<Value>(acc, v + d, 1, p.v_stride, packed + lane, kPanel, groups);
    if constexpr (P::kGroup == 4) {
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
        for (int i = 0; i < NV; ++i) {
          Real* const at = out + m * kPanel + i * kLane;
          store(at, fma(load(at), r[i], to_float(acc[m][i])));
        }
    } else {
      store_sums<Value>(acc, out, kPanel);
    }
  }
  void add_values(const Column& c, const Tile& t, const V (&r)[NV]) {
    constexpr int kStrip = kRows<NV>;
    const ValueElement* const v = values(t);
    const int64_t groups = (t.count + P::kGroup - 1) / P::kGroup;
    int64_t d = 0;
    for (; d + kStrip <= p.depth; d += kStrip) value_strip<kStrip>(c.lane, v, d, groups, r);
    if constexpr (kStrip == 6) {
      for (; d + 4 <= p.depth; d += 4) value_strip<4>(c.lane, v, d, groups, r);
      for (; d < p.depth; d += 2) value_strip<2>(c.lane, v, d, groups, r);
    }
  }

  void step(int64_t lane, const Tile& t, bool first) {
    Column c;
    c.lane = lane;
    V m[NV], r[NV];
    const Real unit = p.k_unit == nullptr ? p.scale : p.scale * p.q_unit * p.k_unit[t.block];
    const V shift = broadcast(P::kRound == Round::int8  ? Real(kLog127)
                              : P::kRound == Round::fp8 ? Real(kLog448)
                                                        : Real(0));
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      c.scale[v] = broadcast(unit);
      m[v] = load(p.m + lane + v * kLane);
      r[v] = broadcast(Real(1));
      c.ref[v] = m[v] - bias(lane, v, t.block) - shift;
    }
    bool& quiet = calm[lane / kColumn];
    bool again = true;
    constexpr bool kFusable = P::kRound == Round::none;
    if constexpr (kFusable)
      if (quiet && p.keep == nullptr && whole(t.count)) {
        scores<true>(c, t);
        again = false;
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) again |= any_above(scaled(c, v), c.ref[v] + broadcast(kCalm));
      }
    if (again) {
      scores<false>(c, t);
      bool moved = false;
      quiet = true;
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const V add = bias(lane, v, t.block), now = max(m[v], scaled(c, v) + add);
        if (!first) quiet &= !any_above(now, m[v] + broadcast(kCalm));
        moved |= any_differs(now, m[v]);
        r[v] = exp2<5>(m[v] - now);
        store(p.m + lane + v * kLane, now);
        store(p.l + lane + v * kLane, load(p.l + lane + v * kLane) * r[v]);
        c.ref[v] = now - add - shift;
      }
      if (P::kGroup != 4 && moved && !first)
        for (int64_t d = 0; d < p.depth; ++d)
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) {
            Real* const at = ot + d * kPanel + lane + v * kLane;
            store(at, load(at) * r[v]);
          }
      exponentials(c, t.count);
    }
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      Real* const at = p.l + lane + v * kLane;
      store(at, load(at) + c.sum[v]);
    }
    if (p.o == nullptr) return;
    if constexpr (P::kGroup == 1)
      if (p.keep != nullptr) drop(lane, t);
    add_values(c, t, r);
  }
  void drop(int64_t lane, const Tile& t) {
    if (lane == 0) p.keep->fill(p.keep->context, factors, t.begin, t.count);
    for (int64_t j = 0; j < t.count; ++j)
      for (int64_t i = j * kPanel + lane; i < j * kPanel + lane + kColumn; i += kLane)
        store(s + i, load(s + i) * load(factors + i));
  }
  TENUN_VECTOR V scaled(const Column& c, int v) const {
    if constexpr (P::kScaled)
      return c.most[v] * c.scale[v];
    else
      return c.most[v];
  }
  TENUN_VECTOR V bias(int64_t lane, int v, int64_t block) const {
    return p.bias == nullptr ? V{} : load(p.bias + block * kPanel + lane + v * kLane);
  }
  void run() {
    for (int64_t t = 0; t < p.tile_count; ++t) {
      look_ahead(t);
      for (int64_t lane = 0; lane < p.queries; lane += kColumn) step(lane, p.tiles[t], t == 0);
    }
  }

  // O^T / l, in the units of V. A row without keys is 0; NaN stays.
  void divide() {
    V by[kPanel / kLane];
#pragma GCC unroll 16
    for (int i = 0; i < kPanel / kLane; ++i) by[i] = inverse(load(p.l + i * kLane));
    for (int64_t d = 0; d < p.depth; ++d) {
      const V unit = broadcast(p.v_unit == nullptr ? Real(1)
                               : d < p.channels    ? p.v_unit[d]
                                                   : Real(0));
#pragma GCC unroll 16
      for (int i = 0; i < kPanel / kLane; ++i) {
        Real* const at = ot + d * kPanel + i * kLane;
        store(at, load(at) * by[i] * unit);
      }
    }
  }
  void mix() {
    const PanelMix<Real>& x = *p.mix;
    if (x.exact != nullptr) store_output(x.exact);
#pragma GCC unroll 16
    for (V& y : share) y = y * broadcast(1 - x.gate);
    const int64_t wide = pad<Real>(p.channels);
    if constexpr (P::kLowMix)
      Features::mix(x.pairs, wide, (p.channels + 1) / 2, phi, share, x.gate, p.depth, ot);
    else
      Features::mix(x.state, wide, p.channels, phi, share, x.gate, p.depth, ot);
  }
  void store_output(void* o) {
    if constexpr (P::kScoreGroup == 2) {
      auto* const pairs = reinterpret_cast<Group*>(qt);
      for (int64_t d = 0; d < p.channels; d += 2)
        for (int64_t i = 0; i < kPanel; i += kLane)
          store_bits(pairs + d / 2 * kPanel + i,
                     pair(load(ot + d * kPanel + i), load(ot + (d + 1) * kPanel + i)));
      transpose(qt, kPanel, p.channels / 2, p.queries, static_cast<float*>(o), p.o_stride);
    } else {
      transpose(ot, kPanel, p.channels, p.queries, static_cast<Real*>(o), p.o_stride);
    }
  }
};

template <class P>
void forward_panel(const ForwardPanel<typename P::Real>& panel) {
  Forward<P> f(panel);
  f.run();
  if (panel.o == nullptr) return;
  f.divide();
  if (panel.mix != nullptr) f.mix();
  f.store_output(panel.o);
}

}  // namespace tenun::simd::TENUN_ISA
