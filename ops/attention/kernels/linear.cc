// Compiled once a level: the kernels of the linear branch. Queries lie in the lanes, as in the
// flash kernels, so phi(q), its denominator and all sums over channels are vertical; keys stay in
// rows, because phi(K) is the broadcast operand of the state.
#include "tenun/ops/attention/kernels/ahead.h"
#include "tenun/ops/attention/kernels/features.h"

namespace tenun::simd::TENUN_ISA {
namespace {

// Low: the two products of the forward pass in bf16 (inputs that were bf16 lose nothing that they
// had).
template <class T, bool Low = false>
struct Linear {
  using V = typename Vector<T>::type;
  using Kind = FloatKind<T>;
  using Map = Phi<T, Low>;
  using Element = typename Map::Element;
  static constexpr int kL = kLanes<T>, kVecs = static_cast<int>(kPanel) / kL;
  static constexpr T kLog2e = static_cast<T>(1.4426950408889634);

  // Part of a row; zeros beyond.
  TENUN_VECTOR static V some(const T* x, int64_t left) {
    if (left >= kL) return load(x);
    alignas(64) T y[kL] = {};
    for (int64_t i = 0; i < left; ++i) y[i] = x[i];
    return load(y);
  }
  // phi(x) of one row: f[wide], zeros behind the channels.
  static void feature_row(Feature feature, const T* x, int64_t d, T* f) {
    const int64_t wide = pad<T>(d);
    if (feature != Feature::softmax) {
      for (int64_t c = 0; c < wide; c += kL) store(f + c, Map::single(feature, some(x + c, d - c)));
      for (int64_t c = d; c < wide; ++c) f[c] = 0;
      return;
    }
    V most = some_or_low(x, d);
    for (int64_t c = kL; c < d; c += kL) most = max(most, some_or_low(x + c, d - c));
    const V shift = broadcast(largest(most) * kLog2e);
    V sums = {};
    for (int64_t c = 0; c < wide; c += kL) {
      const V e = exp2<Map::kDegree>(fms(some_or_low(x + c, d - c), broadcast(kLog2e), shift));
      store(f + c, e);
      sums = sums + e;
    }
    const V by = broadcast(1 / sum(sums));
    for (int64_t c = 0; c < wide; c += kL) store(f + c, load(f + c) * by);
  }
  TENUN_VECTOR static V some_or_low(const T* x, int64_t left) {
    if (left >= kL) return load(x);
    alignas(64) T y[kL];
    for (int64_t i = 0; i < kL; ++i) y[i] = i < left ? x[i] : -static_cast<T>(__builtin_inf());
    return load(y);
  }
  static void feature_rows(Feature feature, const TokenRows<T>& x, int64_t d, T* f) {
    for (int64_t i = 0; i < x.count; ++i)
      feature_row(feature, x.p + i * x.stride, d, f + i * pad<T>(d));
  }
  // Rows as lanes: in place where they are whole lines, else a padded copy.
  static TokenRows<T> lines(const TokenRows<T>& x, int64_t d, T* copy) {
    const int64_t wide = pad<T>(d);
    if (wide == d) return x;
    for (int64_t i = 0; i < x.count; ++i)
      for (int64_t c = 0; c < wide; ++c) copy[i * wide + c] = c < d ? x.p[i * x.stride + c] : T(0);
    return {copy, wide, x.count};
  }

  // y[row / 2][n] = (x[row], x[row + 1]); an odd last row is paired with zeros.
  static void pair_rows(const float* x, int64_t stride, int64_t rows, int64_t n, Group* y) {
    for (int64_t r = 0; r < rows; r += 2)
      for (int64_t c = 0; c < n; c += kL)
        store_bits(y + r / 2 * n + c, pair(load(x + r * stride + c),
                                           r + 1 < rows ? load(x + (r + 1) * stride + c) : F32{}));
  }

