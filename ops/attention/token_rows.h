// Tokens of a (B, H, N, D) tensor as rows of the compute type. Internal to the linear branch.
#pragma once
#include <type_traits>

#include "tenun/ops/attention/kernels/kernels.h"
#include "tenun/ops/attention/kernels/linear_kernels.h"
#include "tenun/ops/attention/tile.h"
#include "tenun/ops/simd/isa.h"

namespace tenun::attn {

/// bf16 is widened panel by panel.
template <class T>
class Tokens {
 public:
  explicit Tokens(const Tensor& x) : x_(in_place(x) ? x : compute_rows(x)) {}
  [[nodiscard]] simd::TokenRows<T> rows(int64_t bh, int64_t first, int64_t count, T* room) const {
    if (x_.dtype() == dtype_of<T>) {
      const Rows<T> r = Heads<T>(x_)[bh];
      return {r.row(first), r.stride, count};
    }
    const Rows<bf16> r = Heads<bf16>(x_)[bh];
    const int64_t d = x_.dim(3);
    if constexpr (std::is_same_v<T, float>)
      simd::pack_kernels().widen(reinterpret_cast<const uint16_t*>(r.row(first)), r.stride, count,
                                 d, room);
    return {room, d, count};
  }

 private:
  static bool in_place(const Tensor& x) {
    return x.dtype() == DType::bf16 && x.strides()[3] == 1 && std::is_same_v<T, float>;
  }
  Tensor x_;
};

}  // namespace tenun::attn
