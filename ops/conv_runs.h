// What the CPU kernels of conv2d share: where a tap of the kernel meets the image.
#pragma once
#include <algorithm>

#include "tenun/ops/conv.h"

namespace tenun {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The stretch of one output row where a tap lies inside the image: columns at..at+count of the
// block read the pixels from, from + stride, ...; columns begin..at and at+count..end see padding.
struct Run {
  int64_t begin, at, count, end, from;
};

// Calls f(run) for the output rows of positions [p0, p1) and tap (r, q).
template <class F>
void for_runs(const ConvShape& s, int64_t p0, int64_t p1, int64_t r, int64_t q, F&& f) {
  const Windows& w = s.windows;
  const int64_t shift = q * w.dilation.w - w.padding.w;  // input column of output column 0
  const int64_t low = shift >= 0 ? 0 : ceil_div(-shift, w.stride.w);
  const int64_t high = s.image.w <= shift ? 0 : ceil_div(s.image.w - shift, w.stride.w);
  for (int64_t p = p0; p < p1;) {
    const int64_t i = p / s.out.w, j0 = p - i * s.out.w, j1 = std::min(s.out.w, j0 + p1 - p);
    const int64_t y = i * w.stride.h - w.padding.h + r * w.dilation.h;
    const bool inside = y >= 0 && y < s.image.h;
    const int64_t a = std::clamp(low, j0, j1), b = inside ? std::clamp(high, a, j1) : a;
    f(Run{p - p0, p - p0 + a - j0, b - a, p - p0 + j1 - j0,
          y * s.image.w + a * w.stride.w + shift});
    p += j1 - j0;
  }
}

}  // namespace tenun
