// The linear branch: cuts tokens into panels of 64 and key blocks into states, and hands them to
// the kernels (kernels/linear.cc). Three ways to the state that a query block reads:
//   all keys        one sum
//   block lists     the total minus the listed states: at N = 16384 and 3 % listed (7 of 256) 0.3
//   ms
//                   a head where the product with the 0/1 mask takes 2.7 ms; break-even near a
//                   quarter of the blocks, above which, and for relu, whose states may be exactly
//                   0, the mask product is taken
//   block weights   a product of weights and states
#include "tenun/ops/attention/linear.h"

#include <algorithm>
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/kernels/kernels.h"
#include "tenun/ops/attention/kernels/linear_kernels.h"
#include "tenun/ops/attention/token_rows.h"
#include "tenun/ops/simd/isa.h"

namespace tenun::attn {
namespace {

using simd::kPanel;
using simd::TokenRows;

template <class T>
const simd::LinearKernels<T>& kernels(DType inputs) {
  if constexpr (std::is_same_v<T, float>)
    return inputs == DType::bf16 ? simd::linear_kernels().low : simd::linear_kernels().f32;
  else
    return simd::linear_kernels().f64;
}

simd::Feature feature_of(FeatureMap map) {
  return map == FeatureMap::softmax ? simd::Feature::softmax
         : map == FeatureMap::elu   ? simd::Feature::elu
                                    : simd::Feature::relu;
}

enum class Range { all, lists, weights };

template <class T>
struct Linear {
  Tokens<T> q, k, v;
  int64_t heads, nq, nk, d;
  const LinearArgs& args;
  Range range;
  int64_t block_q, block_k;
  const T* gate;
  simd::Feature feature;
  const simd::LinearKernels<T>& run;

  Linear(const Tensor& q_, const Tensor& k_, const Tensor& v_, const LinearArgs& args_)
      : q(q_),
        k(k_),
        v(v_),
        heads(q_.dim(0) * q_.dim(1)),
        nq(q_.dim(2)),
        nk(k_.dim(2)),
        d(q_.dim(3)),
        args(args_),
        range(args.weight.defined()           ? Range::weights
              : args.lists == nullptr         ? Range::all
              : subtraction_pays(*args.lists) ? Range::lists
                                              : Range::weights),
        block_q(range == Range::all && !args.gate.defined() ? 4 * kPanel : args.block_q),
        block_k(range == Range::all ? 4 * kPanel : args.block_k),
        gate(args.gate.defined() ? args.gate.data<T>() : nullptr),
        feature(feature_of(args.feature_map)),
        run(kernels<T>(q_.dtype())) {}

