// What the passes over the linear branch share: one state for each key block, and the sum of
// states that a query block reads (in the backward pass also the other way round). Three ways to
// that sum:
//   all keys        one sum
//   block lists     the total minus the listed states: at N = 16384 and 3 % listed (7 of 256) it
//                   takes 0.3 ms a head where the product with the 0/1 mask takes 2.7 ms;
//                   break-even near a quarter of the blocks, above which, and for relu, whose
//                   states may be exactly 0, the mask product is taken
//   block weights   a product of weights and states
// An infinity or NaN in a listed block cannot be subtracted: heads that have one add up the blocks
// that are not listed. Internal to linear.cc and sparse_linear_forward.cc.
#pragma once
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/linear.h"
#include "tenun/ops/attention/token_rows.h"

namespace tenun::attn {

/// Of the key blocks whose states are summed.
enum class StateRange { all, lists, weights };

template <class T>
struct LinearStates {
  Tokens<T> k, v;
  int64_t heads, nq, nk, d;
  const LinearArgs& args;
  StateRange range;
  int64_t block_q, block_k;
  bool apart;  ///< heads are tasks of their own
  simd::Feature feature;
  const simd::LinearKernels<T>& run;

  // low: products of the forward pass in bf16.
  LinearStates(const Tensor& q, const Tensor& k_, const Tensor& v_, const LinearArgs& args_,
               bool low)
      : k(k_),
        v(v_),
        heads(q.dim(0) * q.dim(1)),
        nq(q.dim(2)),
        nk(k_.dim(2)),
        d(q.dim(3)),
        args(args_),
        range(args.weight.defined()           ? StateRange::weights
              : args.lists == nullptr         ? StateRange::all
              : subtraction_pays(*args.lists) ? StateRange::lists
                                              : StateRange::weights),
        block_q(range == StateRange::all && !args.gate.defined() ? 4 * kPanel : args.block_q),
        block_k(range == StateRange::all && !args.gate.defined() ? 4 * kPanel : args.block_k),
        apart(grain(4 * (nq + nk) * state()) == 1 &&
              (heads % num_threads() == 0 || heads >= 4 * num_threads())),
        feature(args.feature_map == FeatureMap::softmax ? simd::Feature::softmax
                : args.feature_map == FeatureMap::elu   ? simd::Feature::elu
                                                        : simd::Feature::relu),
        run(kernels(low)) {}

  static const simd::LinearKernels<T>& kernels(bool low) {
    if constexpr (std::is_same_v<T, float>)
      return low ? simd::linear_kernels().low : simd::linear_kernels().f32;
    else
      return simd::linear_kernels().f64;
  }
  [[nodiscard]] int64_t wide() const { return simd::pad<T>(d); }
  [[nodiscard]] int64_t state() const { return simd::state_size<T>(d); }
  [[nodiscard]] int64_t rows() const { return blocks(nq, block_q); }
  [[nodiscard]] int64_t cols() const { return blocks(nk, block_k); }
  [[nodiscard]] bool subtraction_pays(const BlockLists& lists) const {
    const int64_t pairs = heads * blocks(nq, args.block_q) * blocks(nk, args.block_k);
    return args.feature_map != FeatureMap::relu && 4 * lists.row_index.numel() <= pairs;
  }
  [[nodiscard]] bool listed() const { return args.lists != nullptr && !args.weight.defined(); }

  // Large heads that keep all threads busy are a task each, and the inner loops run inside it, in
  // order. Otherwise the inner loops are shared, head by head. The sums are the same ones.
  template <class F>
  void each_head(F&& f) const {
    parallel_for(0, heads, apart ? 1 : heads, [&](int64_t b, int64_t e) {
      for (int64_t bh = b; bh < e; ++bh) f(bh);
    });
  }
  // Calls f(first, count) for the panels of a block.
  template <class F>
  static void panels(int64_t block, int64_t size, int64_t n, F&& f) {
    const int64_t end = std::min((block + 1) * size, n);
    for (int64_t at = block * size; at < end; at += kPanel) f(at, std::min(kPanel, end - at));
  }