  // phi of rows of N vectors as the state's product wants it, and their sum to z. The rows behind
  // these come next.
  template <int N>
  static void softmax_rows(const TokenRows<T>& x, bool first, Element* f, T* z) {
    constexpr int kG = static_cast<int>(Map::kGroup);
    V sums[N];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) sums[i] = first ? V{} : load(z + i * kL);
    for (int64_t r = 0; r < x.count; r += kG) {
      V e[kG][N] = {};
#pragma GCC unroll 2
      for (int g = 0; g < kG; ++g) {
        if (r + g == x.count) break;
        const T* const row = x.p + (r + g) * x.stride;
        fetch_row(row + x.count * x.stride, N * kL);
        V most = load(row), total = {};
#pragma GCC unroll 8
        for (int i = 1; i < N; ++i) most = max(most, load(row + i * kL));
        const V shift = broadcast(largest(most) * kLog2e);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
          e[g][i] = exp2<Map::kDegree>(fms(load(row + i * kL), broadcast(kLog2e), shift));
          total = total + e[g][i];
        }
        const V by = broadcast(1 / sum(total));
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) {
          e[g][i] = e[g][i] * by;
          sums[i] = sums[i] + e[g][i];
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i)
        if constexpr (Low)
          store_bits(f + (r / 2 * N + i) * kL, pair(e[0][i], e[1][i]));
        else
          store(f + (r * N + i) * kL, e[0][i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) store(z + i * kL, sums[i]);
  }
  // The same for any map and width, from rows f.
  static void sum_rows(const T* f, int64_t wide, int64_t rows, bool first, T* z) {
    for (int64_t c = 0; c < wide; c += kL) {
      V s = first ? V{} : load(z + c);
      for (int64_t i = 0; i < rows; ++i) s = s + load(f + i * wide + c);
      store(z + c, s);
    }
  }

  static void add_state(const LinearKeys<T>& a) {
    const int64_t wide = pad<T>(a.d), count = a.k.count, size = kPanel * wide;
    T *const f = a.scratch, *const copy = f + size, *const z = a.state + a.d * wide;
    auto* const phi = reinterpret_cast<Element*>(Low ? copy + size : f);
    const bool whole = a.feature == Feature::softmax && wide == a.d;
    if (whole && wide == 2 * kL)
      softmax_rows<2>(a.k, a.first, phi, z);
    else if (whole && wide == 4 * kL)
      softmax_rows<4>(a.k, a.first, phi, z);
    else if (whole && wide == 8 * kL)
      softmax_rows<8>(a.k, a.first, phi, z);
    else {
      feature_rows(a.feature, a.k, a.d, f);
      sum_rows(f, wide, count, a.first, z);
      if constexpr (Low) pair_rows(f, wide, count, wide, phi);
    }
    const TokenRows<T> v = lines(a.v, a.d, copy);
    [[maybe_unused]] Group* const values = reinterpret_cast<Group*>(copy + size + size / 2);
    if constexpr (Low) pair_rows(v.p, v.stride, count, wide, values);
    const Into into = a.first ? Into::set : Into::add;
    constexpr int64_t kSome = 16;  // channels at a time; meanwhile values come that are next
    for (int64_t c = 0; c < a.d; c += kSome) {
      const int64_t n = a.d - c < kSome ? a.d - c : kSome;
      for (int64_t r = c * count / a.d; r < (c + n) * count / a.d; ++r)
        fetch_row(a.v.p + (count + r) * a.v.stride, a.d);
      T* const out = a.state + c * wide;
      if constexpr (Low)
        multiply<Bf16Kind>(n, wide, (count + 1) / 2, {phi + c, 1, wide}, values, wide, out, wide,
                           into);
      else
        multiply<Kind>(n, wide, count, {phi + c, 1, wide}, v.p, v.stride, out, wide, into);
    }
  }

  static void combine(const T* base, const T* states, const int32_t* list, int64_t count, T sign,
                      int64_t size, T* out) {
    constexpr int kStep = 4;  // vectors at a time; states are whole cache lines
    int64_t at = 0;
    for (; at + kStep * kL <= size; at += kStep * kL)
      add_listed<kStep>(base, states + at, list, count, sign, size, at, out);
    for (; at < size; at += kL) add_listed<1>(base, states + at, list, count, sign, size, at, out);
  }
  template <int N>
  TENUN_VECTOR static void add_listed(const T* base, const T* states, const int32_t* list,
                                      int64_t count, T sign, int64_t size, int64_t at, T* out) {
    V x[N];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) x[i] = base == nullptr ? V{} : load(base + at + i * kL);
    const V by = broadcast(sign);
    for (int64_t r = 0; r < count; ++r) {
      const T* const y = states + list[r] * size;
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) x[i] = fma(by, load(y + i * kL), x[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) store(out + at + i * kL, x[i]);
  }

