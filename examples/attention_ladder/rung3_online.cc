// Rung 3: the softmax in one pass over the keys, without the n x n matrix (Milakov and Gimelshein
// 2018). For every query three things are kept: m (largest score so far), l (sum of exp(s - m)),
// o (sum of exp(s - m) v). A key with score s > m changes the reference of all terms:
//   o <- o exp(m - s) + v      l <- l exp(m - s) + 1      m <- s
// and at the end o / l is the result.
#include <cmath>

#include "tenun/examples/attention_ladder/ladder.h"

namespace ladder {

Floats online(const Inputs& in) {
  const auto n = static_cast<size_t>(in.n), d = static_cast<size_t>(in.d);
  Floats o(n * d);
  for (size_t i = 0; i < n; ++i) {
    const float* const q = &in.q[i * d];
    float* const out = &o[i * d];
    float m = -INFINITY, l = 0;
    for (size_t j = 0; j < n; ++j) {
      float lane[8] = {};  // eight sums side by side: the compiler may not reorder a single one
      for (size_t c = 0; c < d; c += 8)
        for (size_t e = 0; e < 8; ++e) lane[e] += q[c + e] * in.k[j * d + c + e];
      float s = 0;
      for (const float x : lane) s += x;
      s *= in.scale();
      if (s > m) {
        const float shrink = std::exp(m - s);  // 0 for the first key
        for (size_t c = 0; c < d; ++c) out[c] *= shrink;
        l *= shrink;
        m = s;
      }
      const float p = std::exp(s - m);
      for (size_t c = 0; c < d; ++c) out[c] += p * in.v[j * d + c];
      l += p;
    }
    for (size_t c = 0; c < d; ++c) out[c] /= l;
  }
  return o;
}

}  // namespace ladder
