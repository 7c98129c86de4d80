#include "tenun/ops/attention/linear.h"

#include <algorithm>

#include "tenun/core/math.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::attn {
namespace {

template <class T>
void features(const T* __restrict x, T* __restrict f, int64_t d, FeatureMap map) {
  if (map == FeatureMap::elu) {
    for (int64_t i = 0; i < d; ++i) f[i] = x[i] > 0 ? x[i] + T(1) : math::exp(x[i]);
    return;
  }
  if (map == FeatureMap::relu) {
    for (int64_t i = 0; i < d; ++i) f[i] = x[i] > 0 ? x[i] : T(0);
    return;
  }
  T most = x[0], sum = 0;
  for (int64_t i = 1; i < d; ++i) most = std::max(most, x[i]);
  for (int64_t i = 0; i < d; ++i) f[i] = math::exp(x[i] - most);
  for (int64_t i = 0; i < d; ++i) sum += f[i];
  for (int64_t i = 0; i < d; ++i) f[i] /= sum;
}

// dx from df (with stride) and f = phi(x).
template <class T>
void features_backward(const T* f, const T* df, int64_t stride, T* dx, int64_t d, FeatureMap map) {
  T dot = 0;
  if (map == FeatureMap::softmax)
    for (int64_t i = 0; i < d; ++i) dot += f[i] * df[i * stride];
  for (int64_t i = 0; i < d; ++i) {
    const T g = df[i * stride];
    switch (map) {
      case FeatureMap::softmax: dx[i] = f[i] * (g - dot); break;
      case FeatureMap::elu: dx[i] = f[i] > 1 ? g : g * f[i]; break;
      case FeatureMap::relu: dx[i] = f[i] > 0 ? g : T(0); break;
    }
  }
}

// A state is phi(K)^T [V, 1] as [d][wide]: column d is the sum of phi(K), the rest is padding.
template <class T>
struct Linear {
  Heads<T> q, k, v;
  int64_t heads, nq, nk, d;
  FeatureMap map;
  T eps;
  int64_t block_q, block_k;
  const T* weight;  // nullptr: one block of all keys, shared by all queries

  Linear(const Tensor& q_, const Tensor& k_, const Tensor& v_, const LinearArgs& args)
      : q(q_),
        k(k_),
        v(v_),
        heads(q_.dim(0) * q_.dim(1)),
        nq(q_.dim(2)),
        nk(k_.dim(2)),
        d(q_.dim(3)),
        map(args.feature_map),
        eps(static_cast<T>(args.eps)),
        block_q(args.weight.defined() ? args.block_q : nq),
        block_k(args.weight.defined() ? args.block_k : nk),
        weight(args.weight.defined() ? args.weight.data<T>() : nullptr) {}

  [[nodiscard]] int64_t wide() const { return padded<T>(d + 1); }
  [[nodiscard]] int64_t state() const { return d * wide(); }
  [[nodiscard]] int64_t rows() const { return blocks(nq, block_q); }
  [[nodiscard]] int64_t cols() const { return blocks(nk, block_k); }

  // Up to 64 tokens: phi(x) as [n][d].
  void feature_rows(const Rows<T>& x, int64_t first, int64_t n, T* f) const {
    for (int64_t i = 0; i < n; ++i) features(x.row(first + i), f + i * d, d, map);
  }
  // [V, 1] as [n][wide].
  void value_rows(const Rows<T>& x, int64_t first, int64_t n, T* y) const {
    for (int64_t i = 0; i < n; ++i) {
      T* const line = y + i * wide();
      std::copy_n(x.row(first + i), d, line);
      line[d] = 1;
      std::fill(line + d + 1, line + wide(), T(0));
    }
  }
  // Many heads are worth a task each; the inner loops then run inside it. Few heads share the inner
  // loops. The sums are the same ones.
  template <class F>
  void each_head(F&& f) const {
    parallel_for(0, heads, heads >= 8 ? grain(4 * (nq + nk) * state()) : heads,
                 [&](int64_t b, int64_t e) {
                   for (int64_t bh = b; bh < e; ++bh) f(bh);
                 });
  }
  // Calls f(block, first, count) for panels of the blocks of an axis.
  template <class F>
  void panels(int64_t n, int64_t block, F&& f) const {
    const int64_t per_block = blocks(std::min(block, n), kPanel), count = blocks(n, block);
    parallel_for(0, count * per_block, grain(2 * std::min({kPanel, block, n}) * state()),
                 [&](int64_t b, int64_t e) {
                   for (int64_t i = b; i < e; ++i) {
                     const int64_t at = i / per_block * block + i % per_block * kPanel;
                     const int64_t end = std::min(i / per_block * block + block, n);
                     if (at < end) f(i / per_block, at, std::min(kPanel, end - at));
                   }
                 });
  }

