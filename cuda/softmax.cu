// Softmax and cross-entropy over rows: a team for each row reads it two or three times, which the
// caches serve.
#include "tenun/ops/softmax.h"

#include <limits>

#include "tenun/core/math.h"
#include "tenun/cuda/register.h"
#include "tenun/cuda/scratch.h"
#include "tenun/cuda/team.h"

namespace tenun::TENUN_BACKEND {
namespace {

/// The largest element of a row, and the sum of exp(x - largest).
template <class C>
struct RowSum {
  C top, sum;
};
template <class T, int kWarps>
__device__ RowSum<Compute<T>> exp_sum(const Team<kWarps>& team, const T* x, int64_t n) {
  using C = Compute<T>;
  C top = -std::numeric_limits<C>::infinity();
  team.each(n, [&](int64_t i) { top = Larger{}(top, static_cast<C>(x[i])); });
  top = team.largest(top);
  C sum = 0;
  team.each(n, [&](int64_t i) { sum += math::exp_below_zero(static_cast<C>(x[i]) - top); });
  return {top, team.sum(sum)};
}

template <class T, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_rows(T* y, const T* x, int64_t rows, int64_t n, SoftmaxForm form) {
  using C = Compute<T>;
  const Team<kWarps> team;
  team.each_row(rows, [&](int64_t r) {
    const T* const from = x + r * n;
    T* const to = y + r * n;
    const auto [top, sum] = exp_sum(team, from, n);
    const C shift = math::log(sum), factor = C(1) / sum;
    team.each(n, [&](int64_t i) {
      const C v = static_cast<C>(from[i]) - top;
      to[i] = T(form == SoftmaxForm::log ? v - shift : math::exp_below_zero(v) * factor);
    });
  });
}

template <class T, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_gradients(T* dx, const T* dy, const T* y, int64_t rows, int64_t n, SoftmaxForm form) {
  using C = Compute<T>;
  const Team<kWarps> team;
  team.each_row(rows, [&](int64_t r) {
    const T *const g = dy + r * n, *const v = y + r * n;
    T* const to = dx + r * n;
    const bool log = form == SoftmaxForm::log;
    C sum = 0;
    team.each(n, [&](int64_t i) {
      sum += log ? static_cast<C>(g[i]) : static_cast<C>(g[i]) * static_cast<C>(v[i]);
    });
    sum = team.sum(sum);
    team.each(n, [&](int64_t i) {
      const C d = static_cast<C>(g[i]), p = static_cast<C>(v[i]);
      to[i] = T(log ? d - math::exp(p) * sum : p * (d - sum));
    });
  });
}

void softmax(Tensor& y, const Tensor& x, SoftmaxForm form) {
  const int64_t rows = x.dim(0), n = x.dim(1);
  if (x.numel() == 0) return;
  visit_float(x.dtype(), "softmax", [&]<class T>() {
    rows_launch(rows, n, [&]<int kWarps>(dim3 grid) {
      launch(softmax_rows<T, kWarps>, grid, kThreads, 0, y.mutable_data<T>(), x.data<T>(), rows, n,
             form);
    });
  });
}
void softmax_backward(Tensor& dx, const Tensor& dy, const Tensor& y, SoftmaxForm form) {
  const int64_t rows = y.dim(0), n = y.dim(1);
  if (y.numel() == 0) return;
  visit_float(y.dtype(), "softmax", [&]<class T>() {
    rows_launch(rows, n, [&]<int kWarps>(dim3 grid) {
      launch(softmax_gradients<T, kWarps>, grid, kThreads, 0, dx.mutable_data<T>(), dy.data<T>(),
             y.data<T>(), rows, n, form);
    });
  });
}

// A target outside the classes is noted, for the host to report; its row reads nothing.
template <class T, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    cross_entropy_rows(Compute<T>* loss, Compute<T>* lse, unsigned long long* wrong, const T* x,
                       const int64_t* target, int64_t rows, int64_t n) {
  using C = Compute<T>;
  const Team<kWarps> team;
  team.each_row(rows, [&](int64_t r) {
    const T* const from = x + r * n;
    const auto [top, sum] = exp_sum(team, from, n);
    if (!team.first()) return;
    const int64_t t = target[r];
    if (t < 0 || t >= n) {
      atomicMin(wrong, static_cast<unsigned long long>(r));
      return;
    }
    const C log_sum = math::log(sum);
    lse[r] = top + log_sum;
    loss[r] = log_sum - (static_cast<C>(from[t]) - top);
  });
}
template <class T, int kWarps>
__global__ void __launch_bounds__(kThreads, 1)
    cross_entropy_gradients(T* dx, const Compute<T>* dloss, const T* x, const Compute<T>* lse,
                            const int64_t* target, int64_t rows, int64_t n) {
  using C = Compute<T>;
  const Team<kWarps> team;
  team.each_row(rows, [&](int64_t r) {
    const C shift = lse[r], g = dloss[r];
    const int64_t t = target[r];
    team.each(n, [&](int64_t i) {
      const C p = g * math::exp(static_cast<C>(x[r * n + i]) - shift);
      dx[r * n + i] = T(i == t ? p - g : p);
    });
  });
}

void cross_entropy(Tensor& loss, Tensor& lse, const Tensor& x, const Tensor& target) {
  const int64_t rows = x.dim(0), n = x.dim(1);
  const Scratch<unsigned long long> wrong(1);
  write_one(wrong.get(), static_cast<unsigned long long>(rows));
  visit_float(x.dtype(), "cross_entropy", [&]<class T>() {
    using C = Compute<T>;
    rows_launch(rows, n, [&]<int kWarps>(dim3 grid) {
      launch(cross_entropy_rows<T, kWarps>, grid, kThreads, 0, loss.mutable_data<C>(),
             lse.mutable_data<C>(), wrong.get(), x.data<T>(), target.data<int64_t>(), rows, n);
    });
  });
  if (const auto r = static_cast<int64_t>(read_one(wrong.get())); r < rows)
    throw ValueError("cross_entropy: target[" + std::to_string(r) + "] is " +
                     std::to_string(read_one(target.data<int64_t>() + r)) + ", outside the " +
                     std::to_string(n) + " classes");
}
void cross_entropy_backward(Tensor& dx, const Tensor& dloss, const Tensor& x, const Tensor& lse,
                            const Tensor& target) {
  const int64_t rows = x.dim(0), n = x.dim(1);
  visit_float(x.dtype(), "cross_entropy", [&]<class T>() {
    using C = Compute<T>;
    rows_launch(rows, n, [&]<int kWarps>(dim3 grid) {
      launch(cross_entropy_gradients<T, kWarps>, grid, kThreads, 0, dx.mutable_data<T>(),
             dloss.data<C>(), x.data<T>(), lse.data<C>(), target.data<int64_t>(), rows, n);
    });
  });
}

}  // namespace

void register_softmax() {
  kernel::softmax.set(kDevice, softmax);
  kernel::softmax_backward.set(kDevice, softmax_backward);
  kernel::cross_entropy.set(kDevice, cross_entropy);
  kernel::cross_entropy_backward.set(kDevice, cross_entropy_backward);
}

}  // namespace tenun::TENUN_BACKEND
