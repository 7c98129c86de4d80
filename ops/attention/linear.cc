// The linear branch: cuts tokens into panels of 64 and key blocks into states (linear_states.h),
// and hands them to the kernels (kernels/linear.cc).
#include "tenun/ops/attention/linear.h"

#include <algorithm>

#include "tenun/core/parallel.h"
#include "tenun/ops/attention/linear_states.h"
#include "tenun/ops/simd/isa.h"

namespace tenun::attn {
namespace {

template <class T>
struct Linear : LinearStates<T> {
  using States = LinearStates<T>;
  using Sums = typename States::Sums;
  using States::args, States::feature, States::d, States::heads, States::nq, States::nk,
      States::block_q, States::block_k, States::run, States::k, States::v;
  using States::cols, States::rows, States::state, States::wide, States::panels;
  Tokens<T> q;
  const T* gate;

  Linear(const Tensor& q_, const Tensor& k_, const Tensor& v_, const LinearArgs& args_)
      : States(q_, k_, v_, args_, q_.dtype() == DType::bf16),
        q(q_),
        gate(args_.gate.defined() ? args_.gate.template data<T>() : nullptr) {}

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
    this->each_head([&](int64_t bh) {
      Scratch<T> memory(cols() * state() + this->sum_room(rows()) + this->weight_room() + 64);
      T *const key = memory.take(cols() * state()), *const sums =
                                                        memory.take(this->sum_room(rows()));
      this->key_states(bh, key, sums, [](int64_t) {});
      const T* const w = this->weights(bh, memory.take(this->weight_room()));
      const Sums states = this->row_sums(bh, key, sums, w);
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
    this->each_head([&](int64_t bh) {
      Scratch<T> memory((cols() + rows()) * state() + this->sum_room(rows()) +
                        this->sum_room(cols()) + this->weight_room() + 128);
      T *const key = memory.take(cols() * state()), *const down = memory.take(rows() * state());
      T *const up_sums = memory.take(this->sum_room(rows())), *const sums = memory.take(
                                                                  this->sum_room(cols()));
      this->key_states(bh, key, up_sums, [](int64_t) {});
      const T* const w = this->weights(bh, memory.take(this->weight_room()));
      const Sums states = this->row_sums(bh, key, up_sums, w);
      parallel_for(0, rows(), grain(6 * std::min(block_q, nq) * state()),
                   [&](int64_t b, int64_t e) {
                     for (int64_t i = b; i < e; ++i)
                       query_block(bh, i, dy, states, down + i * state(), dq, dot, g.accumulate);
                   });
      if (g.dweight.defined()) weight_gradients(bh, key, down, g.dweight.mutable_data<T>());
      if (dk == nullptr && dv == nullptr) return;
      const Sums grads = this->column_sums(bh, down, sums, w);
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
