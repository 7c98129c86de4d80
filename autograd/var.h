// Var: a tensor that may want a gradient. Tensor converts to Var implicitly (a constant).
//
//   Var w = Var::parameter(Tensor::zeros({3, 2}));
//   Tape tape;
//   Var loss = mean(matmul(x, w));
//   tape.backward(loss);
//   w.grad();                       // same shape and dtype as w
//
// A Var is a handle: copies share value and gradient. Gradients of parameters add up over backward
// passes until zero_grad(). There are no second derivatives: backward code works on Tensor.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "tenun/core/tensor.h"

namespace tenun {

/// Where a gradient lands.
struct Slot {
  Tensor grad;
  bool leaf = false;
  std::vector<std::function<Tensor(const Tensor&)>> hooks;  ///< each may replace the gradient
};

class Var {
 public:
  Var() = default;  // undefined: an optional argument that is not given
  Var(Tensor value) : value_(std::move(value)) {}  // NOLINT: a constant, implicit on purpose
  /// A leaf that wants a gradient.
  [[nodiscard]] static Var parameter(Tensor value);

  [[nodiscard]] bool defined() const { return value_.defined(); }
  [[nodiscard]] const Tensor& value() const { return value_; }
  [[nodiscard]] Tensor& mutable_value() { return value_; }  ///< for optimizers and loaders
  [[nodiscard]] const Shape& shape() const { return value_.shape(); }
  [[nodiscard]] int64_t dim(int axis) const { return value_.dim(axis); }
  [[nodiscard]] int rank() const { return value_.rank(); }
  [[nodiscard]] int64_t numel() const { return value_.numel(); }
  [[nodiscard]] DType dtype() const { return value_.dtype(); }
  [[nodiscard]] Device device() const { return value_.device(); }

  [[nodiscard]] bool requires_grad() const { return slot_ != nullptr; }
  [[nodiscard]] bool is_leaf() const { return slot_ == nullptr || slot_->leaf; }
  /// The gradient that has arrived; undefined if none has.
  [[nodiscard]] const Tensor& grad() const;
  void zero_grad();
  void set_grad(Tensor g);
  /// The same value, cut off from the tape.
  [[nodiscard]] Var detach() const { return Var(value_); }
  /// Called with the complete gradient when backward has it; what it returns takes its place
  /// (an undefined tensor leaves it as it is).
  void on_grad(std::function<Tensor(const Tensor&)> hook);

  [[nodiscard]] const std::shared_ptr<Slot>& slot() const { return slot_; }
  [[nodiscard]] static Var with_slot(Tensor value, std::shared_ptr<Slot> slot);

 private:
  Tensor value_;
  std::shared_ptr<Slot> slot_;  // empty: a constant
};

}  // namespace tenun
