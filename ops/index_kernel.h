// Private to ops/index.cc and cuda/index.cu: as which types elements are moved and added, and where
// they stand.
#pragma once
#include <utility>

#include "tenun/core/tensor.h"

namespace tenun::detail {

// Moving elements needs their size alone.
template <class F>
void visit_size(DType d, F&& f) {
  switch (size_of(d)) {
    case 1: return f.template operator()<uint8_t>();
    case 2: return f.template operator()<uint16_t>();
    case 4: return f.template operator()<uint32_t>();
    default: return f.template operator()<uint64_t>();
  }
}
template <class F>
void visit_sum(DType d, const char* op, F&& f) {
  visit<DType::f32, DType::f64, DType::i32, DType::i64>(d, op, std::forward<F>(f));
}

/// The start of the storage: places add the offset of the layout.
template <class T>
const T* base(const Tensor& t) {
  return reinterpret_cast<const T*>(t.raw()) - t.layout().offset;
}
template <class T>
T* base(Tensor& t) {
  return reinterpret_cast<T*>(t.raw()) - t.layout().offset;
}
/// `l` over another extent, with one axis standing still.
inline Layout along(const Layout& l, const Shape& extent, int fixed) {
  Layout out = l;
  out.shape = extent;
  if (fixed < extent.size()) out.strides[fixed] = 0;
  return out;
}

}  // namespace tenun::detail