  [[nodiscard]] int64_t wide() const { return simd::pad<T>(d); }
  [[nodiscard]] int64_t state() const { return simd::state_size<T>(d); }
  [[nodiscard]] int64_t rows() const { return blocks(nq, block_q); }
  [[nodiscard]] int64_t cols() const { return blocks(nk, block_k); }
  [[nodiscard]] bool subtraction_pays(const BlockLists& lists) const {
    const int64_t pairs = heads * blocks(nq, args.block_q) * blocks(nk, args.block_k);
    return args.feature_map != FeatureMap::relu && 4 * lists.row_index.numel() <= pairs;
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
  // Calls f(first, count) for the panels of a block.
  template <class F>
  static void panels(int64_t block, int64_t size, int64_t n, F&& f) {
    const int64_t end = std::min((block + 1) * size, n);
    for (int64_t at = block * size; at < end; at += kPanel) f(at, std::min(kPanel, end - at));
  }

  void key_states(int64_t bh, T* out) const {
    parallel_for(0, cols(), grain(2 * block_k * state()), [&](int64_t b, int64_t e) {
      Scratch<T> memory(320 * wide() + 2 * kPanel * d + 64);
      T *const kx = memory.take(kPanel * d), *const vx = memory.take(kPanel * d);
      simd::LinearKeys<T> a{};
      a.feature = feature, a.d = d, a.scratch = memory.take(320 * wide());
      for (int64_t j = b; j < e; ++j) {
        a.state = out + j * state();
        a.first = true;
        panels(j, block_k, nk, [&](int64_t at, int64_t n) {
          a.k = k.rows(bh, at, n, kx), a.v = v.rows(bh, at, n, vx);
          run.add_state(a);
          a.first = false;
        });
      }
    });
  }

  // out[a] = sum over b of w(a, b) in[b], for states.
  void combine(int64_t to, int64_t from, simd::Strided<T> w, const T* in, T* out) const {
    const int64_t columns = std::max<int64_t>(512, grain(2 * to * from) / 16 * 16);
    const simd::ProductKernels& product = simd::product_kernels();
    parallel_for(0, state(), columns, [&](int64_t b, int64_t e) {
      if constexpr (std::is_same_v<T, float>)
        product.f32(to, e - b, from, w, in + b, state(), out + b, state(), simd::Into::set);
      else
        product.f64(to, e - b, from, w, in + b, state(), out + b, state(), simd::Into::set);
    });
  }
  // Sum of n states, a few at a time: the sum stays in the cache, and each state is read in order.
  void total(const T* states, int64_t n, T* out) const {
    const int32_t all[] = {0, 1, 2, 3};
    for (int64_t i = 0; i < n; i += 4)
      run.combine(i == 0 ? nullptr : out, states + i * state(), all, std::min<int64_t>(4, n - i),
                  T(1), state(), out);
  }
  // The weights of a head; those of lists are written to `room`.
  const T* weights(int64_t bh, T* room) const {
    if (args.lists == nullptr) return args.weight.template data<T>() + bh * rows() * cols();
    std::fill_n(room, rows() * cols(), T(1));
    const int64_t* const start = args.lists->row_start.template data<int64_t>() + bh * rows();
    const int32_t* const index = args.lists->row_index.template data<int32_t>();
    for (int64_t i = 0; i < rows(); ++i)
      for (int64_t at = start[i]; at < start[i + 1]; ++at) room[i * cols() + index[at]] = 0;
    return room;
  }

  // Sums of states for every block of one axis: of those that it does not list, or weighted.
  struct Sums {
    const Linear& l;
    Range range;
    const T* states;
    int64_t count;
    const T* total;
    const int64_t* start;
    const int32_t* index;
    const T* weighted;  // all sums

    // The sum of block i; `room` holds one state.
    const T* of(int64_t i, T* room) const {
      if (range == Range::all) return total;
      if (range == Range::weights) return weighted + i * l.state();
      const int64_t listed = start[i + 1] - start[i];
      if (2 * listed <= count) {
        l.run.combine(total, states, index + start[i], listed, T(-1), l.state(), room);
        return room;
      }
      std::vector<int32_t> others;
      for (int64_t j = 0, at = start[i]; j < count; ++j)
        if (at < start[i + 1] && index[at] == j)
          ++at;
        else
          others.push_back(static_cast<int32_t>(j));
      l.run.combine(nullptr, states, others.data(), static_cast<int64_t>(others.size()), T(1),
                    l.state(), room);
      return room;
    }
  };
  Sums row_sums(int64_t bh, const T* key, T* room, const T* w) const {
    Sums s{*this, range, key, cols(), room, nullptr, nullptr, room};
    if (range == Range::weights)
      combine(rows(), cols(), {w, cols(), 1}, key, room);
    else
      total(key, cols(), room);
    if (range != Range::lists) return s;
    s.start = args.lists->row_start.template data<int64_t>() + bh * rows();
    s.index = args.lists->row_index.template data<int32_t>();
    return s;
  }
  Sums column_sums(int64_t bh, const T* down, T* room, const T* w) const {
    Sums s{*this, range, down, rows(), room, nullptr, nullptr, room};
    if (range == Range::weights)
      combine(cols(), rows(), {w, 1, cols()}, down, room);
    else
      total(down, rows(), room);
    if (range != Range::lists) return s;
    s.start = args.lists->col_start.template data<int64_t>() + bh * cols();
    s.index = args.lists->col_index.template data<int32_t>();
    return s;
  }
  [[nodiscard]] int64_t weight_room() const {
    return range == Range::weights && args.lists != nullptr ? rows() * cols() : 0;
  }
  [[nodiscard]] int64_t sum_room(int64_t n) const {
    return range == Range::weights ? n * state() : state();
  }

  simd::LinearQuery<T> query_of(Scratch<T>& memory) const {
    simd::LinearQuery<T> a{};
    a.feature = feature, a.eps = static_cast<T>(args.eps), a.d = d;
    a.scratch = memory.take(simd::linear_query_scratch(wide()));
    return a;
  }
  [[nodiscard]] int64_t query_room() const {
    return simd::linear_query_scratch(wide()) + state() + 2 * kPanel * d + 192;
  }

  // o holds T, or bf16 that is widened and rounded again while its panel is at hand.
  template <class Out>
  void forward(Out* o) const {
    each_head([&](int64_t bh) {
      Scratch<T> memory(cols() * state() + sum_room(rows()) + weight_room() + 64);
      T *const key = memory.take(cols() * state()), *const sums = memory.take(sum_room(rows()));
      key_states(bh, key);
      const T* const w =
          range == Range::weights ? weights(bh, memory.take(weight_room())) : nullptr;
      const Sums states = row_sums(bh, key, sums, w);
      const int64_t flops = 2 * std::min(block_q, nq) * state();
      parallel_for(0, rows(), grain(flops), [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) mix_block(bh, i, states, o + bh * nq * d);
      });
    });
  }
  template <class Out>
  void mix_block(int64_t bh, int64_t i, const Sums& states, Out* o) const {
    Scratch<T> own(query_room());
    simd::LinearQuery<T> a = query_of(own);
    T *const room = own.take(state()), *const qx = own.take(kPanel * d),
             *const ox = own.take(kPanel * d);
    a.gate = gate == nullptr ? T(0) : gate[bh * rows() + i];
    if (a.gate == 1) return;  // and no NaN of this branch comes through
    a.state = states.of(i, room);
    panels(i, block_q, nq, [&](int64_t at, int64_t n) {
      a.q = q.rows(bh, at, n, qx);
      Out* const to = o + at * d;
      if constexpr (std::is_same_v<Out, T>) {
        a.o = to;
        run.query(a);
      } else {
        a.o = ox;
        const simd::PackKernels& pack = simd::pack_kernels();
        auto* const bits = reinterpret_cast<uint16_t*>(to);
        if (a.gate != 0) pack.widen(bits, d, n, d, ox);
        run.query(a);
        pack.narrow(ox, n * d, bits);
      }
    });
  }

