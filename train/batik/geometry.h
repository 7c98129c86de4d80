// The small change of drawing: points, affine maps, colours and the random stream of a picture.
// Pictures are drawn in the square [-0.5, 0.5]^2 with y downwards; sizes are fractions of the
// picture's side, so that nothing here depends on the resolution. Colours are display (sRGB)
// values.
//
//   Rng rng(seed, cls, index);  const Vec2 tip = polar(rng.uniform(0, kTau), 0.3f);
#pragma once
#include <array>
#include <cmath>
#include <cstdint>

#include "tenun/core/philox.h"

namespace tenun::batik {

inline constexpr float kPi = 3.14159265f, kTau = 2 * kPi;

struct Vec2 {
  float x = 0, y = 0;
  friend constexpr Vec2 operator+(Vec2 a, Vec2 b) { return {a.x + b.x, a.y + b.y}; }
  friend constexpr Vec2 operator-(Vec2 a, Vec2 b) { return {a.x - b.x, a.y - b.y}; }
  friend constexpr Vec2 operator*(Vec2 a, float s) { return {a.x * s, a.y * s}; }
};
[[nodiscard]] constexpr float dot(Vec2 a, Vec2 b) { return a.x * b.x + a.y * b.y; }
[[nodiscard]] constexpr Vec2 perp(Vec2 a) { return {-a.y, a.x}; }
[[nodiscard]] constexpr Vec2 mix(Vec2 a, Vec2 b, float t) { return a + (b - a) * t; }
[[nodiscard]] inline float length(Vec2 a) { return std::sqrt(dot(a, a)); }
[[nodiscard]] inline Vec2 polar(float angle, float radius) {
  return {radius * std::cos(angle), radius * std::sin(angle)};
}
[[nodiscard]] constexpr float clamp01(float v) { return v < 0 ? 0 : v > 1 ? 1 : v; }
[[nodiscard]] constexpr float smoothstep(float lo, float hi, float v) {
  const float t = clamp01((v - lo) / (hi - lo));
  return t * t * (3 - 2 * t);
}

/// x' = a x + c y + tx, y' = b x + d y + ty.
struct Affine {
  float a = 1, b = 0, c = 0, d = 1, tx = 0, ty = 0;

  [[nodiscard]] Vec2 operator()(Vec2 p) const {
    return {a * p.x + c * p.y + tx, b * p.x + d * p.y + ty};
  }
  /// First `m`, then this.
  [[nodiscard]] Affine operator*(const Affine& m) const {
    return {a * m.a + c * m.b, b * m.a + d * m.b,        a * m.c + c * m.d,
            b * m.c + d * m.d, a * m.tx + c * m.ty + tx, b * m.tx + d * m.ty + ty};
  }
  [[nodiscard]] Affine inverse() const {
    const float k = 1 / (a * d - b * c);
    return {d * k, -b * k, -c * k, a * k, (c * ty - d * tx) * k, (b * tx - a * ty) * k};
  }
  /// The mean factor by which lengths grow.
  [[nodiscard]] float scale() const { return std::sqrt(std::abs(a * d - b * c)); }

  static Affine move(Vec2 p) { return {1, 0, 0, 1, p.x, p.y}; }
  static Affine stretch(float sx, float sy) { return {sx, 0, 0, sy, 0, 0}; }
  static Affine turn(float angle) {
    const float s = std::sin(angle), c = std::cos(angle);
    return {c, s, -s, c, 0, 0};
  }
};

struct Color {
  float r = 0, g = 0, b = 0;
  friend constexpr bool operator==(const Color&, const Color&) = default;
};
[[nodiscard]] constexpr Color hex(uint32_t rgb) {
  return {static_cast<float>((rgb >> 16) & 255) / 255.f,
          static_cast<float>((rgb >> 8) & 255) / 255.f, static_cast<float>(rgb & 255) / 255.f};
}
[[nodiscard]] constexpr Color mix(Color a, Color b, float t) {
  return {a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}
[[nodiscard]] constexpr float luminance(Color c) {
  return 0.299f * c.r + 0.587f * c.g + 0.114f * c.b;
}

/// A stream of Philox numbers owned by one picture. `fork` gives the independent stream of a part
/// (a lattice cell, a leaf), so that parts that fall outside the picture can be left out without
/// a change to the others.
class Rng {
 public:
  Rng(uint64_t seed, int cls, uint64_t index)
      : seed_(seed), index_(index), lane_(static_cast<uint32_t>(cls)) {}

  [[nodiscard]] uint32_t bits() {
    if (used_ == 4) {
      block_ = Philox::bits(next_++, lane_, static_cast<uint32_t>(index_),
                            static_cast<uint32_t>(index_ >> 32), static_cast<uint32_t>(seed_),
                            static_cast<uint32_t>(seed_ >> 32));
      used_ = 0;
    }
    return block_.x[used_++];
  }
  [[nodiscard]] float uniform(float lo = 0, float hi = 1) {
    return lo + (hi - lo) * uniform_from_bits(bits());
  }
  /// An integer in [0, n).
  [[nodiscard]] int below(int n) {
    return static_cast<int>((uint64_t{bits()} * static_cast<uint64_t>(n)) >> 32);
  }
  [[nodiscard]] bool chance(float p) { return uniform() < p; }
  [[nodiscard]] float sign() { return chance(0.5f) ? 1.f : -1.f; }
  template <class T, size_t N>
  [[nodiscard]] const T& pick(const std::array<T, N>& from) {
    return from[static_cast<size_t>(below(static_cast<int>(N)))];
  }
  [[nodiscard]] Rng fork(int a, int b = 0) const {
    Rng part = *this;
    const Philox h =
        Philox::bits(lane_, static_cast<uint32_t>(a), static_cast<uint32_t>(b), 0x62617469u, 0, 0);
    part.lane_ = h.x[0] | 0x80000000u;  // the streams of the classes themselves stay untouched
    part.next_ = 0;
    part.used_ = 4;
    return part;
  }

 private:
  uint64_t seed_, index_;
  uint32_t lane_, next_ = 0;
  int used_ = 4;
  Philox block_{};
};

}  // namespace tenun::batik
