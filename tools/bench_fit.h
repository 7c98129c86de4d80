// What a benchmark derives from its points (length, time): how time grows with the length, and from
// which length on a method beats its rival. Pure functions of numbers that were measured.
//
//   growth_exponent({{4096, 10}, {16384, 40}})            // 1: linear
//   break_even(method, dense)                              // where the curves cross
#pragma once
#include <span>

namespace tenun::tools {

struct Point {
  double n = 0, ms = 0;
};

/// The slope of log(ms) over log(n) by least squares; NaN without two different lengths.
[[nodiscard]] double growth_exponent(std::span<const Point> points);

enum class Faster { always, beyond, never, unknown };
struct BreakEven {
  Faster faster = Faster::unknown;  ///< unknown: the two have no length in common
  double n = 0;  ///< beyond: interpolated on logarithmic axes; else the smallest common length
};
/// From which length on is the method faster at every measured length? `never`: slower at the
/// largest one.
[[nodiscard]] BreakEven break_even(std::span<const Point> method, std::span<const Point> rival);

/// Amdahl: the whole gets this much faster when a `share` of its time gets `gain` times faster.
[[nodiscard]] double amdahl(double share, double gain);

/// The bound of sparse-linear attention against dense attention at `density`, from its operations
/// alone: 1 / (density + D / N + 1 / (2 block_q block_k)).
[[nodiscard]] double sparse_linear_bound(double density, double n, double d, double block_q,
                                         double block_k);

}  // namespace tenun::tools
