// The 16-bit floats against references that know nothing of bit tricks: exact decoding by ldexp,
// and rounding by searching the nearest representable number.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tenun/core/dtype.h"

using namespace tenun;

namespace {

// A format with `exponent` and `mantissa` bits, decoded in doubles.
struct Format {
  int exponent, mantissa;
  [[nodiscard]] int bias() const { return (1 << (exponent - 1)) - 1; }
  [[nodiscard]] double decode(uint16_t bits) const {
    const double sign = (bits >> 15) != 0 ? -1 : 1;
    const int e = bits >> mantissa & ((1 << exponent) - 1), m = bits & ((1 << mantissa) - 1);
    if (e == (1 << exponent) - 1)
      return m != 0 ? std::numeric_limits<double>::quiet_NaN()
                    : sign * std::numeric_limits<double>::infinity();
    if (e == 0) return sign * std::ldexp(m, 1 - bias() - mantissa);
    return sign * std::ldexp((1 << mantissa) + m, e - bias() - mantissa);
  }
  // The magnitude (bits without sign) nearest to |f|, halves to even; an overflow is infinity.
  [[nodiscard]] uint16_t encode(float f) const {
    const auto sign = static_cast<uint16_t>(std::signbit(f) ? 0x8000 : 0);
    const double a = std::abs(static_cast<double>(f));
    const int top = ((1 << exponent) - 1) << mantissa;  // infinity
    int low = 0, high = top;
    while (high - low > 1) {  // decode(low) <= a < decode(high), infinity being the last
      const int mid = (low + high) / 2;
      (decode(static_cast<uint16_t>(mid)) <= a ? low : high) = mid;
    }
    if (std::isinf(a)) return static_cast<uint16_t>(sign | top);
    const double down = decode(static_cast<uint16_t>(low));
    // Above the largest number, the next one would be a step further.
    const double up = high == top ? down + (down - decode(static_cast<uint16_t>(low - 1)))
                                  : decode(static_cast<uint16_t>(high));
    const double middle = (down + up) / 2;
    const bool take_up = a > middle || (a == middle && (low & 1) != 0);
    return static_cast<uint16_t>(sign | (take_up ? high : low));
  }
};
constexpr Format kBf16{8, 7}, kF16{5, 10};

template <class T>
void decode_all(const Format& format) {
  int bad = 0;
  for (uint32_t b = 0; b < 65536; ++b) {
    T h;
    h.bits = static_cast<uint16_t>(b);
    const auto got = static_cast<double>(static_cast<float>(h));
    const double want = format.decode(h.bits);
    const bool same =
        std::isnan(want) ? std::isnan(got) : got == want && std::signbit(got) == std::signbit(want);
    if (!same) ++bad;
    // Back again: the same bits, but for a NaN, which stays a NaN of the same sign.
    const T back(static_cast<float>(h));
    if (std::isnan(want) ? !std::isnan(format.decode(back.bits)) || (back.bits >> 15) != (b >> 15)
                         : back.bits != h.bits)
      ++bad;
  }
  CHECK(bad == 0);
}

// Every number between two neighbours: the ends, the middle, and one f32 step beside each.
template <class T>
void encode_all(const Format& format) {
  int bad = 0;
  const auto same = [&](float f) {
    const T h(f);
    if (h.bits != format.encode(f)) ++bad;
  };
  const int top = ((1 << format.exponent) - 1) << format.mantissa;
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (int b = 0; b <= top; ++b) {
    const auto low = format.decode(static_cast<uint16_t>(b));
    const double high = format.decode(static_cast<uint16_t>(std::min(b + 1, top)));
    for (const double x : {low, (low + high) / 2}) {
      const auto f = static_cast<float>(x);
      for (const float g : {std::nextafterf(f, -kInf), f, std::nextafterf(f, kInf)})
        for (const float s : {g, -g})
          if (!std::isnan(s)) same(s);
    }
  }
  for (const float f : {65504.0f, 65519.99f, 65520.0f, 65536.0f, 3.4e38f, 1e-45f, kInf, 0.0f})
    for (const float s : {f, -f}) same(s);
  // A sweep over all exponents, with mantissas that are not special.
  uint32_t bits = 1;
  for (int i = 0; i < 200000; ++i) {
    bits = bits * 1664525u + 1013904223u;
    const auto f = std::bit_cast<float>(bits);
    if (!std::isnan(f)) same(f);
  }
  CHECK(bad == 0);
}

}  // namespace