  void key_states(int64_t bh, T* out) const {
    parallel_for(0, cols(), grain(2 * block_k * state()), [&](int64_t b, int64_t e) {
      Scratch<T> memory(kPanel * (d + wide()) + 64);
      T *const f = memory.take(kPanel * d), *const x = memory.take(kPanel * wide());
      for (int64_t j = b; j < e; ++j) {
        T* const s = out + j * state();
        std::fill_n(s, state(), T(0));
        const int64_t end = std::min((j + 1) * block_k, nk);
        for (int64_t at = j * block_k; at < end; at += kPanel) {
          const int64_t n = std::min(kPanel, end - at);
          feature_rows(k[bh], at, n, f);
          value_rows(v[bh], at, n, x);
          tile_product<T>(d, wide(), n, {f, 1, d}, x, wide(), s, wide(), Into::add);
        }
      }
    });
  }

  // out[a] = sum over b of w(a, b) in[b], for states.
  void combine(int64_t to, int64_t from, Broadcast<T> w, const T* in, T* out) const {
    const int64_t columns = std::max<int64_t>(512, grain(2 * to * from) / 16 * 16);
    parallel_for(0, state(), columns, [&](int64_t b, int64_t e) {
      tile_product<T>(to, e - b, from, w, in + b, state(), out + b, state(), Into::set);
    });
  }
  [[nodiscard]] const T* weights(int64_t bh) const { return weight + bh * rows() * cols(); }
  // The states that each query block reads; `own` has room for them.
  const T* query_states(int64_t bh, const T* key, T* own) const {
    if (weight == nullptr) return key;
    combine(rows(), cols(), {weights(bh), cols(), 1}, key, own);
    return own;
  }

  void forward(T* o) const {
    each_head([&](int64_t bh) {
      Tensor memory({(rows() + cols()) * state()}, dtype_of<T>);
      T* const key = memory.mutable_data<T>();
      key_states(bh, key);
      const T* const states = query_states(bh, key, key + cols() * state());
      panels(nq, block_q, [&](int64_t block, int64_t at, int64_t n) {
        Scratch<T> scratch(kPanel * (d + wide()) + 64);
        T *const f = scratch.take(kPanel * d), *const y = scratch.take(kPanel * wide());
        numerators(bh, block, at, n, states, f, y);
        for (int64_t i = 0; i < n; ++i) {
          const T den = y[i * wide() + d] + eps;
          T* const out = o + (bh * nq + at + i) * d;
          for (int64_t c = 0; c < d; ++c) out[c] = den == 0 ? T(0) : y[i * wide() + c] / den;
        }
      });
    });
  }
  void numerators(int64_t bh, int64_t block, int64_t at, int64_t n, const T* states, T* f,
                  T* y) const {
    feature_rows(q[bh], at, n, f);
    tile_product<T>(n, wide(), d, {f, d, 1}, states + block * state(), wide(), y, wide(),
                    Into::set);
  }

  struct Out {
    T *dq, *dk, *dv, *dweight;
  };

  void backward(const Heads<T>& dy, const Out& out) const {
    each_head([&](int64_t bh) {
      Tensor memory({2 * (rows() + cols()) * state()}, dtype_of<T>);
      T* const key = memory.mutable_data<T>();
      T *const own = key + cols() * state(), *const down = own + rows() * state(),
               *const dkey = down + rows() * state();
      key_states(bh, key);
      const T* const states = query_states(bh, key, own);
      parallel_for(0, rows(), grain(6 * block_q * state()), [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) query_block(bh, i, dy[bh], states, down, out);
      });
      const T* key_grads = down;
      if (weight != nullptr) {
        combine(cols(), rows(), {weights(bh), 1, cols()}, down, dkey);
        key_grads = dkey;
        if (out.dweight != nullptr) weight_gradients(bh, key, down, out.dweight);
      }
      if (out.dk != nullptr || out.dv != nullptr)
        panels(nk, block_k, [&](int64_t block, int64_t at, int64_t n) {
          key_panel(bh, at, n, key_grads + block * state(), out);
        });
    });
  }

  // dq of a query block, and the gradient of the state that it read.
  void query_block(int64_t bh, int64_t block, const Rows<T>& dy, const T* states, T* down,
                   const Out& out) const {
    Scratch<T> memory(kPanel * (3 * d + 3 * wide()) + 128);
    T *const f = memory.take(kPanel * d), *const y = memory.take(kPanel * wide()),
             *const g = memory.take(kPanel * wide()), *const gt = memory.take(kPanel * wide()),
             *const df = memory.take(kPanel * d);
    T* const ds = down + block * state();
    std::fill_n(ds, state(), T(0));
    const int64_t end = std::min((block + 1) * block_q, nq);
    for (int64_t at = block * block_q; at < end; at += kPanel) {
      const int64_t n = std::min(kPanel, end - at);
      numerators(bh, block, at, n, states, f, y);
      for (int64_t i = 0; i < n; ++i) {
        const T* const num = y + i * wide();
        const T den = num[d] + eps, inverse = den == 0 ? T(0) : T(1) / den;
        const T* const in = dy.row(at + i);
        T* const line = g + i * wide();
        T dot = 0;
        for (int64_t c = 0; c < d; ++c) {
          line[c] = in[c] * inverse;
          dot += line[c] * num[c];
        }
        line[d] = -dot * inverse;
        std::fill(line + d + 1, line + wide(), T(0));
      }
      tile_product<T>(d, wide(), n, {f, 1, d}, g, wide(), ds, wide(), Into::add);
      if (out.dq == nullptr) continue;
      pack_transposed(g, wide(), n, d + 1, T(1), gt, kPanel);
      tile_product<T>(d, padded<T>(n), d + 1, {states + block * state(), wide(), 1}, gt, kPanel, df,
                      kPanel, Into::set);
      for (int64_t i = 0; i < n; ++i)
        features_backward(f + i * d, df + i, kPanel, out.dq + (bh * nq + at + i) * d, d, map);
    }
  }

