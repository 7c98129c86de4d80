// Attention over parts of the keys: results over disjoint parts are merged by their log-sum-exps.
// The backward pass of a part is that of plain flash with the lse and delta of the whole (the
// softmax is then normalised over all parts), so nothing of the parts is kept. Internal to the
// parts.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "tenun/core/math.h"

namespace tenun::attn {

/// (o, lse) of one row takes in a part's (po, plse): lse = log(e^lse + e^plse), o by their shares.
template <class T>
void merge_row(T* __restrict o, T& lse, const T* __restrict po, T plse, int64_t d) {
  if (plse == -std::numeric_limits<T>::infinity()) return;
  const T most = std::max(lse, plse), a = math::exp(lse - most), b = math::exp(plse - most);
  const T sum = a + b, keep = a / sum, add = b / sum;
  for (int64_t c = 0; c < d; ++c) o[c] = keep * o[c] + add * po[c];
  lse = most + math::log(sum);
}

}  // namespace tenun::attn
