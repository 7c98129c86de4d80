#include "tenun/train/samplers.h"

#include <cmath>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/ops/combine.h"

namespace tenun {
namespace {

// sum_k c_k x_k, elementwise in the tensors' own precision.
Tensor combine(std::initializer_list<std::pair<double, const Tensor*>> terms) {
  std::vector<Tensor> x;
  std::vector<double> weights;
  for (const auto& [weight, tensor] : terms) x.push_back(*tensor), weights.push_back(weight);
  Tensor y = empty_like(x[0]);
  kernel::combine(y.device(), y, x, weights, {});
  return y;
}

enum class UpperBound { included, excluded };

class Integrator {
 public:
  Integrator(const SamplerOptions& o, const Denoiser& net, const Tensor& noise, const Tensor& cond,
             const Tensor& uncond, double t_eps, int64_t evaluations, UpperBound upper,
             const SampleOptions& options)
      : o_(o), net_(net), t_eps_(t_eps), total_(evaluations), upper_(upper), options_(options) {
    times = time_grid(o.num_steps, o.timeshift,
                      o.last_step.value_or(1 / static_cast<double>(o.num_steps)));
    result.x = noise.contiguous();
    const int64_t b = noise.dim(0);
    labels_ = Tensor({2 * b}, DType::i64);  // on the CPU: an index is looked at before it is used
    labels_.slice(0, 0, b).copy_(uncond.to(cpu()));
    labels_.slice(0, b, 2 * b).copy_(cond.to(cpu()));
    keep();
  }

  /// The guided velocity at (x, t); `guide` says whether guidance acts.
  Tensor velocity(const Tensor& x, double t, bool guide) {
    const int64_t b = x.dim(0);
    Shape two = x.shape();
    two[0] = 2 * b;
    Tensor xx(two, x.dtype(), x.device());
    xx.slice(0, 0, b).copy_(x);
    xx.slice(0, b, 2 * b).copy_(x);
    const Tensor pred = net_(xx, Tensor::full({2 * b}, t, x.dtype(), x.device()), labels_)
                            .to(x.dtype())
                            .contiguous();
    check<ShapeError>(pred.shape() == two, "sample", "the network made {} from {}", pred, xx);
    ++result.evaluations;
    if (options_.progress && !options_.progress(result.evaluations, total_))
      fail<Error>("sample", "stopped");
    const Tensor u = pred.slice(0, 0, b), c = pred.slice(0, b, 2 * b);
    const double g = guide ? o_.guidance : 1;
    if (o_.prediction == Prediction::velocity) return combine({{1 - g, &u}, {g, &c}});
    const double s = 1 / std::max(1 - t, t_eps_);
    const Tensor vu = combine({{s, &u}, {-s, &x}}), vc = combine({{s, &c}, {-s, &x}});
    return combine({{1 - g, &vu}, {g, &vc}});
  }
  [[nodiscard]] bool guided(double t) const {
    const auto now = static_cast<float>(t), low = static_cast<float>(o_.guidance_interval_min),
               high = static_cast<float>(o_.guidance_interval_max);
    return now > low && (upper_ == UpperBound::included ? now <= high : now < high);
  }
  void move(Tensor x) {
    result.x = std::move(x);
    keep();
  }
  std::vector<double> times;
  SampleResult result;

