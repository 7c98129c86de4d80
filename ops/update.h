// In-place updates of parameters: what optimizers, EMA and gradient clipping run on tensors of f32
// or f64. A call takes all parameters at once, which is one launch on a GPU. The tensors of an item
// are contiguous and of one shape; those of a call are on one device and of one dtype.
#pragma once
#include <span>

#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun {

/// AdamW (Loshchilov & Hutter 2019) as PyTorch computes it: p <- p - lr wd p; m, v <- moving
/// averages; p <- p - lr m / (1 - b1^k) / (sqrt(v) / sqrt(1 - b2^k) + eps), with k = step (from 1).
struct AdamWRates {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
};
struct AdamWItem {
  Tensor p, g, m, v;
  int64_t step = 1;
};
/// SGD as PyTorch: g += wd p; buf <- mu buf + (1 - dampening) g (g itself in the first step); g <-
/// g + mu buf (Nesterov) or buf; p <- p - lr g.
struct SgdRates {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false;
};
struct SgdItem {
  Tensor p, g, buf;  ///< buf undefined without momentum
  bool first = false;
};
struct EmaItem {
  Tensor average, p;
};

/// What multiplies the gradients first (loss scaling, clipping, accumulation).
struct GradientScale {
  double number;
  Tensor factor;  ///< f64 scalar beside the gradients, which the host need not know; undefined: 1
  GradientScale(double number_ = 1, Tensor factor_ = {})  // NOLINT(google-explicit-constructor)
      : number(number_), factor(std::move(factor_)) {}
};

namespace kernel {
extern Kernel<void(std::span<AdamWItem> items, const AdamWRates& r, const GradientScale& scale)>
    adamw;
extern Kernel<void(std::span<SgdItem> items, const SgdRates& r, const GradientScale& scale)> sgd;
/// average <- decay average + (1 - decay) p
extern Kernel<void(std::span<EmaItem> items, double decay)> ema;
/// sum = the squares of all, added in double over fixed chunks; also of bf16 and f16. An f64 scalar
/// on their device; at least one tensor.
extern Kernel<void(Tensor& sum, std::span<const Tensor> x)> square_sum;
}  // namespace kernel

/// The slot's result as a scalar of its own.
[[nodiscard]] Tensor square_sum(std::span<const Tensor> x);

}  // namespace tenun
