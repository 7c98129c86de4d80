#include "tenun/ops/update.h"

#include <cmath>
#include <vector>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"

namespace tenun {
namespace {

constexpr int64_t kGrain = 1 << 14;

// f<T>() for the master type of a parameter.
template <class F>
void visit_master(const Tensor& p, const char* op, F&& f) {
  visit<DType::f32, DType::f64>(p.dtype(), op, std::forward<F>(f));
}

// AdamW's numbers in the type of the parameters.
template <class T>
struct AdamWFactors {
  T keep, b1, b2, c1, c2, eps, grad_scale, rate, root;
};
// A function of its own, with pointers as parameters: in a closure the compiler sees aliases and
// makes scalar code, which is slower than memory.
template <class T>
void adamw_run(T* __restrict w, T* __restrict m, T* __restrict v, const T* __restrict g, int64_t n,
               const AdamWFactors<T> r) {
  for (int64_t i = 0; i < n; ++i) {
    const T grad = r.grad_scale * g[i];
    const T mi = r.b1 * m[i] + r.c1 * grad;
    const T vi = r.b2 * v[i] + r.c2 * grad * grad;
    m[i] = mi;
    v[i] = vi;
    w[i] = r.keep * w[i] - r.rate * mi / (std::sqrt(vi) * r.root + r.eps);
  }
}

double value_of(const GradientScale& s) {
  return s.factor.defined() ? s.number * s.factor.item() : s.number;
}

void adamw_cpu(std::span<AdamWItem> items, const AdamWRates& s, const GradientScale& gradient) {
  const double scale = value_of(gradient);
  for (AdamWItem& item : items)
    visit_master(item.p, "adamw", [&]<class T>() {
      T *const p = item.p.mutable_data<T>(), *const m = item.m.mutable_data<T>(),
               *const v = item.v.mutable_data<T>();
      const T* const g = item.g.data<T>();
      const double correct1 = 1 - std::pow(s.beta1, static_cast<double>(item.step)),
                   correct2 = 1 - std::pow(s.beta2, static_cast<double>(item.step));
      const auto to = [](double x) { return static_cast<T>(x); };
      const AdamWFactors<T> f{to(1 - s.lr * s.weight_decay),
                              to(s.beta1),
                              to(s.beta2),
                              to(1 - s.beta1),
                              to(1 - s.beta2),
                              to(s.eps),
                              to(scale),
                              to(s.lr / correct1),
                              to(1 / std::sqrt(correct2))};
      parallel_for(0, item.p.numel(), kGrain, [&](int64_t b, int64_t e) {
        adamw_run<T>(p + b, m + b, v + b, g + b, e - b, f);
      });
    });
}

void sgd_cpu(std::span<SgdItem> items, const SgdRates& s, const GradientScale& gradient) {
  const double scale = value_of(gradient);
  for (SgdItem& item : items)
    visit_master(item.p, "sgd", [&]<class T>() {
      T *const p = item.p.mutable_data<T>(), *const buf = item.buf.defined()
                                                              ? item.buf.mutable_data<T>()
                                                              : nullptr;
      const T* const g = item.g.data<T>();
      const T lr = static_cast<T>(s.lr), wd = static_cast<T>(s.weight_decay),
              mu = static_cast<T>(s.momentum), gs = static_cast<T>(scale);
      const T damp = item.first ? T{1} : static_cast<T>(1 - s.dampening),
              old = item.first ? T{0} : mu;
      parallel_for(0, item.p.numel(), kGrain, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) {
          T grad = gs * g[i] + wd * p[i];
          if (buf != nullptr) {
            buf[i] = old * buf[i] + damp * grad;
            grad = s.nesterov ? grad + mu * buf[i] : buf[i];
          }
          p[i] -= lr * grad;
        }
      });
    });
}

void ema_cpu(std::span<EmaItem> items, double decay) {
  for (EmaItem& item : items)
    visit_master(item.p, "ema", [&]<class T>() {
      T* const average = item.average.mutable_data<T>();
      const T* const p = item.p.data<T>();
      const T d = static_cast<T>(decay), c = static_cast<T>(1 - decay);
      parallel_for(0, item.p.numel(), kGrain, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) average[i] = d * average[i] + c * p[i];
      });
    });
}

double square_sum_of(const Tensor& x) {
  const Tensor c = x.contiguous();
  const int64_t chunks = (c.numel() + kGrain - 1) / kGrain;
  std::vector<double> part(static_cast<size_t>(chunks));
  visit_float(c.dtype(), "square_sum", [&]<class T>() {
    const T* const p = c.data<T>();
    parallel_for(0, c.numel(), kGrain, [&](int64_t b, int64_t e) {
      double lanes[8] = {};
      int64_t i = b;
      for (; i + 8 <= e; i += 8)
        for (int k = 0; k < 8; ++k) {
          const auto v = static_cast<double>(static_cast<Compute<T>>(p[i + k]));
          lanes[k] += v * v;
        }
      double s = 0;
      for (; i < e; ++i)
        s += static_cast<double>(static_cast<Compute<T>>(p[i])) *
             static_cast<double>(static_cast<Compute<T>>(p[i]));
      for (const double l : lanes) s += l;
      part[static_cast<size_t>(b / kGrain)] = s;
    });
  });
  double total = 0;
  for (const double s : part) total += s;
  return total;
}

void square_sum_cpu(Tensor& sum, std::span<const Tensor> x) {
  double total = 0;
  for (const Tensor& t : x) total += square_sum_of(t);
  *sum.mutable_data<double>() = total;
}

}  // namespace

constinit Kernel<void(std::span<AdamWItem>, const AdamWRates&, const GradientScale&)> kernel::adamw{
    "adamw", adamw_cpu};
constinit Kernel<void(std::span<SgdItem>, const SgdRates&, const GradientScale&)> kernel::sgd{
    "sgd", sgd_cpu};
constinit Kernel<void(std::span<EmaItem>, double)> kernel::ema{"ema", ema_cpu};
constinit Kernel<void(Tensor&, std::span<const Tensor>)> kernel::square_sum{"square_sum",
                                                                            square_sum_cpu};

Tensor square_sum(std::span<const Tensor> x) {
  check(!x.empty(), "square_sum", "needs at least one tensor");
  Tensor sum({}, DType::f64, x[0].device());
  kernel::square_sum(sum.device(), sum, x);
  return sum;
}

}  // namespace tenun