  // The states of a head's key blocks, and their sum if that is wanted; seen(block) once a block
  // was read.
  template <class F>
  void key_states(int64_t bh, T* out, T* sum, F&& seen) const {
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
        seen(j);
        if (apart && wants_total()) add_to_total(j == 0, a.state, sum);  // blocks come in order
      }
    });
    if (!apart && wants_total())
      for (int64_t j = 0; j < cols(); ++j) add_to_total(j == 0, out + j * state(), sum);
    if (cols() == 0) std::fill_n(sum, state(), T(0));
  }
  [[nodiscard]] bool wants_total() const { return range != StateRange::weights || listed(); }
  void add_to_total(bool first, const T* one, T* sum) const {
    constexpr int32_t kOnly = 0;
    run.combine(first ? nullptr : sum, one, &kOnly, 1, T(1), state(), sum);
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
  // The weights of a head; those of lists are written to `room`.
  const T* weights(int64_t bh, T* room) const {
    if (range != StateRange::weights) return nullptr;
    if (!listed()) return args.weight.template data<T>() + bh * rows() * cols();
    std::fill_n(room, rows() * cols(), T(1));
    const int64_t* const start = args.lists->row_start.template data<int64_t>() + bh * rows();
    const int32_t* const index = args.lists->row_index.template data<int32_t>();
    for (int64_t i = 0; i < rows(); ++i)
      for (int64_t at = start[i]; at < start[i + 1]; ++at) room[i * cols() + index[at]] = 0;
    return room;
  }
  [[nodiscard]] int64_t weight_room() const {
    return range == StateRange::weights && listed() ? rows() * cols() : 0;
  }
  // For the sums of a head over n blocks.
  [[nodiscard]] int64_t sum_room(int64_t n) const {
    return range == StateRange::weights ? n * state() : state();
  }

  // Sums of states for every block of one axis: of those that it does not list, or weighted.
  struct Sums {
    const LinearStates& l;
    const T* states;
    int64_t count;
    const int64_t* start;
    const int32_t* index;
    const T* sums;  // the total, or all sums
    enum class Way { total, subtract, add, made } way;

    // The states that the sum of block i will be made of, where that is worth knowing.
    [[nodiscard]] std::span<const int32_t> needed(int64_t i) const {
      if (way != Way::subtract) return {};
      return {index + start[i], static_cast<size_t>(start[i + 1] - start[i])};
    }
    // The sum of block i; `room` holds one state.
    const T* of(int64_t i, T* room) const {
      if (way == Way::total) return sums;
      if (way == Way::made) return sums + i * l.state();
      const int64_t n = start[i + 1] - start[i];
      if (way == Way::subtract && 2 * n <= count) {
        l.run.combine(sums, states, index + start[i], n, T(-1), l.state(), room);
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
  // What the query blocks read of `states`; `room`: sum_room(rows()) that begins with the states'
  // total where wants_total(); w: weights().
  Sums row_sums(int64_t bh, const T* states, T* room, const T* w) const {
    Sums s{*this, states, cols(), nullptr, nullptr, room, Sums::Way::total};
    if (listed())
      s.start = args.lists->row_start.template data<int64_t>() + bh * rows(),
      s.index = args.lists->row_index.template data<int32_t>();
    return add_up(s, rows(), {w, cols(), 1}, room);
  }
  // What the key blocks get of the query blocks' `states`; `room`: sum_room(cols()).
  Sums column_sums(int64_t bh, const T* states, T* room, const T* w) const {
    for (int64_t i = 0; i < rows() && wants_total(); ++i)
      add_to_total(i == 0, states + i * state(), room);
    Sums s{*this, states, rows(), nullptr, nullptr, room, Sums::Way::total};
    if (listed())
      s.start = args.lists->col_start.template data<int64_t>() + bh * cols(),
      s.index = args.lists->col_index.template data<int32_t>();
    return add_up(s, cols(), {w, 1, cols()}, room);
  }

 private:
  Sums add_up(Sums s, int64_t to, simd::Strided<T> w, T* room) const {
    using Way = typename Sums::Way;
    if (range == StateRange::weights && !listed()) {
      combine(to, s.count, w, s.states, room);
      s.way = Way::made;
      return s;
    }
    if (range == StateRange::all) return s;
    const bool finite = std::all_of(room, room + state(), [](T x) { return std::isfinite(x); });
    s.way = !finite ? Way::add : range == StateRange::lists ? Way::subtract : Way::made;
    if (s.way == Way::made) combine(to, s.count, w, s.states, room);
    return s;
  }
};

}  // namespace tenun::attn
