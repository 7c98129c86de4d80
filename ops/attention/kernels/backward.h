// The backward skeleton, for the per-level sources (rules: ops/simd/isa.h): one pass by key
// columns, five products a tile. Keys lie in the lanes: K^T and V^T are packed once a column, dK^T
// and dV^T stay in the cache; every tile of queries that sees the column forms P = 2^(S - lse) and
// dS = P (dP - delta) again and adds its part to the rows of dQ in memory:
//   S = Q K^T    dP = dO V^T    dV^T += dO^T P    dK^T += Q^T dS    dQ += dS K
// Against two passes (rows, then columns: seven products) this takes 0.7 of the time. The policy is
// that of the forward skeleton: one kind for all products; kGroup 2: bf16 pairs.
#pragma once
#include "tenun/ops/attention/kernels/kernels.h"
#include "tenun/ops/simd/exp2.h"
#include "tenun/ops/simd/pack.h"
#include "tenun/ops/simd/product.h"

namespace tenun::simd::TENUN_ISA {

template <class P>
struct Backward {
  using Real = typename P::Real;
  using V = typename Vector<Real>::type;
  using Kind = typename P::Score;
  using Element = typename Kind::Element;
  static constexpr int kGroup = P::kGroup;
  static constexpr int NV = kVectors, kLane = kLanes<Real>, kColumn = NV * kLane;

  const BackwardColumn<Real>& p;
  int64_t steps, wide;  // elements along the channels; lanes of dQ
  Element *kt, *vt, *kr;
  Real *dkt, *dvt;
  Real* prob;              // P of a strip while dP is formed; f32 and f64: of the tile
  Element *probs, *grads;  // P and dS [query group][key], as B
  Element* rows;           // dS [query][key group], as A
  Real* factors;           // of dropout

  explicit Backward(const BackwardColumn<Real>& column) : p(column) {
    steps = p.channels / kGroup;
    wide = pad<Real>(p.channels);
    Real* at = p.scratch;
    const auto take = [&](int64_t n) {
      Real* const here = at;
      at += n;
      return here;
    };
    kt = reinterpret_cast<Element*>(take(p.channels * kPanel));
    vt = reinterpret_cast<Element*>(take(p.channels * kPanel));
    kr = reinterpret_cast<Element*>(take(wide * kPanel));
    dkt = take(p.channels * kPanel), dvt = take(p.channels * kPanel);
    prob = take(kPanel * kPanel), factors = take(kPanel * kPanel);
    grads = reinterpret_cast<Element*>(take(kPanel * kPanel));
    if constexpr (kGroup == 1) {
      probs = prob, rows = grads;
    } else {
      probs = reinterpret_cast<Element*>(take(kPanel * kPanel));
      rows = reinterpret_cast<Element*>(take(kPanel * kPanel));
    }
    pack();
  }

  void pack() {
    for (int64_t i = 0; i < p.channels * kPanel; i += kLane) {
      store(dkt + i, V{});
      store(dvt + i, V{});
    }
    if constexpr (kGroup == 1) {
      pack_transposed(p.k, p.k_stride, kt, p.scale);
      pack_transposed(p.v, p.v_stride, vt, Real(1));
      for (int64_t j = 0; j < p.keys; ++j)
        for (int64_t c = 0; c < wide; ++c)
          kr[j * wide + c] =
              c < p.channels ? static_cast<const Real*>(p.k)[j * p.k_stride + c] : Real(0);
    } else {
      pack_transposed(p.k, p.k_stride, reinterpret_cast<float*>(kt), 1.0f);
      pack_transposed(p.v, p.v_stride, reinterpret_cast<float*>(vt), 1.0f);
      const auto* const k = static_cast<const uint16_t*>(p.k);
      for (int64_t j = 0; j < p.keys; j += 2)
        for (int64_t c = 0; c < wide; ++c) {
          const uint32_t a = c < p.channels ? k[2 * j * p.k_stride + c] : 0,
                         b = c < p.channels && j + 1 < p.keys ? k[2 * (j + 1) * p.k_stride + c] : 0;
          kr[j / 2 * wide + c].bits = a | b << 16;
        }
    }
  }
  // [channel][64 keys] of T (or of pairs of channels); lanes without a key are zero.
  template <class T>
  void pack_transposed(const void* x, int64_t stride, T* y, T by) {
    if (p.keys < kPanel)
      for (int64_t i = 0; i < steps * kPanel; i += kLanes<T>) store(y + i, broadcast(T(0)));
    transpose(static_cast<const T*>(x), stride, p.keys, steps, y, kPanel);
    if (by != 1)
      for (int64_t i = 0; i < steps * kPanel; i += kLanes<T>)
        store(y + i, load(y + i) * broadcast(by));
  }

