// In-place updates of parameters: what optimizers, EMA and gradient clipping run on tensors of f32
// or f64. All tensors of one call are contiguous and of one shape and dtype.
#pragma once
#include "tenun/core/kernel.h"
#include "tenun/core/tensor.h"

namespace tenun {

/// AdamW (Loshchilov & Hutter 2019) as PyTorch computes it: p <- p - lr wd p; m, v <- moving
/// averages; p <- p - lr m / (1 - b1^k) / (sqrt(v) / sqrt(1 - b2^k) + eps), with k = step (from 1).
struct AdamWStep {
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  int64_t step = 1;
};
/// SGD as PyTorch: g += wd p; buf <- mu buf + (1 - dampening) g (g itself in the first step); g <-
/// g + mu buf (Nesterov) or buf; p <- p - lr g.
struct SgdStep {
  double lr = 1e-3, momentum = 0, dampening = 0, weight_decay = 0;
  bool nesterov = false, first = false;
};

namespace kernel {
/// `scale` multiplies the gradient first (loss scaling, clipping, accumulation).
extern Kernel<void(Tensor& p, const Tensor& g, Tensor& m, Tensor& v, const AdamWStep& s,
                   double scale)>
    adamw;
/// `buf` undefined without momentum.
extern Kernel<void(Tensor& p, const Tensor& g, Tensor& buf, const SgdStep& s, double scale)> sgd;
/// average <- decay average + (1 - decay) p
extern Kernel<void(Tensor& average, const Tensor& p, double decay)> ema;
/// Sum of squares, in double over fixed chunks.
extern Kernel<double(const Tensor& x)> square_sum;
/// x <- factor x
extern Kernel<void(Tensor& x, double factor)> scale;
}  // namespace kernel

}  // namespace tenun
