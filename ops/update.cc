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

void adamw_cpu(Tensor& p, const Tensor& g, Tensor& m, Tensor& v, const AdamWStep& s, double scale) {
  visit_master(p, "adamw", [&]<class T>() {
    T *const pp = p.mutable_data<T>(), *const pm = m.mutable_data<T>(),
             *const pv = v.mutable_data<T>();
    const T* const pg = g.data<T>();
    const double correct1 = 1 - std::pow(s.beta1, static_cast<double>(s.step)),
                 correct2 = 1 - std::pow(s.beta2, static_cast<double>(s.step));
    const T keep = static_cast<T>(1 - s.lr * s.weight_decay), b1 = static_cast<T>(s.beta1),
            b2 = static_cast<T>(s.beta2);
    const T c1 = static_cast<T>(1 - s.beta1), c2 = static_cast<T>(1 - s.beta2),
            eps = static_cast<T>(s.eps), gs = static_cast<T>(scale);
    const T rate = static_cast<T>(s.lr / correct1), root = static_cast<T>(1 / std::sqrt(correct2));
    parallel_for(0, p.numel(), kGrain, [&](int64_t b, int64_t e) {
      T* __restrict w = pp, * __restrict mm = pm, * __restrict vv = pv;
      for (int64_t i = b; i < e; ++i) {
        const T grad = gs * pg[i];
        mm[i] = b1 * mm[i] + c1 * grad;
        vv[i] = b2 * vv[i] + c2 * grad * grad;
        w[i] = keep * w[i] - rate * mm[i] / (std::sqrt(vv[i]) * root + eps);
      }
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