  TENUN_VECTOR const Element* q_row(int64_t i) const {
    return static_cast<const Element*>(p.q) + i * p.q_stride;
  }
  TENUN_VECTOR const Element* dy_row(int64_t i) const {
    return static_cast<const Element*>(p.dy) + i * p.dy_stride;
  }
  TENUN_VECTOR static void prefetch(const Element* row, int64_t stride, int64_t count,
                                    int64_t width) {
    for (int64_t r = 0; r < count; ++r)
      for (int64_t b = 0; b < width * static_cast<int64_t>(sizeof(Element)); b += 64)
        _mm_prefetch(reinterpret_cast<const char*>(row + r * stride) + b, _MM_HINT_T1);
  }

  // M queries from row i of the tile against one lane column.
  template <int M>
  TENUN_VECTOR void strip(const Tile& t, int64_t i, int64_t lane) {
    typename Kind::Sum acc[M][NV];
    const int64_t row = t.begin + i;
    clear<Kind>(acc);
    product<Kind>(acc, q_row(row), p.q_stride, 1, kt + lane, kPanel, steps);
    const V by = broadcast(p.scale);
    V bias[NV], x[M][NV];
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v)
      bias[v] = p.bias == nullptr ? V{} : load(p.bias + t.block * kPanel + lane + v * kLane);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const V lse = broadcast(p.lse[row + m]);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const V shift = lse - bias[v];
        if constexpr (kGroup == 1)
          x[m][v] = exp2<P::kDegree>(acc[m][v] - shift);
        else
          x[m][v] = exp2<P::kDegree>(fms(acc[m][v], by, shift));
        store(prob + (i + m) * kPanel + lane + v * kLane, x[m][v]);
      }
    }
    clear<Kind>(acc);
    if (p.dy != nullptr) product<Kind>(acc, dy_row(row), p.dy_stride, 1, vt + lane, kPanel, steps);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const V delta = broadcast(p.delta[row + m]);
      Real* const at = prob + (i + m) * kPanel + lane;
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const V y = load(at + v * kLane);
        if (p.keep == nullptr) {
          x[m][v] = y * (acc[m][v] - delta);
        } else {
          const V keep = load(factors + (i + m) * kPanel + lane + v * kLane);
          x[m][v] = y * (acc[m][v] * keep - delta);
          store(at + v * kLane, y * keep);
        }
      }
    }
    store_strip<M>(t, i, lane, x);
  }
  template <int M>
  TENUN_VECTOR void store_strip(const Tile& t, int64_t i, int64_t lane, const V (&x)[M][NV]) {
    if (p.dweight != nullptr)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        Real* const at = p.dweight + t.block * kPanel + lane + v * kLane;
        V sum = load(at);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) sum = sum + x[m][v];
        store(at, sum);
      }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) {
        const int64_t at = lane + v * kLane;
        if constexpr (kGroup == 1) {
          store(grads + (i + m) * kPanel + at, x[m][v]);
        } else if (m % 2 == 0) {
          const float* const y = prob + (i + m) * kPanel + at;
          const int next = m + 1 < M ? m + 1 : m;
          const V second = m + 1 < M ? x[next][v] : V{};
          store_bits(grads + (i + m) / 2 * kPanel + at, pair(x[m][v], second));
          store_bits(probs + (i + m) / 2 * kPanel + at,
                     pair(load(y), m + 1 < M ? load(y + kPanel) : V{}));
        }
      }
    if constexpr (kGroup == 2)
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < NV; v += 2)
          store_bits(rows + ((i + m) * kPanel + lane + v * kLane) / 2, join(x[m][v], x[m][v + 1]));
  }

  void scores(const Tile& t, const Tile& next) {
    constexpr int kM = kRows<NV>;
    for (int64_t lane = 0; lane < p.keys; lane += kColumn) {
      int64_t i = 0;
      for (; i + kM <= t.count; i += kM) {
        if (lane == 0) {
          prefetch(q_row(next.begin + i), p.q_stride, kM, steps);
          if (p.dy != nullptr) prefetch(dy_row(next.begin + i), p.dy_stride, kM, steps);
        }
        strip<kM>(t, i, lane);
      }
      for (; i + 2 <= t.count; i += 2) strip<2>(t, i, lane);
      if (i < t.count) strip<1>(t, i, lane);
    }
  }

  void step(const Tile& t, const Tile& next) {
    if (p.keep != nullptr) p.keep->fill(p.keep->context, factors, t.begin, t.count);
    scores(t, next);
    const int64_t queries = (t.count + kGroup - 1) / kGroup;
    const int64_t keys = (p.keys + kGroup - 1) / kGroup;
    const int64_t lanes = (p.keys + kColumn - 1) / kColumn * kColumn;
    if (p.dy != nullptr && p.dv != nullptr)
      multiply<Kind>(p.channels, lanes, queries, by_channel(p.dy, p.dy_stride, p.dy_pairs, t),
                     probs, kPanel, dvt, kPanel, Into::add);
    if (p.dk != nullptr)
      multiply<Kind>(p.channels, lanes, queries, by_channel(p.q, p.q_stride, p.q_pairs, t), grads,
                     kPanel, dkt, kPanel, Into::add);
    if (p.dq == nullptr) return;
    if constexpr (kGroup == 2)  // the lane beside the last key meets K = 0, but may be infinite
      if (p.keys % 2 != 0)
        for (int64_t i = 0; i < t.count; ++i) rows[i * kPanel / 2 + p.keys / 2].bits &= 0xffffu;
    multiply<Kind>(t.count, wide, keys, Strided<Element>{rows, kPanel / kGroup, 1}, kr, wide,
                   p.dq + t.begin * wide, wide, Into::add);
  }
  // X^T of the tile's rows, as A.
  Strided<Element> by_channel(const void* x, int64_t stride, const Group* pairs,
                              const Tile& t) const {
    if constexpr (kGroup == 1)
      return {static_cast<const Element*>(x) + t.begin * stride, 1, stride};
    else
      return {pairs + t.begin / 2 * p.channels, 1, p.channels};
  }

  void run() {
    for (int64_t t = 0; t < p.tile_count; ++t)
      step(p.tiles[t], p.tiles[t + 1 < p.tile_count ? t + 1 : t]);
    if (p.dv != nullptr) transpose(dvt, kPanel, p.channels, p.keys, p.dv, p.channels);
    if (p.dk == nullptr) return;
    const V by = broadcast(p.unscaled);
    for (int64_t i = 0; i < p.channels * kPanel; i += kLane) store(dkt + i, load(dkt + i) * by);
    transpose(dkt, kPanel, p.channels, p.keys, p.dk, p.channels);
  }
};

template <class P>
void backward_column(const BackwardColumn<typename P::Real>& column) {
  Backward<P>(column).run();
}

}  // namespace tenun::simd::TENUN_ISA