  // <gradient of what block I read, state of J>
  void weight_gradients(int64_t bh, const T* key, const T* down, T* dweight) const {
    parallel_for(0, rows(), grain(2 * cols() * state()), [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i)
        for (int64_t j = 0; j < cols(); ++j) {
          const T *const x = down + i * state(), *const y = key + j * state();
          T sum[16] = {};
          int64_t c = 0;
          for (; c + 16 <= state(); c += 16)
            for (int64_t l = 0; l < 16; ++l) sum[l] += x[c + l] * y[c + l];
          for (; c < state(); ++c) sum[0] += x[c] * y[c];
          for (int64_t l = 1; l < 16; ++l) sum[0] += sum[l];
          dweight[(bh * rows() + i) * cols() + j] = sum[0];
        }
    });
  }

  void key_panel(int64_t bh, int64_t at, int64_t n, const T* ds, const Out& out) const {
    Scratch<T> memory(kPanel * (2 * d + 3 * wide()) + 128);
    T *const f = memory.take(kPanel * d), *const x = memory.take(kPanel * wide()),
             *const xt = memory.take(kPanel * wide()), *const df = memory.take(kPanel * d),
             *const dx = memory.take(kPanel * wide());
    feature_rows(k[bh], at, n, f);
    if (out.dv != nullptr) {
      tile_product<T>(n, wide(), d, {f, d, 1}, ds, wide(), dx, wide(), Into::set);
      for (int64_t i = 0; i < n; ++i)
        std::copy_n(dx + i * wide(), d, out.dv + (bh * nk + at + i) * d);
    }
    if (out.dk == nullptr) return;
    value_rows(v[bh], at, n, x);
    pack_transposed(x, wide(), n, d + 1, T(1), xt, kPanel);
    tile_product<T>(d, padded<T>(n), d + 1, {ds, wide(), 1}, xt, kPanel, df, kPanel, Into::set);
    for (int64_t i = 0; i < n; ++i)
      features_backward(f + i * d, df + i, kPanel, out.dk + (bh * nk + at + i) * d, d, map);
  }
};

void linear_forward_cpu(Tensor& o, const Tensor& q_, const Tensor& k_, const Tensor& v_,
                        const LinearArgs& args) {
  if (q_.numel() == 0 || k_.numel() == 0) {
    o.fill_(0);
    return;
  }
  const Tensor q = compute_rows(q_), k = compute_rows(k_), v = compute_rows(v_);
  Tensor wide = o.dtype() == q.dtype() ? o : Tensor(o.shape(), q.dtype());
  visit<DType::f32, DType::f64>(q.dtype(), "linear attention", [&]<class T>() {
    Linear<T>(q, k, v, args).forward(wide.mutable_data<T>());
  });
  if (o.dtype() != q.dtype()) o.copy_(wide);
}

void linear_backward_cpu(LinearGrads& g, const Tensor& dy_, const Tensor& q_, const Tensor& k_,
                         const Tensor& v_, const LinearArgs& args) {
  if (q_.numel() == 0 || k_.numel() == 0) {
    for (Tensor* t : {&g.dq, &g.dk, &g.dv, &g.dweight})
      if (t->defined()) t->fill_(0);
    return;
  }
  const Tensor q = compute_rows(q_), k = compute_rows(k_), v = compute_rows(v_),
               dy = compute_rows(dy_);
  visit<DType::f32, DType::f64>(q.dtype(), "linear attention", [&]<class T>() {
    const auto out = [](Tensor& t) { return t.defined() ? t.mutable_data<T>() : nullptr; };
    Linear<T>(q, k, v, args)
        .backward(Heads<T>(dy), {out(g.dq), out(g.dk), out(g.dv), out(g.dweight)});
  });
}

}  // namespace

constinit Kernel<void(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v,
                      const LinearArgs& args)>
    kernel::linear_forward{"linear attention forward", linear_forward_cpu};
constinit Kernel<void(LinearGrads& grads, const Tensor& dy, const Tensor& q, const Tensor& k,
                      const Tensor& v, const LinearArgs& args)>
    kernel::linear_backward{"linear attention backward", linear_backward_cpu};

Tensor linear_forward(const Tensor& q, const Tensor& k, const Tensor& v, const LinearArgs& args) {
  Tensor o(q.shape(), q.dtype(), q.device());
  kernel::linear_forward(q.device(), o, q, k, v, args);
  return o;
}

}  // namespace tenun::attn
