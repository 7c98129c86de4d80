// Rotary position embedding, alone and together with the norm of q and k (ops/qk_norm_rope.h). A
// team has one token of one head; it turns pairs of neighbouring channels.
#include "tenun/ops/rope.h"

#include "tenun/cuda/register.h"
#include "tenun/cuda/scratch.h"
#include "tenun/cuda/team.h"
#include "tenun/ops/qk_norm_rope.h"

namespace tenun::TENUN_BACKEND {
namespace {

template <class C>
struct Table {
  const C *cos, *sin;
};
template <class C>
Table<C> table_of(const RopeTable& t) {
  return {t.cos.data<C>(), t.sin.data<C>()};
}

template <class C>
struct Turned {
  C a, b;
};
/// The pair (a, b) turned by the angle of pair m of token t; sign -1 turns it back.
template <class C>
__device__ Turned<C> turn_pair(const Table<C>& table, int64_t t, int64_t m, int64_t d, C a, C b,
                               C sign) {
  const C c = table.cos[t * (d / 2) + m], s = sign * table.sin[t * (d / 2) + m];
  return {a * c - b * s, b * c + a * s};
}

struct HeadSizes {
  int64_t batch, heads, tokens, d;
  int64_t stride_batch, stride_head, stride_token;  // of x
};
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    turn_heads(T* y, const T* x, const Table<Compute<T>> table, const HeadSizes s,
               Compute<T> sign) {
  using C = Compute<T>;
  const Team<1> team;
  team.each_row(s.batch * s.heads * s.tokens, [&](int64_t row) {
    const int64_t t = row % s.tokens, head = row / s.tokens % s.heads,
                  sample = row / s.tokens / s.heads;
    const T* const from = x + sample * s.stride_batch + head * s.stride_head + t * s.stride_token;
    T* const to = y + row * s.d;
    team.each(s.d / 2, [&](int64_t m) {
      const auto [a, b] = turn_pair<C>(table, t, m, s.d, static_cast<C>(from[2 * m]),
                                       static_cast<C>(from[2 * m + 1]), sign);
      to[2 * m] = T(a), to[2 * m + 1] = T(b);
    });
  });
}

void rope(Tensor& y, const Tensor& x, const RopeTable& table, Turn turn) {
  const HeadSizes s{x.dim(0),       x.dim(1),       x.dim(2),      x.dim(3),
                    x.strides()[0], x.strides()[1], x.strides()[2]};
  visit_float(x.dtype(), "rope_2d", [&]<class T>() {
    using C = Compute<T>;
    launch(turn_heads<T>, grid_for(s.batch * s.heads * s.tokens, Team<1>::kTeams), kThreads, 0,
           y.mutable_data<T>(), x.data<T>(), table_of<C>(table), s,
           turn == Turn::forward ? C(1) : C(-1));
  });
}

/// q, k, v [B, H, N, D] and the packed projection [B, N, 3, H, D].
struct Packed {
  int64_t batch, heads, tokens, d;
  [[nodiscard]] __host__ __device__ int64_t rows() const { return batch * heads * tokens; }
  /// Where part 0, 1, 2 (q, k, v) of row `row` of [B, H, N] stands in the projection.
  [[nodiscard]] __device__ int64_t place(int64_t row, int64_t part) const {
    const int64_t t = row % tokens, head = row / tokens % heads, sample = row / tokens / heads;
    return (((sample * tokens + t) * 3 + part) * heads + head) * d;
  }
};
Packed packed_of(const Tensor& qkv, const Tensor& rstd) {
  const int64_t heads = rstd.dim(2);
  return {qkv.dim(0), heads, qkv.dim(1), qkv.dim(2) / (3 * heads)};
}

template <class T>
struct Parts {
  T* p[3];
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    split_heads(const Parts<T> out, Compute<T>* rstd, const T* qkv, const Compute<T>* weights,
                const Table<Compute<T>> table, const Packed at, Compute<T> eps) {
  using C = Compute<T>;
  const Team<1> team;
  team.each_row(3 * at.rows(), [&](int64_t i) {
    const int64_t part = i / at.rows(), row = i % at.rows(), t = row % at.tokens;
    const T* const x = qkv + at.place(row, part);
    T* const y = out.p[part] + row * at.d;
    if (part == 2) {
      team.each(at.d, [&](int64_t c) { y[c] = x[c]; });
      return;
    }
    C square = 0;
    team.each(at.d, [&](int64_t c) { square += static_cast<C>(x[c]) * static_cast<C>(x[c]); });
    const C r = C(1) / std::sqrt(team.sum(square) / static_cast<C>(at.d) + eps);
    if (team.first()) rstd[i] = r;
    const C* const w = weights + part * at.d;
    team.each(at.d / 2, [&](int64_t m) {
      const auto [a, b] = turn_pair<C>(table, t, m, at.d, static_cast<C>(x[2 * m]) * r * w[2 * m],
                                       static_cast<C>(x[2 * m + 1]) * r * w[2 * m + 1], C(1));
      y[2 * m] = T(a), y[2 * m + 1] = T(b);
    });
  });
}

/// What a channel gets of dy turned back: channel 2 m (odd = 0) or 2 m + 1.
template <class T, class C>
__device__ C turned_back(const T* dy, const Table<C>& table, int64_t t, int64_t c, int64_t d) {
  const int64_t m = c / 2;
  const auto [a, b] =
      turn_pair<C>(table, t, m, d, static_cast<C>(dy[2 * m]), static_cast<C>(dy[2 * m + 1]), C(-1));
  return c % 2 == 0 ? a : b;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    join_gradients(T* dqkv, const Parts<const T> grads, const T* qkv, const Compute<T>* rstd,
                   const Compute<T>* weights, const Table<Compute<T>> table, const Packed at) {
  using C = Compute<T>;
  const Team<1> team;
  team.each_row(3 * at.rows(), [&](int64_t i) {
    const int64_t part = i / at.rows(), row = i % at.rows(), t = row % at.tokens;
    const T* const x = qkv + at.place(row, part);
    T* const dx = dqkv + at.place(row, part);
    if (grads.p[part] == nullptr) {
      team.each(at.d, [&](int64_t c) { dx[c] = T(C(0)); });
      return;
    }
    const T* const dy = grads.p[part] + row * at.d;
    if (part == 2) {
      team.each(at.d, [&](int64_t c) { dx[c] = dy[c]; });
      return;
    }
    const C r = rstd[i];
    const C* const w = weights + part * at.d;
    C along = 0;
    team.each(at.d, [&](int64_t c) {
      along += turned_back(dy, table, t, c, at.d) * w[c] * (static_cast<C>(x[c]) * r);
    });
    const C slope = team.sum(along) / static_cast<C>(at.d) * r;
    team.each(at.d, [&](int64_t c) {
      const C g = turned_back(dy, table, t, c, at.d) * w[c];
      dx[c] = T(r * (g - static_cast<C>(x[c]) * slope));
    });
  });
}

constexpr int64_t kRowsOfChunk = 64;
// dw = sum over rows of dy x^: a thread has a channel of q or k in a chunk of rows.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    weight_chunks(Compute<T>* part_dw, const Parts<const T> grads, const T* qkv,
                  const Compute<T>* rstd, const Table<Compute<T>> table, const Packed at,
                  int64_t chunks) {
  using C = Compute<T>;
  for_each_item(chunks * 2 * at.d, [&](int64_t i) {
    const int64_t c = i % at.d, part = i / at.d % 2, chunk = i / at.d / 2;
    const int64_t first = chunk * kRowsOfChunk;
    const int64_t last = at.rows() < first + kRowsOfChunk ? at.rows() : first + kRowsOfChunk;
    C sum = 0;
    if (grads.p[part] != nullptr)
      for (int64_t row = first; row < last; ++row)
        sum += turned_back(grads.p[part] + row * at.d, table, row % at.tokens, c, at.d) *
               (static_cast<C>(qkv[at.place(row, part) + c]) * rstd[part * at.rows() + row]);
    part_dw[i] = sum;
  });
}
template <class C>
__global__ void __launch_bounds__(kThreads, 1)
    add_weight_chunks(C* dw, const C* part_dw, int64_t n, int64_t chunks) {
  for_each_item(n, [&](int64_t i) {
    double sum = 0;
    for (int64_t k = 0; k < chunks; ++k) sum += static_cast<double>(part_dw[k * n + i]);
    dw[i] = static_cast<C>(sum);
  });
}

void qk_norm_rope(Tensor& q, Tensor& k, Tensor& v, Tensor& rstd, const Tensor& qkv,
                  const Tensor& weights, const RopeTable& table, double eps) {
  const Packed at = packed_of(qkv, rstd);
  if (qkv.numel() == 0) return;
  visit_float(qkv.dtype(), "qk_norm_rope", [&]<class T>() {
    using C = Compute<T>;
    launch(split_heads<T>, grid_for(3 * at.rows(), Team<1>::kTeams), kThreads, 0,
           Parts<T>{{q.mutable_data<T>(), k.mutable_data<T>(), v.mutable_data<T>()}},
           rstd.mutable_data<C>(), qkv.data<T>(), weights.data<C>(), table_of<C>(table), at,
           static_cast<C>(eps));
  });
}

void qk_norm_rope_backward(Tensor& dqkv, Tensor& dweights, const Tensor& dq, const Tensor& dk,
                           const Tensor& dv, const Tensor& qkv, const Tensor& rstd,
                           const Tensor& weights, const RopeTable& table) {
  const Packed at = packed_of(qkv, rstd);
  visit_float(qkv.dtype(), "qk_norm_rope", [&]<class T>() {
    using C = Compute<T>;
    const auto data = [](const Tensor& t) { return t.defined() ? t.data<T>() : nullptr; };
    const Parts<const T> grads{{data(dq), data(dk), data(dv)}};
    const Table<C> turns = table_of<C>(table);
    if (qkv.numel() > 0)
      launch(join_gradients<T>, grid_for(3 * at.rows(), Team<1>::kTeams), kThreads, 0,
             dqkv.mutable_data<T>(), grads, qkv.data<T>(), rstd.data<C>(), weights.data<C>(), turns,
             at);
    const int64_t chunks = (at.rows() + kRowsOfChunk - 1) / kRowsOfChunk, n = 2 * at.d;
    const Scratch<C> part_dw(chunks * n);
    if (chunks > 0)
      launch(weight_chunks<T>, grid_for(chunks * n), kThreads, 0, part_dw.get(), grads,
             qkv.data<T>(), rstd.data<C>(), turns, at, chunks);
    launch(add_weight_chunks<C>, grid_for(n), kThreads, 0, dweights.mutable_data<C>(),
           part_dw.get(), n, chunks);
  });
}

}  // namespace

void register_rope() {
  kernel::rope.set(kDevice, rope);
  kernel::qk_norm_rope.set(kDevice, qk_norm_rope);
  kernel::qk_norm_rope_backward.set(kDevice, qk_norm_rope_backward);
}

}  // namespace tenun::TENUN_BACKEND
