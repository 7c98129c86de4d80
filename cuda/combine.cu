// Weighted sums with weights of the sample (ops/combine.h). Blocks take their sample from the
// grid's second axis.
#include "tenun/ops/combine.h"

#include "tenun/cuda/device_code.h"
#include "tenun/cuda/register.h"
#include "tenun/cuda/scratch.h"

namespace tenun::TENUN_BACKEND {
namespace {

template <class T>
struct Terms {
  const T* x[kernel::kCombineMost];
  int count;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    add_terms(T* y, Terms<T> terms, const double* weights, const T* factor, int64_t samples,
              int64_t each) {
  const double scale = factor == nullptr ? 1 : static_cast<double>(*factor);
  for (int64_t s = blockIdx.y; s < samples; s += gridDim.y) {
    T w[kernel::kCombineMost] = {};
    for (int k = 0; k < terms.count; ++k) w[k] = static_cast<T>(scale * weights[k * samples + s]);
    for_each_item(each, [&](int64_t i) {
      const int64_t at = s * each + i;
      T sum = w[0] * terms.x[0][at];
      if (terms.count > 1) sum += w[1] * terms.x[1][at];
      if (terms.count > 2) sum += w[2] * terms.x[2][at];
      y[at] = sum;
    });
  }
}

void combine(Tensor& y, std::span<const Tensor> x, std::span<const double> weights,
             const Tensor& factor) {
  if (y.numel() == 0) return;
  const auto count = static_cast<int64_t>(weights.size());
  const int64_t samples = count / static_cast<int64_t>(x.size()), each = y.numel() / samples;
  const Scratch<double> w(count);
  copy_raw(w.get(), weights.data(), weights.size_bytes(), Way::to_device);
  visit<DType::f32, DType::f64>(y.dtype(), "combine", [&]<class T>() {
    Terms<T> terms{};
    terms.count = static_cast<int>(x.size());
    for (size_t k = 0; k < x.size(); ++k) terms.x[k] = x[k].data<T>();
    launch(add_terms<T>, grid_deep(grid_for(each), samples), kThreads, 0, y.mutable_data<T>(),
           terms, w.get(), factor.defined() ? factor.data<T>() : nullptr, samples, each);
  });
}

}  // namespace

void register_combine() { kernel::combine.set(kDevice, combine); }

}  // namespace tenun::TENUN_BACKEND
