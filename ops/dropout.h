// Dropout (Srivastava et al., 2014), inverted: each element becomes 0 with probability `drop`, the
// others are divided by 1 - drop, so that the mean stays. The caller decides whether it trains.
//   if (training) h = dropout(h, 0.1, RandomKey::derive(seed, Purpose::dropout, step, layer));
// Element i (row-major) is dropped where uniform(key, i) < drop: a pure function of the key, equal
// on every device and for any number of threads. The mask is never stored; backward draws it again.
// ValueError unless 0 <= drop < 1; DTypeError for integers.
#pragma once
#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"
#include "tenun/core/random.h"

namespace tenun {

[[nodiscard]] Var dropout(const Var& x, double drop, RandomKey key);

namespace kernel {
/// y = x / (1 - drop) where the element is kept, else 0; both contiguous.
extern Kernel<void(Tensor& y, const Tensor& x, double drop, RandomKey key)> dropout;
}  // namespace kernel

}  // namespace tenun
