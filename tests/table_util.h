// What the tests of the table of ops share: inputs in another layout.
#pragma once
#include "tenun/core/tensor.h"

namespace tenun::test {

/// The same numbers in a layout with gaps and a permuted order of axes.
inline Tensor strided_copy(const Tensor& t) {
  if (t.rank() == 0) return t;
  Shape big;
  for (int i = t.rank() - 1; i >= 0; --i) big.push_back(t.dim(i) + 1);
  Tensor base = Tensor::full(big, 77, t.dtype(), t.device());
  Dims back;
  for (int i = t.rank() - 1; i >= 0; --i) back.push_back(i);
  Tensor view = base.permute(back);
  for (int i = 0; i < t.rank(); ++i) view = view.slice(i, 1, 1 + t.dim(i));
  view.copy_(t);
  return view;
}

}  // namespace tenun::test
