#include "tenun/train/flow.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/combine.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/update.h"

namespace tenun {
namespace {

// loss = mean (p_b pred + q_b x_t + r_b x)^2 with coefficients of the sample.
struct Coefficients {
  double pred, x_t, x;
};
Coefficients coefficients(double t, const FlowLossOptions& o) {
  const double clamped = std::max(1 - t, o.t_eps), target = o.clamp_target ? clamped : 1 - t;
  const double a = 1 / clamped, c = 1 / target;
  // v_hat - v* = a (pred - x_t) - c (x - x_t); a network that predicts the velocity has v_hat =
  // pred.
  if (o.prediction == Prediction::velocity) return {1, c, -c};
  return {a, c - a, -c};
}

struct FlowLoss {
  static constexpr const char* name = "flow_matching_loss";
  static constexpr Cast cast = Cast::f32;
  Tensor x, x_t, t;
  FlowLossOptions o;
  Saved residual;
  std::vector<double> slope;  // of the residual in pred, by sample

  Tensor forward(const Ctx& c, const Tensor& pred) {
    const Tensor terms[] = {pred.contiguous(), x_t.to(pred.dtype()).contiguous(),
                            x.to(pred.dtype()).contiguous()};
    const std::vector<double> times = t.values<double>();
    const size_t n = times.size();
    std::vector<double> weights(3 * n);
    for (size_t s = 0; s < n; ++s) {
      const Coefficients k = coefficients(times[s], o);
      weights[s] = k.pred, weights[n + s] = k.x_t, weights[2 * n + s] = k.x;
    }
    slope.assign(weights.begin(), weights.begin() + static_cast<std::ptrdiff_t>(n));
    Tensor r = empty_like(terms[0]);
    kernel::combine(pred.device(), r, terms, weights, {});
    if (c.recording) residual = r;
    return (Var(square_sum({&r, 1})) / static_cast<double>(pred.numel())).value().to(pred.dtype());
  }

  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor& r = residual.get();
    Tensor g = empty_like(r);
    std::vector<double> weights = slope;
    for (double& w : weights) w *= 2 / static_cast<double>(r.numel());
    kernel::combine(r.device(), g, {&r, 1}, weights, dy);
    return {g};
  }
};

}  // namespace

Tensor sample_times(std::span<const uint64_t> samples, uint64_t seed, uint64_t step,
                    const FlowTrainerOptions& o) {
  std::vector<float> t;
  for (const uint64_t s : samples) {
    const RandomKey key = RandomKey::derive(seed, Purpose::time, step, s);
    double v =
        o.lognorm_t ? 1 / (1 + std::exp(-(o.P_mean + o.P_std * key.normal(0)))) : key.uniform(0);
    v = v / (v + (1 - v) * o.timeshift);
    t.push_back(static_cast<float>(v));
  }
  return Tensor::from(t, {static_cast<int64_t>(t.size())});
}

Tensor sample_noise(const Shape& shape, std::span<const uint64_t> samples, uint64_t seed,
                    uint64_t step, double noise_scale, Device device) {
  check<ShapeError>(shape.size() >= 1 && shape[0] == static_cast<int64_t>(samples.size()),
                    "sample_noise", "{} for {} samples", shape, samples.size());
  Tensor noise(shape, DType::f32, device);
  for (size_t i = 0; i < samples.size(); ++i) {
    Tensor one = noise.select(0, static_cast<int64_t>(i));
    fill_normal(one, RandomKey::derive(seed, Purpose::noise, step, samples[i]), 0, noise_scale);
  }
  return noise;
}

Tensor interpolate(const Tensor& x, const Tensor& noise, const Tensor& t) {
  check<ShapeError>(x.shape() == noise.shape() && t.shape() == Shape{x.dim(0)}, "interpolate",
                    "{}, {}, {}", x, noise, t);
  const Tensor terms[] = {x.contiguous(), noise.contiguous()};
  std::vector<double> weights = t.values<double>();
  const size_t n = weights.size();
  for (size_t s = 0; s < n; ++s) weights.push_back(1 - weights[s]);
  Tensor y = empty_like(terms[0]);
  kernel::combine(x.device(), y, terms, weights, {});
  return y;
}

Tensor drop_classes(const Tensor& y, std::span<const uint64_t> samples, uint64_t seed,
                    uint64_t step, double p, int64_t null_class) {
  std::vector<int64_t> labels = y.values<int64_t>();
  for (size_t i = 0; i < labels.size(); ++i)
    if (RandomKey::derive(seed, Purpose::class_drop, step, samples[i]).uniform(0) <
        static_cast<float>(p))
      labels[i] = null_class;
  return Tensor::from(labels, y.shape());
}

Var flow_matching_loss(const Var& pred, const Tensor& x, const Tensor& x_t, const Tensor& t,
                       const FlowLossOptions& o) {
  check<ShapeError>(pred.shape() == x.shape() && pred.shape() == x_t.shape() && pred.rank() >= 1 &&
                        t.shape() == Shape{pred.dim(0)},
                    "flow_matching_loss", "pred {}, x {}, x_t {}, t {} do not fit", pred.value(), x,
                    x_t, t);
  return apply(FlowLoss{.x = x, .x_t = x_t, .t = t, .o = o, .residual = {}, .slope = {}}, pred);
}

}  // namespace tenun
