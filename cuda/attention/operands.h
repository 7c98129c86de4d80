// Private to cuda/attention: tensors as the plain data of args.h. Only inside of a kernel slot.
#pragma once
#include <string>

#include "tenun/core/error.h"
#include "tenun/cuda/attention/args.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::TENUN_BACKEND::attention {

[[nodiscard]] inline Rows rows_of(const Tensor& x) {
  if (!x.defined()) return {};
  const Shape& s = x.strides();
  return {x.raw(), x.dtype(), x.dim(1), s[0], s[1], s[2], s[3]};
}
/// B H of a call is one axis of a grid.
inline void check_heads(int64_t heads) {
  if (heads > 65535)
    throw ValueError("attention on the GPU: B H = " + std::to_string(heads) +
                     " is more than 65535: split the batch");
}
[[nodiscard]] inline const void* read(const Tensor& x) { return x.defined() ? x.raw() : nullptr; }
[[nodiscard]] inline void* write(Tensor& x) { return x.defined() ? x.raw() : nullptr; }
[[nodiscard]] inline Lists row_lists(const attn::BlockLists* l) {
  return l == nullptr ? Lists{}
                      : Lists{l->row_start.data<int64_t>(), l->row_index.data<int32_t>(),
                              l->row_index.numel()};
}
[[nodiscard]] inline Lists column_lists(const attn::BlockLists* l) {
  return l == nullptr ? Lists{}
                      : Lists{l->col_start.data<int64_t>(), l->col_index.data<int32_t>(),
                              l->col_index.numel()};
}

}  // namespace tenun::TENUN_BACKEND::attention
