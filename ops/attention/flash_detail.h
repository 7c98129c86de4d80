// What the forward and backward CPU kernels of flash attention share. Internal.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/tile.h"

namespace tenun::attn {

/// The low-bit forward held in f64 (exact: sums stay below 2^53): integers and their units.
/// Replaces k by the smoothed k (rounded if qk is), v by its integers if pv is.
struct LowBitOperands {
  Quant quant{};
  Tensor q_unit, k_unit, v_unit;  ///< per query block, per key block, per channel
  [[nodiscard]] bool qk() const { return quant.qk == LowBit::int8; }
  [[nodiscard]] bool pv() const { return quant.pv != LowBit::none; }
};
/// The largest magnitude that the integers, or FP8 values, of a unit have.
[[nodiscard]] constexpr double largest_value(LowBit type) {
  return type == LowBit::fp8 ? 448 : 127;
}
/// The larger one of two magnitudes; NaN if one is NaN.
template <class T>
[[nodiscard]] T larger(T a, T b) {
  return a >= b || a != a ? a : b;
}
/// Rounded to FP8 E4M3, halves to even: 3 bits behind the leading one from 2^-6 on, steps of 2^-9
/// below; at most 448.
template <class T>
[[nodiscard]] T e4m3(T x) {
  int exponent = 0;
  std::frexp(x, &exponent);  // |x| = f 2^exponent, f in [1/2, 1)
  const T step = std::ldexp(T(1), std::max(exponent - 1, -6) - 3);
  return std::clamp(std::rint(x / step) * step, T(-448), T(448));
}
[[nodiscard]] LowBitOperands low_bit_operands(const Tensor& q, Tensor& k, Tensor& v,
                                              const FlashArgs& args);
/// Mean over the tokens (B, H, 1, D), in the compute type.
[[nodiscard]] Tensor token_mean(const Tensor& x);
/// log2(m), with a floor that keeps it finite; undefined for undefined.
[[nodiscard]] Tensor log2_of(const Tensor& weight);

/// out[key * by_key + query * by_query] = 0 or 1 / (1 - dropout): a pure function of the key and of
/// the element's index in (B, H, Nq, Nk).
void keep_factors(float* out, int64_t by_key, int64_t by_query, const FlashArgs& args, int64_t bh,
                  int64_t nq, int64_t nk, int64_t q0, int64_t queries, int64_t k0, int64_t keys);

/// Calls f(begin, end) for the tokens of a list's neighbouring blocks, at most `most` blocks a run.
template <class F>
void for_each_run(const Tensor& start_, const Tensor& index_, int64_t row, int64_t block, int64_t n,
                  int64_t most, F&& f) {
  const int64_t* const start = start_.data<int64_t>();
  const int32_t* const index = index_.data<int32_t>();
  for (int64_t i = start[row]; i < start[row + 1];) {
    int64_t j = i + 1;
    while (j < start[row + 1] && j - i < most && index[j] == index[j - 1] + 1) ++j;
    f(index[i] * block, std::min((index[j - 1] + 1) * block, n));
    i = j;
  }
}

}  // namespace tenun::attn