  // A panel of queries: [channel][64] arrays.
  struct Panel {
    T *x, *w, *y;   // q, phi(q) (in pairs if Low), O_l^T
    V norm[kVecs];  // 1 / denominator
  };
  static void open(const LinearQuery<T>& a, Panel& p) {
    const int64_t wide = pad<T>(a.d), size = wide * kPanel;
    p.x = a.scratch, p.w = p.x + size, p.y = p.w + size;
    if (a.q.count < kPanel)
      for (int64_t i = 0; i < a.d * kPanel; i += kL) store(p.x + i, V{});
    transpose(a.q.p, a.q.stride, a.q.count, a.d, p.x, kPanel);
    auto* const w = reinterpret_cast<typename Map::Element*>(p.w);
    const auto x = [&](int64_t channel, int64_t lane) {
      return load(p.x + channel * kPanel + lane);
    };
    Map::queries(a.feature, x, a.d, a.state + a.d * wide, a.eps, w, p.norm);
    const int64_t rows = (a.d + 7) / 8 * 8;
    if constexpr (Low) {
      auto* const h = reinterpret_cast<Group*>(p.y + size);
      pair_rows(a.state, wide, a.d, wide, h);
      Map::mix(h, wide, (a.d + 1) / 2, w, p.norm, 0, rows, p.y);
    } else {
      Map::mix(a.state, wide, a.d, w, p.norm, 0, rows, p.y);
    }
  }

  static void query(const LinearQuery<T>& a) {
    if (a.gate != 0)  // the other branch's rows come from afar; phi(q) and the product cover that
      for (int64_t i = 0; i < a.q.count * a.d; i += 64 / static_cast<int>(sizeof(T)))
        _mm_prefetch(reinterpret_cast<const char*>(a.o + i), _MM_HINT_T0);
    Panel p;
    open(a, p);
    if (a.gate == 0) {
      transpose(p.y, kPanel, a.d, a.q.count, a.o, a.d);
      return;
    }
    T* const rows = p.w;
    transpose(p.y, kPanel, a.d, a.q.count, rows, a.d);
    const V g = broadcast(a.gate), h = broadcast(1 - a.gate);
    const int64_t size = a.q.count * a.d;
    int64_t i = 0;
    for (; i + kL <= size; i += kL) store(a.o + i, fma(g, load(a.o + i), h * load(rows + i)));
    for (; i < size; ++i) a.o[i] = a.gate * a.o[i] + (1 - a.gate) * rows[i];
  }

