#include "tenun/train/flow.h"

#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"

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

constexpr int64_t kGrain = 1 << 14;

struct FlowLoss {
  static constexpr const char* name = "flow_matching_loss";
  static constexpr Cast cast = Cast::f32;
  Tensor x, x_t, t;
  FlowLossOptions o;
  Saved residual;
  std::vector<double> slope;  // of the residual in pred, by sample

  Tensor forward(const Ctx& c, const Tensor& pred_) {
    const Tensor pred = pred_.contiguous(), clean = x.to(pred.dtype()).contiguous(),
                 noisy = x_t.to(pred.dtype()).contiguous();
    const std::vector<double> times = t.values<double>();
    const int64_t each = pred.numel() / std::max<int64_t>(pred.dim(0), 1);
    Tensor r = empty_like(pred);
    std::vector<double> part(static_cast<size_t>((pred.numel() + kGrain - 1) / kGrain));
    slope.clear();
    for (const double time : times) slope.push_back(coefficients(time, o).pred);
    visit<DType::f32, DType::f64>(pred.dtype(), name, [&]<class T>() {
      const T *pp = pred.data<T>(), *px = clean.data<T>(), *pt = noisy.data<T>();
      T* pr = r.mutable_data<T>();
      parallel_for(0, pred.numel(), kGrain, [&](int64_t b, int64_t e) {
        double sum = 0;
        for (int64_t i = b; i < e;) {
          const int64_t sample = i / each, end = std::min(e, (sample + 1) * each);
          const Coefficients k = coefficients(times[static_cast<size_t>(sample)], o);
          const T kp = static_cast<T>(k.pred), kt = static_cast<T>(k.x_t), kx = static_cast<T>(k.x);
          for (; i < end; ++i) {
            pr[i] = kp * pp[i] + kt * pt[i] + kx * px[i];
            sum += static_cast<double>(pr[i]) * static_cast<double>(pr[i]);
          }
        }
        part[static_cast<size_t>(b / kGrain)] = sum;
      });
    });
    double total = 0;
    for (const double s : part) total += s;
    if (c.recording) residual = r;
    return Tensor::scalar(total / static_cast<double>(pred.numel()), pred.dtype());
  }

  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor& r = residual.get();
    Tensor g = empty_like(r);
    const double scale = 2 * dy.item() / static_cast<double>(r.numel());
    const int64_t each = r.numel() / std::max<int64_t>(r.dim(0), 1);
    visit<DType::f32, DType::f64>(r.dtype(), name, [&]<class T>() {
      const T* pr = r.data<T>();
      T* pg = g.mutable_data<T>();
      parallel_for(0, r.numel(), kGrain, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i)
          pg[i] = static_cast<T>(scale * slope[static_cast<size_t>(i / each)]) * pr[i];
      });
    });
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
                    uint64_t step, double noise_scale) {
  check<ShapeError>(shape.size() >= 1 && shape[0] == static_cast<int64_t>(samples.size()),
                    "sample_noise", "{} for {} samples", shape, samples.size());
  Tensor noise(shape, DType::f32);
  for (size_t i = 0; i < samples.size(); ++i) {
    Tensor one = noise.select(0, static_cast<int64_t>(i));
    fill_normal(one, RandomKey::derive(seed, Purpose::noise, step, samples[i]), 0, noise_scale);
  }
  return noise;
}

Tensor interpolate(const Tensor& x, const Tensor& noise, const Tensor& t) {
  check<ShapeError>(x.shape() == noise.shape() && t.shape() == Shape{x.dim(0)}, "interpolate",
                    "{}, {}, {}", x, noise, t);
  const Tensor a = x.contiguous(), b = noise.contiguous();
  const std::vector<double> times = t.values<double>();
  Tensor y = empty_like(a);
  const int64_t each = a.numel() / std::max<int64_t>(a.dim(0), 1);
  visit<DType::f32, DType::f64>(a.dtype(), "interpolate", [&]<class T>() {
    const T *pa = a.data<T>(), *pb = b.data<T>();
    T* py = y.mutable_data<T>();
    parallel_for(0, a.numel(), kGrain, [&](int64_t s, int64_t e) {
      for (int64_t i = s; i < e; ++i) {
        const T k = static_cast<T>(times[static_cast<size_t>(i / each)]);
        py[i] = k * pa[i] + (1 - k) * pb[i];
      }
    });
  });
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
