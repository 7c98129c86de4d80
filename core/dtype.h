// Element types: their names, sizes, the two 16-bit floats, and visit(), which turns a run-time
// DType into a compile-time type.
//
//   visit<DType::f32, DType::f64>(x.dtype(), "softmax", [&]<class T>() { run<T>(y, x); });
//
// Kernels read and write T and compute in float (double for f64): Compute<T>.
#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

#include "tenun/core/error.h"
#include "tenun/core/philox.h"

namespace tenun {

enum class DType : uint8_t { f32, f64, bf16, f16, i8, u8, i32, i64, boolean };

// In code for a GPU, one instruction converts: to the same bits, but for the payload of a NaN.

/// Brain float: the upper half of an f32, rounded to nearest even.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  TENUN_HD constexpr explicit bf16(float f) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.bf16.f32 %0,%1;" : "=h"(bits) : "f"(f));
#else
    const auto u = std::bit_cast<uint32_t>(f);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? static_cast<uint16_t>((u >> 16) | 0x40u)
               : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#endif
  }
  TENUN_HD constexpr operator float() const {  // NOLINT: widening is lossless
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

/// IEEE half precision, rounded to nearest even.
struct f16 {
  uint16_t bits = 0;
  f16() = default;
  TENUN_HD constexpr explicit f16(float f) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.f16.f32 %0,%1;" : "=h"(bits) : "f"(f));
#else
    const auto u = std::bit_cast<uint32_t>(f);
    const auto sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
    const uint32_t a = u & 0x7fffffffu;
    if (a > 0x7f800000u) {
      bits = static_cast<uint16_t>(sign | 0x7e00u);  // NaN
    } else if (a >= 0x477ff000u) {
      bits = static_cast<uint16_t>(sign | 0x7c00u);  // rounds to infinity
    } else if (a < 0x38800000u) {                    // subnormal: let the float adder round
      const float t = std::bit_cast<float>(a) + 0.5f;
      bits = static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(t) - 0x3f000000u));
    } else {
      const uint32_t r = a + 0xfffu + ((a >> 13) & 1u) - (112u << 23);
      bits = static_cast<uint16_t>(sign | (r >> 13));
    }
#endif
  }
  TENUN_HD constexpr operator float() const {  // NOLINT: widening is lossless
#if defined(__CUDA_ARCH__)
    float f = 0;
    asm("cvt.f32.f16 %0,%1;" : "=f"(f) : "h"(bits));
    return f;
#else
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, a = bits & 0x7fffu;
    if (a >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (a & 0x3ffu) << 13);
    if (a >= 0x400u) return std::bit_cast<float>(sign | ((a << 13) + (112u << 23)));
    const float f = static_cast<float>(a) * 0x1p-24f;
    return sign != 0 ? -f : f;
#endif
  }
};

template <class T>
inline constexpr DType dtype_of = [] {
  if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, bf16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, f16>)
    return DType::f16;
  else if constexpr (std::is_same_v<T, int8_t>)
    return DType::i8;
  else if constexpr (std::is_same_v<T, uint8_t>)
    return DType::u8;
  else if constexpr (std::is_same_v<T, int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, int64_t>)
    return DType::i64;
  else {
    static_assert(std::is_same_v<T, bool>, "not an element type");
    return DType::boolean;
  }
}();

namespace detail {
template <DType D>
auto type_of() {
  if constexpr (D == DType::f32)
    return float{};
  else if constexpr (D == DType::f64)
    return double{};
  else if constexpr (D == DType::bf16)
    return bf16{};
  else if constexpr (D == DType::f16)
    return f16{};
  else if constexpr (D == DType::i8)
    return int8_t{};
  else if constexpr (D == DType::u8)
    return uint8_t{};
  else if constexpr (D == DType::i32)
    return int32_t{};
  else if constexpr (D == DType::i64)
    return int64_t{};
  else
    return bool{};
}
}  // namespace detail
template <DType D>
using TypeOf = decltype(detail::type_of<D>());

/// The type that a kernel computes in: double for f64, else float.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

[[nodiscard]] constexpr int64_t size_of(DType d) {
  switch (d) {
    case DType::f64:
    case DType::i64: return 8;
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    default: return 1;
  }
}
[[nodiscard]] constexpr bool is_floating(DType d) {
  return d == DType::f32 || d == DType::f64 || d == DType::bf16 || d == DType::f16;
}
[[nodiscard]] constexpr const char* name(DType d) {
  constexpr const char* names[] = {"f32", "f64", "bf16", "f16", "i8", "u8", "i32", "i64", "bool"};
  return names[static_cast<int>(d)];
}
/// Relative spacing of the type's numbers (2^-23 for f32, 2^-7 for bf16, ...); 0 for integers.
[[nodiscard]] constexpr double epsilon_of(DType d) {
  switch (d) {
    case DType::f32: return 0x1p-23;
    case DType::f64: return 0x1p-52;
    case DType::bf16: return 0x1p-7;
    case DType::f16: return 0x1p-10;
    default: return 0;
  }
}
/// "f32" -> DType::f32; throws ValueError that lists the names.
[[nodiscard]] DType dtype_from_name(std::string_view name);

namespace detail {
[[noreturn]] void throw_dtype(std::string_view op, DType got, const DType* allowed, int n);
}

/// Calls f.operator()<T>() for the element type T of `d`; DTypeError names the op and what it
/// takes.
template <DType... Allowed, class F>
decltype(auto) visit(DType d, std::string_view op, F&& f) {
  using R = decltype(f.template operator()<float>());
  if constexpr (std::is_void_v<R>) {
    if (!((d == Allowed && (f.template operator()<TypeOf<Allowed>>(), true)) || ...)) {
      constexpr DType list[] = {Allowed...};
      detail::throw_dtype(op, d, list, static_cast<int>(sizeof...(Allowed)));
    }
  } else {
    R r{};
    if (!((d == Allowed && ((r = f.template operator()<TypeOf<Allowed>>()), true)) || ...)) {
      constexpr DType list[] = {Allowed...};
      detail::throw_dtype(op, d, list, static_cast<int>(sizeof...(Allowed)));
    }
    return r;
  }
}

/// visit over the four floating types.
template <class F>
decltype(auto) visit_float(DType d, std::string_view op, F&& f) {
  return visit<DType::f32, DType::f64, DType::bf16, DType::f16>(d, op, std::forward<F>(f));
}
/// visit over all types.
template <class F>
decltype(auto) visit_all(DType d, std::string_view op, F&& f) {
  return visit<DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::u8, DType::i32,
               DType::i64, DType::boolean>(d, op, std::forward<F>(f));
}

}  // namespace tenun
