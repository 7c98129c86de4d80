// Rotary position embedding, alone and together with the norm of q and k (ops/qk_norm_rope.h). A
// few neighbouring lanes have one token of one head, each of them a run of its channels; a block
// has the same tokens of several heads and samples, so the turns of a token are read once.
#include "tenun/ops/rope.h"

#include "tenun/cuda/register.h"
#include "tenun/cuda/runs.h"
#include "tenun/cuda/team.h"
#include "tenun/ops/qk_norm_rope.h"
#include "tenun/ops/sum.h"

namespace tenun::TENUN_BACKEND {
namespace {

template <class C>
struct Turned {
  C a, b;
};
/// The pair (a, b) turned by the angle with this cosine and sine.
template <class C>
__device__ Turned<C> turn_pair(C a, C b, C c, C s) {
  return {a * c - b * s, b * c + a * s};
}

/// Channels of a lane: as many as have turns of 16 bytes.
template <class C>
inline constexpr int kRun = 2 * Pack<C>::kCount;

/// Rows of d channels: [B, H, N, D]. One side is contiguous, the other has strides.
struct Heads {
  int64_t batch, heads, tokens, d;
  int64_t stride_batch, stride_head, stride_token;
  int lanes_log = 0;  ///< 2^lanes_log lanes have a row
  [[nodiscard]] __host__ __device__ int64_t rows() const { return batch * heads * tokens; }
  [[nodiscard]] __device__ int64_t row(int64_t sample, int64_t head, int64_t t) const {
    return (sample * heads + head) * tokens + t;
  }
  [[nodiscard]] __device__ int64_t place(int64_t sample, int64_t head, int64_t t) const {
    return sample * stride_batch + head * stride_head + t * stride_token;
  }
};
template <class C>
Heads with_lanes(Heads s) {
  while (s.lanes_log < 5 && (int64_t{kRun<C>} << s.lanes_log) < s.d) ++s.lanes_log;
  return s;
}
/// q of the packed projection [B, N, 3, H, D]; k and v follow after H D each.
template <class C>
Heads packed_heads(const Tensor& qkv, const Tensor& rstd) {
  const int64_t heads = rstd.dim(2), tokens = qkv.dim(1), all = qkv.dim(2), d = all / (3 * heads);
  return with_lanes<C>({qkv.dim(0), heads, tokens, d, tokens * all, d, all});
}
/// Tokens in x, heads in y, samples in z: some waves of blocks on a GPU, loops do the rest.
dim3 grid_of(const Heads& s) {
  constexpr int64_t kMost = 2048;
  const auto count = [](int64_t n, int64_t most) {
    return static_cast<unsigned>(n < 1 ? 1 : n < most ? n : most);
  };
  const unsigned y = count(s.heads, kMost);
  const unsigned x = grid_for(s.tokens, kThreads >> s.lanes_log, kMost / y).x;
  return dim3(x, y, count(s.batch, kMost / (x * y)));
}

/// The lanes of one row.
template <class C>
class Lanes {
 public:
  __device__ explicit Lanes(const Heads& s)
      : log_(s.lanes_log),
        rank_(static_cast<int>(threadIdx.x) & ((1 << log_) - 1)),
        number_(static_cast<int>(threadIdx.x) >> log_) {}
  [[nodiscard]] __device__ int count() const { return 1 << log_; }
  /// Channels of all lanes together: longer heads take several slices of them.
  [[nodiscard]] __device__ int span() const { return kRun<C> << log_; }
  [[nodiscard]] __device__ int channel() const { return rank_ * kRun<C>; }

  /// f(t) for the tokens of these lanes. A warp stays together: t may be beyond the last token.
  template <class F>
  __device__ void each_token(int64_t tokens, F&& f) const {
    const int64_t rows = kThreads >> log_;
    for (int64_t t = blockIdx.x * rows; t < tokens; t += gridDim.x * rows) f(t + number_);
  }
  template <class V>
  [[nodiscard]] __device__ V sum(V v) const {
    TENUN_NO_UNROLL
    for (int bits = count() >> 1; bits > 0; bits >>= 1) v += from_lane(v, bits);
    return v;
  }

  /// f(o) for this lane's runs of the row other than the one at c.
  template <class F>
  __device__ void each_other(int64_t c, int64_t d, F&& f) const {
    for (int64_t o = channel(); o < d; o += span())
      if (o != c) f(o);
  }

