// An op is one struct: a name, forward, backward, and what backward needs as members.
//
//   struct Square {
//     static constexpr const char* name = "square";
//     Saved x;
//     Tensor forward(const Ctx& c, const Tensor& x_) { if (c.recording) x = x_; return ...; }
//     Grads<1> backward(const Ctx& c, const Tensor& dy) { return {...}; }       // 2 x dy
//   };
//   Var square(const Var& x) { return apply(Square{}, x); }
//
// Three forms are understood:
//   Tensor forward(Ctx, Tensor...)                        Grads<N> backward(Ctx, dy)
//   std::array<Tensor, M> forward(Ctx, Tensor...)         Grads<N> backward(Ctx, std::array<Tensor,
//   M> dy) std::vector<Tensor> forward(Ctx, span<const Tensor>)  std::vector<Tensor> backward(Ctx,
//   span<const Tensor> dy)
// (the last through apply_list: any number of inputs and outputs). An undefined Var is an optional
// argument that is not given; its Tensor is undefined too. An undefined gradient means "none";
// where an op has several outputs, dy of an output that nobody used is undefined. `static constexpr
// Cast cast` states what Autocast and mixed dtypes do to the inputs (autograd/autocast.h).
#pragma once
#include <array>
#include <chrono>
#include <concepts>
#include <span>
#include <vector>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"

namespace tenun {

template <size_t N>
using Grads = std::array<Tensor, N>;

namespace detail {

template <class F>
inline constexpr Cast cast_of = [] {
  if constexpr (requires { F::cast; })
    return F::cast;
  else
    return Cast::keep;
}();
template <class F>
inline constexpr bool always_records = [] {
  if constexpr (requires { F::records_always; })
    return F::records_always;
  else
    return false;
}();

template <class R>
struct OutputCount;
template <>
struct OutputCount<Tensor> {
  static constexpr size_t value = 1;
};
template <size_t M>
struct OutputCount<std::array<Tensor, M>> {
  static constexpr size_t value = M;
};

template <class F, size_t N, size_t M>
struct FixedNode final : Node {
  F f;
  explicit FixedNode(F&& op) : f(std::move(op)) {}
  const char* name() const override { return F::name; }
  void backward(const Ctx& ctx, std::span<const Tensor> dy, std::span<Tensor> dx) override {
    Grads<N> g;
    if constexpr (M == 1) {
      if constexpr (requires { f.backward(ctx, dy[0]); }) {
        g = f.backward(ctx, dy[0]);
      } else {
        g = f.backward(ctx, std::array<Tensor, 1>{dy[0]});
      }
    } else {
      std::array<Tensor, M> all;
      for (size_t i = 0; i < M; ++i) all[i] = dy[i];
      g = f.backward(ctx, all);
    }
    for (size_t i = 0; i < N; ++i) dx[i] = std::move(g[i]);
  }
};

template <class F>
struct ListNode final : Node {
  F f;
  explicit ListNode(F&& op) : f(std::move(op)) {}
  const char* name() const override { return F::name; }
  bool always() const override { return always_records<F>; }
  void backward(const Ctx& ctx, std::span<const Tensor> dy, std::span<Tensor> dx) override {
    std::vector<Tensor> g = f.backward(ctx, dy);
    for (size_t i = 0; i < g.size() && i < dx.size(); ++i) dx[i] = std::move(g[i]);
  }
};

/// Common frame of the apply functions: casts, context, timing, anomaly check, recording.
class Recorder {
 public:
  Recorder(const char* name, Cast cast, bool always, std::span<Var> inputs);
  [[nodiscard]] const Ctx& ctx() const { return ctx_; }
  [[nodiscard]] bool recording() const { return ctx_.recording; }
  void finish(std::span<const Tensor> outputs);
  void record(std::unique_ptr<Node> node, std::span<const Var> inputs, std::span<Var> outputs);

 private:
  const char* name_;
  Tape* tape_;
  Ctx ctx_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace detail

/// What an op struct must offer.
template <class F, class... T>
concept Function = requires(F f, const Ctx& c, const T&... x) {
  { F::name } -> std::convertible_to<const char*>;
  f.forward(c, x...);
  &F::backward;
};

template <class F, std::same_as<Var>... V>
requires Function<F, std::conditional_t<true, Tensor, V>...>
auto apply(F f, const V&... args) {
  constexpr size_t kInputs = sizeof...(V);
  std::array<Var, kInputs> in{args...};
  detail::Recorder frame(F::name, detail::cast_of<F>, detail::always_records<F>, in);
  auto out = [&]<size_t... I>(std::index_sequence<I...>) {
    return f.forward(frame.ctx(), in[I].value()...);
  }
  (std::make_index_sequence<kInputs>{});
  using Out = decltype(out);
  constexpr size_t kOutputs = detail::OutputCount<Out>::value;
  std::array<Var, kOutputs> vars;
  if constexpr (std::is_same_v<Out, Tensor>) {
    frame.finish({&out, 1});
    vars[0] = Var(std::move(out));
  } else {
    frame.finish(out);
    for (size_t i = 0; i < kOutputs; ++i) vars[i] = Var(std::move(out[i]));
  }
  if (frame.recording())
    frame.record(std::make_unique<detail::FixedNode<F, kInputs, kOutputs>>(std::move(f)), in, vars);
  if constexpr (std::is_same_v<Out, Tensor>)
    return vars[0];
  else
    return vars;
}

/// The form with any number of inputs and outputs.
template <class F>
std::vector<Var> apply_list(F f, std::vector<Var> in) {
  detail::Recorder frame(F::name, detail::cast_of<F>, detail::always_records<F>, in);
  std::vector<Tensor> values;
  values.reserve(in.size());
  for (const Var& v : in) values.push_back(v.value());
  std::vector<Tensor> out = f.forward(frame.ctx(), std::span<const Tensor>(values));
  frame.finish(out);
  std::vector<Var> vars;
  vars.reserve(out.size());
  for (Tensor& t : out) vars.emplace_back(std::move(t));
  if (frame.recording())
    frame.record(std::make_unique<detail::ListNode<F>>(std::move(f)), in, vars);
  return vars;
}

}  // namespace tenun
