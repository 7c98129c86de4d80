// The order of top-k and sorting (ops/index.h), one text for host and device: each value becomes an
// unsigned key that sorts as the value does (-0 as +0, NaN above everything), and with the index
// behind it the keys of a row are all different, so that every sort is stable.
//
//   const OrderEntry<float> e = order_entry(x[i], i, true);   index_of(e) == i
#pragma once
#include <bit>

#include "tenun/core/dtype.h"

namespace tenun {

/// 32 bits for types of up to 32, else 64. Negative floats are reversed, positive ones above them.
template <class T>
TENUN_HD auto order_key(T v) {
  if constexpr (std::is_same_v<T, bool> || std::is_unsigned_v<T>) {
    return static_cast<uint32_t>(v);
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return static_cast<uint64_t>(v) ^ uint64_t { 1 } << 63;
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<uint32_t>(int32_t{v}) ^ uint32_t { 1 } << 31;
  } else {
    using C = Compute<T>;
    using U = std::conditional_t<sizeof(C) == 8, uint64_t, uint32_t>;
    constexpr U sign = U{1} << (sizeof(U) * 8 - 1);
    const C x = static_cast<C>(v) + C(0);  // -0 becomes +0
    if (x != x) return static_cast<U>(~U{0});
    const U u = std::bit_cast<U>(x);
    return (u & sign) != 0 ? static_cast<U>(~u) : static_cast<U>(u | sign);
  }
}

struct WideEntry {
  uint64_t key;
  uint64_t index;
  TENUN_HD bool operator<(const WideEntry& o) const {
    return key != o.key ? key < o.key : index < o.index;
  }
};
/// A key of 32 bits and the index fit into one number.
template <class T>
using OrderEntry = std::conditional_t<sizeof(order_key(T{})) == 4, uint64_t, WideEntry>;

/// Element i of a row; with `largest`, great values come first.
template <class T>
TENUN_HD OrderEntry<T> order_entry(T v, int64_t i, bool largest) {
  auto key = order_key(v);
  if (largest) key = static_cast<decltype(key)>(~key);
  if constexpr (sizeof(key) == 4)
    return uint64_t{key} << 32 | static_cast<uint64_t>(i);
  else
    return {key, static_cast<uint64_t>(i)};
}
TENUN_HD inline int64_t index_of(uint64_t e) { return static_cast<int64_t>(e & 0xffffffffu); }
TENUN_HD inline int64_t index_of(const WideEntry& e) { return static_cast<int64_t>(e.index); }

}  // namespace tenun
