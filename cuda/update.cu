// In-place updates of parameters (ops/update.h): AdamW, SGD, moving averages, the gradients' norm;
// each over all parameters in one launch.
#include "tenun/ops/update.h"

#include <cmath>
#include <vector>

#include "tenun/cuda/device_code.h"
#include "tenun/cuda/many.h"
#include "tenun/cuda/register.h"

namespace tenun::TENUN_BACKEND {
namespace {

// f<T>() for the type of the parameters, which all share.
template <class Item, class F>
void visit_master(std::span<Item> items, const char* op, F&& f) {
  if (items.empty()) return;
  visit<DType::f32, DType::f64>(items[0].p.dtype(), op, std::forward<F>(f));
}

/// GradientScale on the device.
struct Scale {
  double number;
  const double* factor;
  explicit Scale(const GradientScale& s)
      : number(s.number), factor(s.factor.defined() ? s.factor.data<double>() : nullptr) {}
  template <class T>
  __device__ T value() const {
    return static_cast<T>(factor == nullptr ? number : number * *factor);
  }
};

template <class T>
struct AdamWOn {
  T *p, *m, *v;
  const T* g;
  int64_t n;
  T rate, root;  // of the item's step
};
template <class T>
struct AdamWStep {
  T keep, b1, b2, c1, c2, eps;
  Scale scale;
  __device__ void operator()(const AdamWOn<T>& on, int64_t i) const {
    const T grad = scale.value<T>() * on.g[i];
    const T first = b1 * on.m[i] + c1 * grad, second = b2 * on.v[i] + c2 * grad * grad;
    on.m[i] = first, on.v[i] = second;
    on.p[i] = keep * on.p[i] - on.rate * first / (std::sqrt(second) * on.root + eps);
  }
};
void adamw(std::span<AdamWItem> items, const AdamWRates& r, const GradientScale& scale) {
  visit_master(items, "adamw", [&]<class T>() {
    std::vector<AdamWOn<T>> on;
    for (AdamWItem& item : items) {
      const double correct1 = 1 - std::pow(r.beta1, static_cast<double>(item.step)),
                   correct2 = 1 - std::pow(r.beta2, static_cast<double>(item.step));
      on.push_back({item.p.mutable_data<T>(), item.m.mutable_data<T>(), item.v.mutable_data<T>(),
                    item.g.data<T>(), item.p.numel(), static_cast<T>(r.lr / correct1),
                    static_cast<T>(1 / std::sqrt(correct2))});
    }
    for_many(std::span<const AdamWOn<T>>(on),
             AdamWStep<T>{static_cast<T>(1 - r.lr * r.weight_decay), static_cast<T>(r.beta1),
                          static_cast<T>(r.beta2), static_cast<T>(1 - r.beta1),
                          static_cast<T>(1 - r.beta2), static_cast<T>(r.eps), Scale(scale)});
  });
}

template <class T>
struct SgdOn {
  T *p, *buf;
  const T* g;
  int64_t n;
  T damp, old;
};
template <class T>
struct SgdStep {
  T lr, decay, momentum;
  Scale scale;
  bool nesterov;
  __device__ void operator()(const SgdOn<T>& on, int64_t i) const {
    T grad = scale.value<T>() * on.g[i] + decay * on.p[i];
    if (on.buf != nullptr) {
      // A fresh buffer holds nothing yet: even 0 times it would be wrong.
      const T b = (on.old == T(0) ? T(0) : on.old * on.buf[i]) + on.damp * grad;
      on.buf[i] = b;
      grad = nesterov ? grad + momentum * b : b;
    }
    on.p[i] -= lr * grad;
  }
};
void sgd(std::span<SgdItem> items, const SgdRates& r, const GradientScale& scale) {
  visit_master(items, "sgd", [&]<class T>() {
    std::vector<SgdOn<T>> on;
    for (SgdItem& item : items)
      on.push_back({item.p.mutable_data<T>(),
                    item.buf.defined() ? item.buf.mutable_data<T>() : nullptr, item.g.data<T>(),
                    item.p.numel(), item.first ? T(1) : static_cast<T>(1 - r.dampening),
                    item.first ? T(0) : static_cast<T>(r.momentum)});
    for_many(std::span<const SgdOn<T>>(on),
             SgdStep<T>{static_cast<T>(r.lr), static_cast<T>(r.weight_decay),
                        static_cast<T>(r.momentum), Scale(scale), r.nesterov});
  });
}

template <class T>
struct EmaOn {
  T* average;
  const T* p;
  int64_t n;
};
template <class T>
struct EmaStep {
  T old, fresh;
  __device__ void operator()(const EmaOn<T>& on, int64_t i) const {
    on.average[i] = old * on.average[i] + fresh * on.p[i];
  }
};
void ema(std::span<EmaItem> items, double decay) {
  visit_master(items, "ema", [&]<class T>() {
    std::vector<EmaOn<T>> on;
    for (EmaItem& item : items)
      on.push_back({item.average.mutable_data<T>(), item.p.data<T>(), item.p.numel()});
    for_many(std::span<const EmaOn<T>>(on),
             EmaStep<T>{static_cast<T>(decay), static_cast<T>(1 - decay)});
  });
}

template <class T>
struct Elements {
  const T* x;
  int64_t n;
};
template <class T>
struct Square {
  __device__ double operator()(const Elements<T>& on, int64_t i) const {
    const auto v = static_cast<double>(static_cast<Compute<T>>(on.x[i]));
    return v * v;
  }
};
void square_sum(Tensor& sum, std::span<const Tensor> x) {
  visit_float(x[0].dtype(), "square_sum", [&]<class T>() {
    std::vector<Tensor> whole;  // keeps copies of strided ones alive
    std::vector<Elements<T>> on;
    for (const Tensor& t : x) {
      whole.push_back(t.contiguous());
      on.push_back({whole.back().data<T>(), t.numel()});
    }
    sum_many(sum.mutable_data<double>(), std::span<const Elements<T>>(on), Square<T>{});
  });
}

}  // namespace

void register_updates() {
  kernel::adamw.set(kDevice, adamw);
  kernel::sgd.set(kDevice, sgd);
  kernel::ema.set(kDevice, ema);
  kernel::square_sum.set(kDevice, square_sum);
}

}  // namespace tenun::TENUN_BACKEND
