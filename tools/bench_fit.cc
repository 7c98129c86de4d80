#include "tenun/tools/bench_fit.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace tenun::tools {

double growth_exponent(std::span<const Point> points) {
  double mx = 0, my = 0;
  const auto count = static_cast<double>(points.size());
  for (const Point& p : points) mx += std::log(p.n) / count, my += std::log(p.ms) / count;
  double xx = 0, xy = 0;
  for (const Point& p : points) {
    const double x = std::log(p.n) - mx;
    xx += x * x, xy += x * (std::log(p.ms) - my);
  }
  return xx > 0 ? xy / xx : std::numeric_limits<double>::quiet_NaN();
}

BreakEven break_even(std::span<const Point> method, std::span<const Point> rival) {
  struct Ratio {
    double n, log_ratio;  // below 0: the method is faster
  };
  std::vector<Ratio> r;
  for (const Point& a : method)
    for (const Point& b : rival)
      if (a.n == b.n) r.push_back({a.n, std::log(a.ms / b.ms)});
  if (r.empty()) return {};
  std::sort(r.begin(), r.end(), [](const Ratio& a, const Ratio& b) { return a.n < b.n; });
  if (r.back().log_ratio >= 0) return {Faster::never, r.front().n};
  size_t first = r.size() - 1;  // of the lengths from which on it is faster throughout
  while (first > 0 && r[first - 1].log_ratio < 0) --first;
  if (first == 0) return {Faster::always, r.front().n};
  const Ratio &a = r[first - 1], &b = r[first];
  const double t = a.log_ratio / (a.log_ratio - b.log_ratio);
  return {Faster::beyond, std::exp(std::log(a.n) + t * (std::log(b.n) - std::log(a.n)))};
}

double amdahl(double share, double gain) { return 1 / (1 - share + share / gain); }

double sparse_linear_bound(double density, double n, double d, double block_q, double block_k) {
  return 1 / (density + d / n + 1 / (2 * block_q * block_k));
}

}  // namespace tenun::tools
