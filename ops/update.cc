#include "tenun/ops/update.h"

#include <cmath>
#include <vector>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"

namespace tenun {
namespace {

constexpr int64_t kGrain = 1 << 14;

template <class F>
void visit_master(const Tensor& p, const char* op, F&& f) {
  visit<DType::f32, DType::f64>(p.dtype(), op, std::forward<F>(f));
}

// AdamW's numbers in the type of the parameters.
template <class T>
struct AdamWRates {
  T keep, b1, b2, c1, c2, eps, grad_scale, rate, root;
};
// A function of its own, with pointers as parameters: in a closure the compiler sees aliases and
// makes scalar code, which is slower than memory.
template <class T>
void adamw_run(T* __restrict w, T* __restrict m, T* __restrict v, const T* __restrict g, int64_t n,
               const AdamWRates<T> r) {
  for (int64_t i = 0; i < n; ++i) {
    const T grad = r.grad_scale * g[i];
    const T mi = r.b1 * m[i] + r.c1 * grad;
    const T vi = r.b2 * v[i] + r.c2 * grad * grad;
    m[i] = mi;
    v[i] = vi;
    w[i] = r.keep * w[i] - r.rate * mi / (std::sqrt(vi) * r.root + r.eps);
  }
}

void adamw_cpu(Tensor& p, const Tensor& g, Tensor& m, Tensor& v, const AdamWStep& s, double scale) {
  visit_master(p, "adamw", [&]<class T>() {
    T *const pp = p.mutable_data<T>(), *const pm = m.mutable_data<T>(),
             *const pv = v.mutable_data<T>();
    const T* const pg = g.data<T>();
    const double correct1 = 1 - std::pow(s.beta1, static_cast<double>(s.step)),
                 correct2 = 1 - std::pow(s.beta2, static_cast<double>(s.step));
    const auto to = [](double x) { return static_cast<T>(x); };
    const AdamWRates<T> rates{to(1 - s.lr * s.weight_decay),
                              to(s.beta1),
                              to(s.beta2),
                              to(1 - s.beta1),
                              to(1 - s.beta2),
                              to(s.eps),
                              to(scale),
                              to(s.lr / correct1),
                              to(1 / std::sqrt(correct2))};
    parallel_for(0, p.numel(), kGrain, [&](int64_t b, int64_t e) {
      adamw_run<T>(pp + b, pm + b, pv + b, pg + b, e - b, rates);
    });
  });
}

void sgd_cpu(Tensor& p, const Tensor& g, Tensor& buf, const SgdStep& s, double scale) {
  visit_master(p, "sgd", [&]<class T>() {
    T *const pp = p.mutable_data<T>(), *const pb = buf.defined() ? buf.mutable_data<T>() : nullptr;
    const T* const pg = g.data<T>();
    const T lr = static_cast<T>(s.lr), wd = static_cast<T>(s.weight_decay),
            mu = static_cast<T>(s.momentum), gs = static_cast<T>(scale);
    const T damp = s.first ? T{1} : static_cast<T>(1 - s.dampening), old = s.first ? T{0} : mu;
    parallel_for(0, p.numel(), kGrain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) {
        T grad = gs * pg[i] + wd * pp[i];
        if (pb != nullptr) {
          pb[i] = old * pb[i] + damp * grad;
          grad = s.nesterov ? grad + mu * pb[i] : pb[i];
        }
        pp[i] -= lr * grad;
      }
    });
  });
}

void ema_cpu(Tensor& average, const Tensor& p, double decay) {
  visit_master(p, "ema", [&]<class T>() {
    T* const pa = average.mutable_data<T>();
    const T* const pp = p.data<T>();
    const T d = static_cast<T>(decay), c = static_cast<T>(1 - decay);
    parallel_for(0, p.numel(), kGrain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) pa[i] = d * pa[i] + c * pp[i];
    });
  });
}

double square_sum_cpu(const Tensor& x) {
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

void scale_cpu(Tensor& x, double factor) {
  visit_master(x, "scale", [&]<class T>() {
    T* const p = x.mutable_data<T>();
    const T f = static_cast<T>(factor);
    parallel_for(0, x.numel(), kGrain, [&](int64_t b, int64_t e) {
      for (int64_t i = b; i < e; ++i) p[i] *= f;
    });
  });
}

}  // namespace

constinit Kernel<void(Tensor& p, const Tensor& g, Tensor& m, Tensor& v, const AdamWStep& s,
                      double scale)>
    kernel::adamw{"adamw", adamw_cpu};
constinit Kernel<void(Tensor& p, const Tensor& g, Tensor& buf, const SgdStep& s, double scale)>
    kernel::sgd{"sgd", sgd_cpu};
constinit Kernel<void(Tensor& average, const Tensor& p, double decay)> kernel::ema{"ema", ema_cpu};
constinit Kernel<double(const Tensor& x)> kernel::square_sum{"square_sum", square_sum_cpu};
constinit Kernel<void(Tensor& x, double factor)> kernel::scale{"scale", scale_cpu};

}  // namespace tenun