TEST_SUITE("core_dtype") {
  TEST_CASE("all 65536 patterns of bf16 and f16 decode exactly and survive the way back") {
    decode_all<bf16>(kBf16);
    decode_all<f16>(kF16);
  }

  TEST_CASE("f32 is rounded to nearest, halves to even, subnormals and overflow included") {
    encode_all<bf16>(kBf16);
    encode_all<f16>(kF16);
    CHECK(f16(0x1p-25f).bits == 0);           // half of the smallest number: to even
    CHECK(f16(0x1.8p-25f).bits == 1);         // three quarters of it
    CHECK(f16(0x1.8p-24f).bits == 2);         // one and a half: to even
    CHECK(f16(65519.996f).bits == 0x7bff);    // the largest number
    CHECK(f16(65520.0f).bits == 0x7c00);      // the half-way point goes to infinity
    CHECK(bf16(0x1.ffp127f).bits == 0x7f80);  // likewise
    CHECK(bf16(0x1.fep127f).bits == 0x7f7f);
  }

  TEST_CASE("a NaN stays a NaN whatever its payload") {
    for (const uint32_t u : {0x7fc00000u, 0x7f800001u, 0xff800001u, 0x7fffffffu, 0x7f80ffffu}) {
      const auto nan = std::bit_cast<float>(u);
      CHECK(std::isnan(static_cast<float>(bf16(nan))));
      CHECK(std::isnan(static_cast<float>(f16(nan))));
    }
  }

  TEST_CASE("names, sizes and properties") {
    const DType all[] = {DType::f32, DType::f64, DType::bf16, DType::f16,    DType::i8,
                         DType::u8,  DType::i32, DType::i64,  DType::boolean};
    for (const DType d : all) {
      CHECK(dtype_from_name(name(d)) == d);
      visit_all(d, "test", [&]<class T>() {
        CHECK(dtype_of<T> == d);
        CHECK(size_of(d) == static_cast<int64_t>(sizeof(T)));
        CHECK(is_floating(d) ==
              (std::is_floating_point_v<T> || std::is_same_v<T, bf16> || std::is_same_v<T, f16>));
      });
    }
    CHECK(epsilon_of(DType::f32) == std::numeric_limits<float>::epsilon());
    CHECK(epsilon_of(DType::f64) == std::numeric_limits<double>::epsilon());
    CHECK(static_cast<float>(bf16(1 + 0x1p-7f)) == 1 + epsilon_of(DType::bf16));
    CHECK(static_cast<float>(f16(1 + 0x1p-10f)) == 1 + epsilon_of(DType::f16));
    CHECK(epsilon_of(DType::i32) == 0);
    CHECK(std::is_same_v<Compute<double>, double>);
    CHECK(std::is_same_v<Compute<bf16>, float>);
    CHECK_THROWS_WITH_AS(
        (void)dtype_from_name("float"),
        "dtype: unknown dtype 'float'; use f32, f64, bf16, f16, i8, u8, i32, i64 or bool",
        ValueError);
  }

  TEST_CASE("visit returns values and refuses other types by name") {
    CHECK(visit<DType::f32, DType::i64>(DType::i64, "test", []<class T>() { return sizeof(T); }) ==
          8);
    CHECK_THROWS_WITH_AS((visit<DType::f32, DType::f64>(DType::i8, "softmax", []<class T>() {})),
                         "softmax: does not take i8; it takes f32, f64", DTypeError);
    CHECK_THROWS_AS((void)visit_float(DType::boolean, "op", []<class T>() { return 1; }),
                    DTypeError);
    int calls = 0;
    visit_float(DType::bf16, "op", [&]<class T>() { ++calls; });
    CHECK(calls == 1);
  }
}
