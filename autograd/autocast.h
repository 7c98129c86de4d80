// Mixed precision. While an Autocast guard lives, ops of policy Cast::low (matrix products,
// convolutions, attention) compute in bf16 or f16, and ops of policy Cast::f32 (losses, logarithms,
// variances) in f32. The casts are ordinary recorded ops, so f32 parameters get f32 gradients.
// Casts of parameters are cached in the guard: each is made once for each tape, however often it is
// used, and again after the parameter was written.
//
//   { Autocast guard(DType::bf16); loss = model(x); }   tape.backward(loss);
//
// Independently of the guard, ops of policy Cast::widest bring floating inputs of different dtypes
// to the widest of them. f64 inputs are never touched by Autocast. Conversion itself: cast(x,
// dtype).
#pragma once
#include <memory>

#include "tenun/autograd/var.h"

namespace tenun {

enum class Cast : uint8_t {
  keep,    ///< inputs as they are
  low,     ///< to the guard's 16-bit type
  f32,     ///< 16-bit inputs to f32
  widest,  ///< mixed floating inputs to the widest of them, with or without a guard
};

class Autocast {
 public:
  explicit Autocast(DType dtype);  ///< bf16 or f16; f32 switches an outer guard off
  ~Autocast();
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
  /// The 16-bit type of the innermost guard of this thread; f32 if there is none.
  [[nodiscard]] static DType dtype();

  struct Cache;
  /// The innermost guard's cached cast of a parameter; made on first use.
  [[nodiscard]] static Var cached(const Var& parameter, DType dtype);

 private:
  std::unique_ptr<Cache> cache_;
  Autocast* outer_;
  DType dtype_;
};

/// Converts the elements; the gradient is converted back. Floating types only where a gradient is
/// wanted.
[[nodiscard]] Var cast(const Var& x, DType dtype);

namespace detail {
void apply_cast_policy(Cast policy, std::span<Var> inputs);
}

}  // namespace tenun