 private:
  void keep() {
    if (options_.keep_trajectory) result.trajectory.push_back(result.x);
  }
  const SamplerOptions& o_;
  const Denoiser& net_;
  double t_eps_;
  int64_t total_;
  UpperBound upper_;
  const SampleOptions& options_;
  Tensor labels_;
};

SampleResult heun(const HeunSamplerOptions& o, Integrator s) {
  Tensor v2;  // the corrector's velocity, which the inexact variant uses as the next predictor's
  for (int64_t i = 0; i < o.num_steps; ++i) {
    const double t = s.times[static_cast<size_t>(i)], next = s.times[static_cast<size_t>(i) + 1],
                 dt = next - t;
    const bool guide = s.guided(t);
    const Tensor v1 = i == 0 || o.exact_henu ? s.velocity(s.result.x, t, guide) : v2;
    Tensor ahead = combine({{1, &s.result.x}, {dt, &v1}});
    if (i + 1 == o.num_steps) {
      s.move(std::move(ahead));
      break;
    }
    v2 = s.velocity(ahead, next, guide);
    s.move(combine({{1, &s.result.x}, {dt / 2, &v1}, {dt / 2, &v2}}));
  }
  return std::move(s.result);
}

SampleResult euler(const EulerSamplerOptions& o, Integrator s) {
  for (int64_t i = 0; i < o.num_steps; ++i) {
    const double t = s.times[static_cast<size_t>(i)], dt = s.times[static_cast<size_t>(i) + 1] - t;
    const Tensor v = s.velocity(s.result.x, t, s.guided(t));
    s.move(combine({{1, &s.result.x}, {dt, &v}}));
  }
  return std::move(s.result);
}

SampleResult adams(const AdamLMSamplerOptions& o, Integrator s) {
  std::vector<Tensor> v;  // newest last, at most `order`
  for (int64_t i = 0; i < o.num_steps; ++i) {
    const double t = s.times[static_cast<size_t>(i)], dt = s.times[static_cast<size_t>(i) + 1] - t;
    v.push_back(s.velocity(s.result.x, t, s.guided(t)));
    if (static_cast<int64_t>(v.size()) > o.order) v.erase(v.begin());
    const auto w = adams_weights(s.times, i, static_cast<int64_t>(v.size()));
    Tensor x = s.result.x;
    for (size_t k = 0; k < v.size(); ++k) x = combine({{1, &x}, {dt * w[k], &v[k]}});
    s.move(std::move(x));
  }
  return std::move(s.result);
}

}  // namespace

std::vector<double> time_grid(int64_t n, double shift, double last) {
  check(n >= 1, "time_grid", "needs at least one step, got {}", n);
  std::vector<double> s;
  for (int64_t i = 0; i < n; ++i)
    s.push_back(n == 1 ? 0 : (1 - last) * static_cast<double>(i) / static_cast<double>(n - 1));
  s.push_back(1);
  for (double& t : s) t = t / (t + (1 - t) * shift);
  return s;
}

std::vector<double> adams_weights(const std::vector<double>& times, int64_t i, int64_t order) {
  // The Lagrange basis through the last `order` times, integrated exactly as a polynomial in
  // u = (t - t_i) / (t_{i+1} - t_i) over [0, 1].
  const auto n = static_cast<size_t>(order), at = static_cast<size_t>(i);
  const double t0 = times[at], dt = times[at + 1] - t0;
  std::vector<double> node(n), w(n);
  for (size_t k = 0; k < n; ++k) node[k] = (times[at + 1 + k - n] - t0) / dt;
  for (size_t j = 0; j < n; ++j) {
    std::vector<double> poly{1};
    for (size_t k = 0; k < n; ++k) {
      if (k == j) continue;
      std::vector<double> next(poly.size() + 1);
      for (size_t d = 0; d < poly.size(); ++d) {
        next[d + 1] += poly[d] / (node[j] - node[k]);
        next[d] -= poly[d] * node[k] / (node[j] - node[k]);
      }
      poly = next;
    }
    for (size_t d = 0; d < poly.size(); ++d) w[j] += poly[d] / static_cast<double>(d + 1);
  }
  return w;
}

SampleResult sample(const Object& config, const Denoiser& net, const Tensor& noise,
                    const Tensor& cond, const Tensor& uncond, double t_eps,
                    const SampleOptions& options) {
  check<ShapeError>(
      noise.rank() >= 1 && cond.shape() == Shape{noise.dim(0)} && uncond.shape() == cond.shape(),
      "sample", "noise {}, labels {} and {}", noise, cond, uncond);
  const NoGrad guard;
  const auto start = [&](const SamplerOptions& o, int64_t evaluations, UpperBound upper) {
    return Integrator(o, net, noise, cond, uncond, t_eps, evaluations, upper, options);
  };
  if (config.is<HeunSamplerOptions>()) {
    const auto& o = config.as<HeunSamplerOptions>();
    return heun(o,
                start(o, o.exact_henu ? 2 * o.num_steps - 1 : o.num_steps, UpperBound::included));
  }
  if (config.is<EulerSamplerOptions>()) {
    const auto& o = config.as<EulerSamplerOptions>();
    return euler(o, start(o, o.num_steps, UpperBound::included));
  }
  if (config.is<AdamLMSamplerOptions>()) {
    const auto& o = config.as<AdamLMSamplerOptions>();
    return adams(o, start(o, o.num_steps, UpperBound::excluded));
  }
  fail<ConfigError>("sampler", "'{}' is not available in this build", config.class_path());
}

}  // namespace tenun
