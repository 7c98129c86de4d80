// Scales of symmetric INT8 quantisation (ops/quant.h): amax / 127 of each group. Maxima are exact
// in any order.
#include <algorithm>

#include "tenun/cuda/reduce_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/quant.h"

namespace tenun::TENUN_BACKEND {
namespace {

template <class T>
struct Amax {
  using Value = Compute<T>;
  Value* scale;
  __device__ Value identity() const { return 0; }
  __device__ Value of(T v) const {
    const auto x = static_cast<Value>(v);
    return x < 0 ? -x : x;
  }
  __device__ Value combine(Value a, Value b) const { return Larger{}(a, b); }
  __device__ void finish(Value v, int64_t out) const { scale[out] = v / Value(127); }
};
/// Groups are the rows, or the columns, of what is reduced.
template <class T>
struct AmaxOf : Amax<T> {
  const T* x;
  __device__ auto take(int64_t at, int64_t, int64_t) const { return this->of(x[at]); }
};
/// Groups of `tokens` rows of d elements, of which the last in each plane of n rows is shorter.
template <class T>
struct AmaxOfBlocks : Amax<T> {
  const T* x;
  int64_t tokens, groups, n, d;
  __device__ auto take(int64_t, int64_t r, int64_t out) const {
    const int64_t row = out % groups * tokens + r / d;
    return row < n ? this->of(x[(out / groups * n + row) * d + r % d]) : this->identity();
  }
};

void int8_scale(Tensor& scale, const Tensor& x, int64_t tokens) {
  const int64_t p = x.dim(0), n = x.dim(1), d = x.dim(2);
  visit_float(x.dtype(), "quantize_int8", [&]<class T>() {
    const Amax<T> amax{scale.mutable_data<Compute<T>>()};
    if (tokens == 0) return reduce_middle(AmaxOf<T>{amax, x.data<T>()}, p, n, d);
    if (tokens == 1) return reduce_middle(AmaxOf<T>{amax, x.data<T>()}, p * n, d, 1);
    const int64_t groups = (n + tokens - 1) / tokens;
    reduce_middle(AmaxOfBlocks<T>{amax, x.data<T>(), tokens, groups, n, d}, p * groups,
                  std::min(tokens, n) * d, 1);
  });
}

}  // namespace

void register_int8_scale() { kernel::int8_scale.set(kDevice, int8_scale); }

}  // namespace tenun::TENUN_BACKEND
