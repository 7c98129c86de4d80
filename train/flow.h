// Flow matching on images (Lipman et al. 2023; JiT, arXiv 2511.13720). t = 0 is noise, t = 1 is
// data:
//   x_t = t x + (1 - t) noise_scale eps,  eps ~ N(0, 1)
// The network predicts the image; the loss compares velocities:
//   v_hat = (pred - x_t) / max(1 - t, t_eps),  v* = (x - x_t) / max(1 - t, t_eps)  (or unclamped),
//   loss = mean over all elements of (v_hat - v*)^2.
// x, x_t, pred (B, C, H, W); t (B) in f32 or f64.
#pragma once
#include <span>

#include "tenun/autograd/var.h"
#include "tenun/core/random.h"
#include "tenun/train/config/options_model.h"

namespace tenun {

/// t of each sample: sigmoid(N(P_mean, P_std^2)) or uniform, then t / (t + (1 - t) timeshift).
/// Keyed by (seed, step, global sample index): a batch may be split without changing it.
[[nodiscard]] Tensor sample_times(std::span<const uint64_t> samples, uint64_t seed, uint64_t step,
                                  const FlowTrainerOptions& o);
/// Noise for a batch of `shape`, keyed likewise, on `device`.
[[nodiscard]] Tensor sample_noise(const Shape& shape, std::span<const uint64_t> samples,
                                  uint64_t seed, uint64_t step, double noise_scale,
                                  Device device = cpu());
/// t x + (1 - t) noise, per sample.
[[nodiscard]] Tensor interpolate(const Tensor& x, const Tensor& noise, const Tensor& t);
/// Labels of which a share `p` is replaced by `null_class` (classifier-free guidance).
[[nodiscard]] Tensor drop_classes(const Tensor& y, std::span<const uint64_t> samples, uint64_t seed,
                                  uint64_t step, double p, int64_t null_class);

struct FlowLossOptions {
  Prediction prediction = Prediction::image;
  double t_eps = 0.05;
  bool clamp_target = true;
};
/// The loss above; a scalar in f32 (f64 for f64). Gradient to `pred` only.
[[nodiscard]] Var flow_matching_loss(const Var& pred, const Tensor& x, const Tensor& x_t,
                                     const Tensor& t, const FlowLossOptions& o);

}  // namespace tenun
