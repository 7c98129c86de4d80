// Helpers for the cases of ops that move elements: reading attributes, and tensors built from a
// function of the index.
#pragma once
#include "tenun/ops/cases/registry.h"

namespace tenun {

using Index = Shape;

/// An axis attribute of the first input, not negative.
inline int axis_of(const OpArgs& a, const char* attr = "dim", int fallback = 0) {
  const int rank = a.values[0].rank();
  const auto d = static_cast<int>(a.attrs.integer(attr, fallback));
  return d < 0 ? d + rank : d;
}
inline Shape shape_attr(const OpArgs& a, const char* name) {
  const auto v = a.attrs.integers(name);
  return {v.begin(), v.end()};
}
/// A tensor of the given shape from f(index).
template <class F>
Tensor make(const Shape& shape, F&& f) {
  std::vector<double> v(static_cast<size_t>(shape.numel()));
  for_each_index(shape, [&](const Index& i, int64_t flat) { v[static_cast<size_t>(flat)] = f(i); });
  return f64_tensor(v, shape);
}
/// A tensor whose element at an index is x at source(index).
template <class F>
std::vector<Tensor> moved(const Tensor& x, const Shape& shape, F&& source) {
  const auto v = doubles(x);
  return {make(shape, [&](const Index& i) {
    return v[static_cast<size_t>(flat_index(source(i), x.shape()))];
  })};
}
using List = std::vector<int64_t>;  ///< for list attributes

}  // namespace tenun
