#include "tenun/ops/combine.h"

#include <algorithm>
#include <array>

#include "tenun/core/parallel.h"

namespace tenun {
namespace {

constexpr int64_t kGrain = 1 << 14;

template <class T, size_t K>
void run(T* __restrict y, const std::array<const T*, K>& x, const std::array<T, K>& w, int64_t b,
         int64_t e) {
  for (int64_t i = b; i < e; ++i) {
    T sum = w[0] * x[0][i];
    for (size_t k = 1; k < K; ++k) sum += w[k] * x[k][i];
    y[i] = sum;
  }
}

template <class T, size_t K>
void combine_terms(Tensor& y, std::span<const Tensor> x, std::span<const double> weights,
                   double factor) {
  const int64_t samples = std::ssize(weights) / static_cast<int64_t>(K), each = y.numel() / samples;
  std::array<const T*, K> px;
  for (size_t k = 0; k < K; ++k) px[k] = x[k].data<T>();
  T* const py = y.mutable_data<T>();
  parallel_for(0, y.numel(), kGrain, [&](int64_t b, int64_t e) {
    while (b < e) {
      const int64_t sample = b / each, end = std::min(e, (sample + 1) * each);
      std::array<T, K> w;
      for (size_t k = 0; k < K; ++k)
        w[k] = static_cast<T>(
            factor * weights[k * static_cast<size_t>(samples) + static_cast<size_t>(sample)]);
      run<T, K>(py, px, w, b, end);
      b = end;
    }
  });
}

void combine_cpu(Tensor& y, std::span<const Tensor> x, std::span<const double> weights,
                 const Tensor& scale) {
  if (y.numel() == 0) return;
  const double factor = scale.defined() ? scale.item() : 1;
  visit<DType::f32, DType::f64>(y.dtype(), "combine", [&]<class T>() {
    if (x.size() == 1) combine_terms<T, 1>(y, x, weights, factor);
    if (x.size() == 2) combine_terms<T, 2>(y, x, weights, factor);
    if (x.size() == 3) combine_terms<T, 3>(y, x, weights, factor);
  });
}

}  // namespace

constinit Kernel<void(Tensor& y, std::span<const Tensor> x, std::span<const double> weights,
                      const Tensor& factor)>
    kernel::combine{"combine", combine_cpu};

}  // namespace tenun
