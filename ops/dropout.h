// Dropout (Srivastava et al., 2014), inverted: each element becomes 0 with probability `drop`, the
// others are divided by 1 - drop, so that the mean stays. The caller decides whether it trains.
//   if (training) h = dropout(h, 0.1, RandomKey::derive(seed, Purpose::dropout, step, layer));
// Training code takes a key for each sample of the batch, derived from the number of the sample:
// then the masks do not depend on how samples are put into batches.
//   h = dropout(h, 0.1, keys);                       // h (B, ...), keys.size() == B
// Element i (row-major, of the tensor or of the sample) is dropped where uniform(key, i) < drop: a
// pure function of the key, equal on every device and for any number of threads. The mask is never
// stored; backward draws it again. ValueError unless 0 <= drop < 1; DTypeError for integers.
#pragma once
#include <vector>

#include "tenun/autograd/var.h"
#include "tenun/core/kernel.h"
#include "tenun/core/random.h"

namespace tenun {

[[nodiscard]] Var dropout(const Var& x, double drop, RandomKey key);

/// The randomness of each sample of a batch.
using SampleKeys = std::vector<RandomKey>;
/// RandomKey::derive with every key as the seed.
[[nodiscard]] SampleKeys derive_keys(const SampleKeys& keys, Purpose purpose, uint64_t a,
                                     uint64_t b = 0);
/// ShapeError unless there is a key for each index of the first axis.
[[nodiscard]] Var dropout(const Var& x, double drop, const SampleKeys& keys);

namespace kernel {
/// y = x / (1 - drop) where the element is kept, else 0; both contiguous.
extern Kernel<void(Tensor& y, const Tensor& x, double drop, RandomKey key)> dropout;
}  // namespace kernel

}  // namespace tenun