  void backward(const Tokens<T>& dy, LinearGrads& g) const {
    const auto out = [](Tensor& t) { return t.defined() ? t.mutable_data<T>() : nullptr; };
    T *const dq = out(g.dq), *const dk = out(g.dk), *const dv = out(g.dv), *const dot = out(g.dot);
    each_head([&](int64_t bh) {
      Scratch<T> memory((cols() + rows()) * state() + sum_room(rows()) + sum_room(cols()) +
                        weight_room() + 128);
      T *const key = memory.take(cols() * state()), *const down = memory.take(rows() * state());
      T *const up_sums = memory.take(sum_room(rows())), *const sums = memory.take(sum_room(cols()));
      key_states(bh, key);
      const T* const w =
          range == Range::weights ? weights(bh, memory.take(weight_room())) : nullptr;
      const Sums states = row_sums(bh, key, up_sums, w);
      parallel_for(0, rows(), grain(6 * std::min(block_q, nq) * state()),
                   [&](int64_t b, int64_t e) {
                     for (int64_t i = b; i < e; ++i)
                       query_block(bh, i, dy, states, down + i * state(), dq, dot, g.accumulate);
                   });
      if (g.dweight.defined()) weight_gradients(bh, key, down, g.dweight.mutable_data<T>());
      if (dk == nullptr && dv == nullptr) return;
      const Sums grads = column_sums(bh, down, sums, w);
      parallel_for(0, cols(), grain(4 * std::min(block_k, nk) * state()),
                   [&](int64_t b, int64_t e) {
                     for (int64_t j = b; j < e; ++j) key_block(bh, j, grads, dk, dv, g.accumulate);
                   });
    });
  }