 private:
  int log_, rank_, number_;
};
/// f(slice) for the slices of a row that its lanes have at once.
template <bool kWhole, class C, class F>
__device__ void each_slice(const Lanes<C>& lanes, int64_t d, F&& f) {
  if constexpr (kWhole)
    f(0);
  else
    for (int64_t slice = 0; slice < d; slice += lanes.span()) f(slice);
}
/// f(sample, head) for those of this block.
template <class F>
__device__ void each_head(const Heads& s, F&& f) {
  for (int64_t sample = blockIdx.z; sample < s.batch; sample += gridDim.z)
    for (int64_t head = blockIdx.y; head < s.heads; head += gridDim.y) f(sample, head);
}

/// The angles of all tokens; turns by minus the angle for sign -1.
template <class C>
struct Table {
  const C *cos, *sin;
};
template <class C>
Table<C> table_of(const RopeTable& t) {
  return {t.cos.data<C>(), t.sin.data<C>()};
}
/// The turns of the pairs of a run.
template <class C>
struct Turns {
  Run<C, kRun<C> / 2> cos, sin;
  __device__ void apply(Run<C, kRun<C>>& x, C sign) const {
    TENUN_UNROLL
    for (int m = 0; m < kRun<C> / 2; ++m) {
      const auto [a, b] = turn_pair<C>(x.v[2 * m], x.v[2 * m + 1], cos.v[m], sign * sin.v[m]);
      x.v[2 * m] = a, x.v[2 * m + 1] = b;
    }
  }
};
template <bool kWhole, class C>
__device__ Turns<C> turns_of(const Table<C>& table, int64_t t, int64_t c, int64_t d, int64_t left) {
  constexpr int kPairs = kRun<C> / 2;
  const int64_t at = t * (d / 2) + c / 2;
  return {read_run<kWhole, kPairs>(table.cos + at, left / 2),
          read_run<kWhole, kPairs>(table.sin + at, left / 2)};
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads, 1)
    turn_heads(T* y, const T* x, const Table<Compute<T>> table, const Heads s, Compute<T> sign) {
  using C = Compute<T>;
  const Lanes<C> lanes(s);
  for (int64_t c = lanes.channel(); c < s.d; c += lanes.span())
    lanes.each_token(s.tokens, [&](int64_t t) {
      const int64_t left = t < s.tokens ? s.d - c : 0;
      const auto turns = turns_of<kWhole>(table, t, c, s.d, left);
      each_head(s, [&](int64_t sample, int64_t head) {
        auto run =
            convert_run<C>(read_run<kWhole, kRun<C>>(x + s.place(sample, head, t) + c, left));
        turns.apply(run, sign);
        write_run<kWhole>(y + s.row(sample, head, t) * s.d + c, convert_run<T>(run), left);
      });
    });
}

template <class T>
struct Parts {
  T* p[3];
};

template <class C>
__device__ C inverse_root(C x) {
  if constexpr (std::is_same_v<C, float>)
    return rsqrtf(x);  // right to 2 units in the last place; a division and a root are 30 steps
  else
    return 1 / std::sqrt(x);
}

template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads, 1)
    split_heads(const Parts<T> out, Compute<T>* rstd, const T* qkv, const Compute<T>* weights,
                const Table<Compute<T>> table, const Heads s, Compute<T> share, Compute<T> eps) {
  using C = Compute<T>;
  constexpr int n = kRun<C>;
  const Lanes<C> lanes(s);
  each_slice<kWhole>(lanes, s.d, [&](int64_t slice) {
    const int64_t c = slice + lanes.channel(), next_part = s.heads * s.d;
    const Run<C, n> w[2] = {read_run<kWhole, n>(weights + c, s.d - c),
                            read_run<kWhole, n>(weights + s.d + c, s.d - c)};
    lanes.each_token(s.tokens, [&](int64_t t) {
      const int64_t d = t < s.tokens ? s.d : 0;
      const auto turns = turns_of<kWhole>(table, t, c, s.d, d - c);
      each_head(s, [&](int64_t sample, int64_t head) {
        const T* const x = qkv + s.place(sample, head, t);
        const int64_t row = s.row(sample, head, t);
        Run<T, n> in[3];
        TENUN_UNROLL
        for (int part = 0; part < 3; ++part)
          in[part] = read_run<kWhole, n>(x + part * next_part + c, d - c);
        TENUN_UNROLL
        for (int part = 0; part < 2; ++part) {
          Run<C, n> y = convert_run<C>(in[part]);
          C square = dot(y, y);
          if constexpr (!kWhole)
            lanes.each_other(c, d, [&](int64_t o) {
              const auto v = convert_run<C>(read_run<kWhole, n>(x + part * next_part + o, d - o));
              square += dot(v, v);
            });
          const C r = inverse_root(lanes.sum(square) * share + eps);
          if (c == 0 && d > 0) rstd[part * s.rows() + row] = r;
          TENUN_UNROLL
          for (int e = 0; e < n; ++e) y.v[e] = y.v[e] * r * w[part].v[e];
          turns.apply(y, C(1));
          write_run<kWhole>(out.p[part] + row * s.d + c, convert_run<T>(y), d - c);
        }
        write_run<kWhole>(out.p[2] + row * s.d + c, in[2], d - c);
      });
    });
  });
}

// dqkv, and on the way dw = sum over rows of dy x^: what each block has, in part_dw [2, D, blocks].
template <class T, bool kWhole>
__global__ void __launch_bounds__(kThreads, 1)
    join_gradients(T* dqkv, Compute<T>* part_dw, const Parts<const T> grads, const T* qkv,
                   const Compute<T>* rstd, const Compute<T>* weights, const Table<Compute<T>> table,
                   const Heads s, Compute<T> share) {
  using C = Compute<T>;
  constexpr int n = kRun<C>;
  TENUN_SHARED(C, sums, 2 * kBlockWarps * 32 * n);
  const Lanes<C> lanes(s);
  const int thread = static_cast<int>(threadIdx.x), span = lanes.span();
  each_slice<kWhole>(lanes, s.d, [&](int64_t slice) {
    const int64_t c = slice + lanes.channel(), next_part = s.heads * s.d;
    const Run<C, n> w[2] = {read_run<kWhole, n>(weights + c, s.d - c),
                            read_run<kWhole, n>(weights + s.d + c, s.d - c)};
    Run<C, n> dw[2] = {};
    lanes.each_token(s.tokens, [&](int64_t t) {
      const int64_t d = t < s.tokens ? s.d : 0;
      const auto turns = turns_of<kWhole>(table, t, c, s.d, d - c);
      each_head(s, [&](int64_t sample, int64_t head) {
        const int64_t place = s.place(sample, head, t), row = s.row(sample, head, t);
        // A part without a gradient has no channels to read: its dx becomes zero, and its dw.
        const auto size = [&](int part) { return grads.p[part] == nullptr ? 0 : d; };
        Run<T, n> x[2], dy[3];
        C rs[2];
        TENUN_UNROLL
        for (int part = 0; part < 3; ++part) {
          const int64_t left = size(part) - c;
          dy[part] = read_run<kWhole, n>(grads.p[part] + row * s.d + c, left);
          if (part == 2) break;
          x[part] = read_run<kWhole, n>(qkv + place + part * next_part + c, left);
          rs[part] = left > 0 ? rstd[part * s.rows() + row] : C(0);
        }
        TENUN_UNROLL
        for (int part = 0; part < 2; ++part) {
          const C r = rs[part];
          Run<C, n> g = convert_run<C>(dy[part]), v = convert_run<C>(x[part]);
          turns.apply(g, C(-1));
          TENUN_UNROLL
          for (int e = 0; e < n; ++e) {
            dw[part].v[e] += g.v[e] * (v.v[e] * r);
            g.v[e] *= w[part].v[e];
          }
          C along = dot(g, v);
          if constexpr (!kWhole)
            lanes.each_other(c, size(part), [&](int64_t o) {
              auto h = convert_run<C>(read_run<kWhole, n>(grads.p[part] + row * d + o, d - o));
              turns_of<kWhole>(table, t, o, d, d - o).apply(h, C(-1));
              const auto gain = read_run<kWhole, n>(weights + part * d + o, d - o);
              for (int e = 0; e < n; ++e) h.v[e] *= gain.v[e];
              along += dot(h, convert_run<C>(
                                  read_run<kWhole, n>(qkv + place + part * next_part + o, d - o)));
            });
          const C slope = lanes.sum(along) * r * share * r;
          TENUN_UNROLL
          for (int e = 0; e < n; ++e) v.v[e] = r * (g.v[e] - v.v[e] * slope);
          dy[part] = convert_run<T>(v);
        }
        TENUN_UNROLL
        for (int part = 0; part < 3; ++part)
          write_run<kWhole>(dqkv + place + part * next_part + c, dy[part], d - c);
      });
    });
    // The rows of a warp, then the warps.
    for (int bits = lanes.count(); bits < 32; bits *= 2) {
      TENUN_UNROLL
      for (int e = 0; e < 2 * n; ++e) dw[e / n].v[e % n] += from_lane(dw[e / n].v[e % n], bits);
    }
    if (thread % 32 < lanes.count()) {
      TENUN_UNROLL
      for (int e = 0; e < 2 * n; ++e)
        sums[(e / n * kBlockWarps + thread / 32) * span + lanes.channel() + e % n] =
            dw[e / n].v[e % n];
    }
    __syncthreads();
    const int64_t blocks = int64_t{gridDim.x} * gridDim.y * gridDim.z;
    const int64_t block = (int64_t{blockIdx.z} * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    for (int i = thread; i < 2 * span; i += kThreads) {
      const int part = i >= span ? 1 : 0, own = i - part * span;
      if (slice + own >= s.d) continue;
      C sum = 0;
      for (int warp = 0; warp < kBlockWarps; ++warp)
        sum += sums[(part * kBlockWarps + warp) * span + own];
      part_dw[(part * s.d + slice + own) * blocks + block] = sum;
    }
    __syncthreads();  // the next slice leaves its sums in the same place
  });
}

/// go.operator()<kWhole>() for rows at these addresses. kWhole: a row is shared out in whole runs,
/// one for each lane at most, that go by 16 bytes.
template <class C, class F>
void by_alignment(const Heads& s, std::initializer_list<const void*> addresses, F&& go) {
  const bool whole = s.d % kRun<C> == 0 && s.d <= kRun<C> << s.lanes_log && aligned_16(addresses);
  whole ? go.template operator()<true>() : go.template operator()<false>();
}

void rope(Tensor& y, const Tensor& x, const RopeTable& table, Turn turn) {
  visit_float(x.dtype(), "rope_2d", [&]<class T>() {
    using C = Compute<T>;
    const Shape& stride = x.strides();
    const Heads s =
        with_lanes<C>({x.dim(0), x.dim(1), x.dim(2), x.dim(3), stride[0], stride[1], stride[2]});
    T* const out = y.mutable_data<T>();
    const T* const in = x.data<T>();
    const Table<C> turns = table_of<C>(table);
    // What is aligned after one step along an axis is so after any number of them.
    by_alignment<C>(s,
                    {out, in, in + stride[0], in + stride[1], in + stride[2], turns.cos, turns.sin},
                    [&]<bool kWhole>() {
                      launch(turn_heads<T, kWhole>, grid_of(s), kThreads, 0, out, in, turns, s,
                             turn == Turn::forward ? C(1) : C(-1));
                    });
  });
}

void qk_norm_rope(Tensor& q, Tensor& k, Tensor& v, Tensor& rstd, const Tensor& qkv,
                  const Tensor& weights, const RopeTable& table, double eps) {
  if (qkv.numel() == 0) return;
  visit_float(qkv.dtype(), "qk_norm_rope", [&]<class T>() {
    using C = Compute<T>;
    const Heads s = packed_heads<C>(qkv, rstd);
    const Parts<T> out{{q.mutable_data<T>(), k.mutable_data<T>(), v.mutable_data<T>()}};
    const T* const x = qkv.data<T>();
    const C* const w = weights.data<C>();
    const Table<C> turns = table_of<C>(table);
    by_alignment<C>(
        s, {out.p[0], out.p[1], out.p[2], x, w, turns.cos, turns.sin}, [&]<bool kWhole>() {
          launch(split_heads<T, kWhole>, grid_of(s), kThreads, 0, out, rstd.mutable_data<C>(), x, w,
                 turns, s, static_cast<C>(1 / static_cast<double>(s.d)), static_cast<C>(eps));
        });
  });
}

void qk_norm_rope_backward(Tensor& dqkv, Tensor& dweights, const Tensor& dq, const Tensor& dk,
                           const Tensor& dv, const Tensor& qkv, const Tensor& rstd,
                           const Tensor& weights, const RopeTable& table) {
  visit_float(qkv.dtype(), "qk_norm_rope", [&]<class T>() {
    using C = Compute<T>;
    const auto data = [](const Tensor& t) { return t.defined() ? t.data<T>() : nullptr; };
    const Parts<const T> dy{{data(dq), data(dk), data(dv)}};
    const Heads s = packed_heads<C>(qkv, rstd);
    T* const dx = dqkv.mutable_data<T>();
    const T* const x = qkv.data<T>();
    const C* const w = weights.data<C>();
    const Table<C> turns = table_of<C>(table);
    const dim3 grid = grid_of(s);
    const int64_t blocks = s.rows() == 0 ? 0 : int64_t{grid.x} * grid.y * grid.z, n = 2 * s.d;
    Tensor part_dw({n, blocks, 1}, dweights.dtype(), dweights.device());
    if (blocks > 0)
      by_alignment<C>(
          s, {dx, dy.p[0], dy.p[1], dy.p[2], x, w, turns.cos, turns.sin}, [&]<bool kWhole>() {
            launch(join_gradients<T, kWhole>, grid, kThreads, 0, dx, part_dw.mutable_data<C>(), dy,
                   x, rstd.data<C>(), w, turns, s, static_cast<C>(1 / static_cast<double>(s.d)));
          });
    Tensor dw = dweights.view({n, 1});
    kernel::sum_middle(dw.device(), dw, part_dw, 1);
  });
}

}  // namespace

void register_rope() {
  kernel::rope.set(kDevice, rope);
  kernel::qk_norm_rope.set(kDevice, qk_norm_rope);
  kernel::qk_norm_rope_backward.set(kDevice, qk_norm_rope_backward);
}

}  // namespace tenun::TENUN_BACKEND
