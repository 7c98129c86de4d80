// Samplers: from noise (t = 0) to an image (t = 1) along the velocity field of a network, with
// classifier-free guidance on an interval of t (Kynkaanniemi et al. 2024). Heun and Euler as
// PixelGen and JiT use them, and Adams-Bashforth of orders 1 to 4 by exact Lagrange integration.
//
//   SampleResult r = sample(config.model.diffusion_sampler, net, noise, cond, uncond);
//
// The network maps (x (2B,C,H,W), t (2B), labels (2B)) to a prediction of x's shape; the doubled
// batch holds the unconditional half first. Guidance acts for min < t <= max (Adams: t < max) at
// the start of an interval; grid and bounds are compared in f32, in which 5/50 equals 0.1. Runs
// under NoGrad.
#pragma once
#include <functional>
#include <vector>

#include "tenun/core/tensor.h"
#include "tenun/train/config/options_model.h"

namespace tenun {

using Denoiser = std::function<Tensor(const Tensor& x, const Tensor& t, const Tensor& labels)>;

struct SampleOptions {
  std::function<bool(int64_t done, int64_t total)>
      progress{};  ///< after every evaluation; false stops (Error "stopped")
  bool keep_trajectory = false;
};
struct SampleResult {
  Tensor x;
  int64_t evaluations = 0;         ///< of the doubled batch
  std::vector<Tensor> trajectory;  ///< num_steps + 1 states, the noise first
};

/// s = linspace(0, 1 - last, n) and 1, then s / (s + (1 - s) shift): n + 1 times.
[[nodiscard]] std::vector<double> time_grid(int64_t num_steps, double timeshift, double last_step);
/// Adams-Bashforth weights (they sum to 1, newest last) for the interval times[i] -> times[i+1].
[[nodiscard]] std::vector<double> adams_weights(const std::vector<double>& times, int64_t i,
                                                int64_t order);

/// `config` holds Heun, Euler or Adams options; ConfigError otherwise. noise (B,C,H,W), labels i64
/// (B).
[[nodiscard]] SampleResult sample(const Object& config, const Denoiser& net, const Tensor& noise,
                                  const Tensor& cond, const Tensor& uncond, double t_eps = 0.05,
                                  const SampleOptions& options = {});

}  // namespace tenun