  // dq of a query block, and the gradient of the state that it read.
  void query_block(int64_t bh, int64_t i, const Tokens<T>& dy, const Sums& states, T* down, T* dq,
                   T* dot, bool accumulate) const {
    Scratch<T> own(query_room());
    simd::LinearQuery<T> a = query_of(own);
    T *const room = own.take(state()), *const qx = own.take(kPanel * d),
             *const yx = own.take(kPanel * d);
    std::fill_n(down, state(), T(0));
    a.gate = gate == nullptr ? T(0) : gate[bh * rows() + i];
    if (a.gate != 1) a.state = states.of(i, room);
    a.dstate = down;
    panels(i, block_q, nq, [&](int64_t at, int64_t n) {
      const int64_t first = bh * nq + at;
      if (dq != nullptr && !accumulate) std::fill_n(dq + first * d, n * d, T(0));
      a.dot = dot != nullptr ? dot + first : nullptr;
      if (a.gate == 1) {
        if (dot != nullptr) std::fill_n(a.dot, n, T(0));
        return;
      }
      a.q = q.rows(bh, at, n, qx), a.dy = dy.rows(bh, at, n, yx);
      a.dq = dq != nullptr ? dq + first * d : nullptr;
      run.query_backward(a);
    });
  }

  void key_block(int64_t bh, int64_t j, const Sums& grads, T* dk, T* dv, bool accumulate) const {
    Scratch<T> own(320 * wide() + state() + wide() * wide() + 2 * kPanel * d + 128);
    T *const kx = own.take(kPanel * d), *const vx = own.take(kPanel * d);
    T *const turned = own.take(wide() * wide()), *const room = own.take(state());
    simd::LinearKeys<T> a{};
    a.feature = feature, a.d = d;
    a.scratch = own.take(320 * wide());
    a.dstate = grads.of(j, room);
    std::fill_n(turned, wide() * wide(), T(0));
    if constexpr (std::is_same_v<T, float>)
      simd::product_kernels().transpose_f32(a.dstate, wide(), d, d, turned, wide());
    else
      simd::product_kernels().transpose_f64(a.dstate, wide(), d, d, turned, wide());
    a.dstate_transposed = turned;
    panels(j, block_k, nk, [&](int64_t at, int64_t n) {
      const int64_t first = (bh * nk + at) * d;
      a.dk = dk != nullptr ? dk + first : nullptr;
      a.dv = dv != nullptr ? dv + first : nullptr;
      for (T* x : {a.dk, a.dv})
        if (x != nullptr && !accumulate) std::fill_n(x, n * d, T(0));
      a.k = k.rows(bh, at, n, kx), a.v = v.rows(bh, at, n, vx);
      run.key_backward(a);
    });
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
};

void linear_forward_cpu(Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v,
                        const LinearArgs& args) {
  if (q.numel() == 0 || k.numel() == 0) {
    o.fill_(0);
    return;
  }
  visit<DType::f32, DType::f64>(compute_dtype(q.dtype()), "linear attention", [&]<class T>() {
    const Linear<T> linear(q, k, v, args);
    if constexpr (std::is_same_v<T, float>)
      if (o.dtype() == DType::bf16) return linear.forward(o.mutable_data<bf16>());
    if (o.dtype() == dtype_of<T>) return linear.forward(o.mutable_data<T>());
    Tensor wide = o.to(dtype_of<T>);
    linear.forward(wide.mutable_data<T>());
    o.copy_(wide);
  });
}

void linear_backward_cpu(LinearGrads& g, const Tensor& dy, const Tensor& q, const Tensor& k,
                         const Tensor& v, const LinearArgs& args) {
  if (q.numel() == 0 || k.numel() == 0) {
    for (Tensor* t : {&g.dq, &g.dk, &g.dv, &g.dweight, &g.dot})
      if (t->defined() && !(g.accumulate && t != &g.dweight && t != &g.dot)) t->fill_(0);
    return;
  }
  visit<DType::f32, DType::f64>(compute_dtype(q.dtype()), "linear attention", [&]<class T>() {
    Linear<T>(q, k, v, args).backward(Tokens<T>(dy), g);
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