  // With w = phi(q) / den and s = dy . O_l (dy includes 1 - gate):
  //   dH += w dy^T, dz -= w s, dphi / den ~ G - s z with G = H dy,
  //   softmax: dx = w (G - s (z + eps)); elu, relu: dx = (G - s z) / den * slope.
  static void query_backward(const LinearQuery<T>& a) {
    Panel p;
    open(a, p);
    const int64_t wide = pad<T>(a.d), size = wide * kPanel;
    T *const dyt = p.y + size, *const g = dyt + size, *const rows = g + size;
    const T share = 1 - a.gate;
    for (int64_t i = 0; i < a.q.count; ++i)
      for (int64_t c = 0; c < wide; ++c)
        rows[i * wide + c] = c < a.d ? share * a.dy.p[i * a.dy.stride + c] : T(0);
    if (a.q.count < kPanel)
      for (int64_t i = 0; i < a.d * kPanel; i += kL) store(dyt + i, V{});
    transpose(rows, wide, a.q.count, a.d, dyt, kPanel);
    V s[kVecs];
    for (int v = 0; v < kVecs; ++v) {
      V sum = {};
      for (int64_t c = 0; c < a.d; ++c) {
        const int64_t at = c * kPanel + v * kL;
        sum = fma(load(p.y + at), load(dyt + at), sum);
        store(p.w + at, load(p.w + at) * p.norm[v]);
      }
      s[v] = sum;
    }
    if (a.dot != nullptr) {
      alignas(64) T dots[kPanel];
      for (int v = 0; v < kVecs; ++v) store(dots + v * kL, s[v]);
      for (int64_t i = 0; i < a.q.count; ++i) a.dot[i] = share == 0 ? T(0) : dots[i] / share;
    }
    multiply<Kind>(a.d, wide, a.q.count, {p.w, kPanel, 1}, rows, wide, a.dstate, wide, Into::add);
    T* const dz = a.dstate + a.d * wide;
    for (int64_t f = 0; f < a.d; ++f) {
      V part = {};
      for (int v = 0; v < kVecs; ++v) part = fma(load(p.w + f * kPanel + v * kL), s[v], part);
      dz[f] -= sum(part);
    }
    if (a.dq == nullptr) return;
    multiply<Kind>(a.d, kPanel, a.d, {a.state, wide, 1}, dyt, kPanel, g, kPanel, Into::set);
    const T* const z = a.state + a.d * wide;
    for (int64_t f = 0; f < a.d; ++f)
      for (int v = 0; v < kVecs; ++v) {
        const int64_t at = f * kPanel + v * kL;
        const V w = load(p.w + at);
        if (a.feature == Feature::softmax) {
          store(g + at, w * (load(g + at) - s[v] * broadcast(z[f] + a.eps)));
          continue;
        }
        const V d = p.norm[v] * (load(g + at) - s[v] * broadcast(z[f]));
        store(g + at, d * slope(a.feature, load(p.x + at)));
      }
    T* const out = p.w;
    transpose(g, kPanel, a.d, a.q.count, out, a.d);
    add_rows(out, a.d, a.q.count, a.d, a.dq);
  }
  // phi'(x): elu 1 or e^x, relu 1 or 0.
  TENUN_VECTOR static V slope(Feature feature, V x) {
    const V zero = {};
    if (feature == Feature::elu) return exp2<5>(Map::min_of(x, zero) * broadcast(kLog2e));
    alignas(64) T y[kL];
    store(y, x);
    for (T& i : y) i = i > 0 ? T(1) : i == i ? T(0) : i;
    return load(y);
  }
  // y[row][d] += x[row][d]
  static void add_rows(const T* x, int64_t stride, int64_t rows, int64_t d, T* y) {
    for (int64_t i = 0; i < rows; ++i) {
      int64_t c = 0;
      for (; c + kL <= d; c += kL)
        store(y + i * d + c, load(y + i * d + c) + load(x + i * stride + c));
      for (; c < d; ++c) y[i * d + c] += x[i * stride + c];
    }
  }

  static void key_backward(const LinearKeys<T>& a) {
    const int64_t wide = pad<T>(a.d), n = a.k.count;
    T *const f = a.scratch, *const y = f + kPanel * wide;
    feature_rows(a.feature, a.k, a.d, f);
    if (a.dv != nullptr) {
      multiply<Kind>(n, wide, a.d, {f, wide, 1}, a.dstate, wide, y, wide, Into::set);
      add_rows(y, wide, n, a.d, a.dv);
    }
    if (a.dk == nullptr) return;
    multiply<Kind>(n, wide, a.d, {a.v.p, a.v.stride, 1}, a.dstate_transposed, wide, y, wide,
                   Into::set);
    const T* const dz = a.dstate + a.d * wide;
    for (int64_t i = 0; i < n; ++i) {
      T *const df = y + i * wide, *const fi = f + i * wide;
      V dots = {};
      for (int64_t c = 0; c < wide; c += kL) {
        const V x = load(df + c) + load(dz + c);
        store(df + c, x);
        dots = fma(x, load(fi + c), dots);
      }
      const V mean = broadcast(sum(dots));
      for (int64_t c = 0; c < wide; c += kL) {
        const V x = load(df + c);
        store(df + c, a.feature == Feature::softmax
                          ? load(fi + c) * (x - mean)
                          : x * slope(a.feature, some(a.k.p + i * a.k.stride + c, a.d - c)));
      }
    }
    add_rows(y, wide, n, a.d, a.dk);
  }
};

template <class T, bool Low = false>
constexpr LinearKernels<T> kLinear{Linear<T, Low>::add_state, Linear<T>::combine,
                                   Linear<T, Low>::query, Linear<T>::query_backward,
                                   Linear<T>::key_backward};

}  // namespace

extern const LinearFamily linear_kernels{kLinear<float>, kLinear<double>, kLinear<float, true>};

}  // namespace tenun::simd::TENUN_ISA
