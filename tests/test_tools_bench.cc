// What the benchmark derives from its numbers, and how it draws them.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "tenun/tools/bench_fit.h"
#include "tenun/tools/svg_plot.h"

using namespace tenun::tools;

namespace {

size_t count(const std::string& text, const std::string& word) {
  size_t n = 0;
  for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_SUITE("tools_bench") {
  TEST_CASE("growth exponent: powers are found, one length gives none") {
    std::vector<Point> square, straight;
    for (const double n : {1024.0, 4096.0, 16384.0, 65536.0}) {
      square.push_back({n, 3e-6 * n * n});
      straight.push_back({n, 0.002 * n});
    }
    CHECK(std::abs(growth_exponent(square) - 2) < 1e-9);
    CHECK(std::abs(growth_exponent(straight) - 1) < 1e-9);
    CHECK(std::isnan(growth_exponent(std::vector<Point>{{1024, 5}})));
    CHECK(std::isnan(growth_exponent(std::vector<Point>{})));
    // Noise of opposite sign at the ends: the fit lies between the extremes of two points.
    const double noisy =
        growth_exponent(std::vector<Point>{{1000, 1.1}, {2000, 2}, {4000, 4}, {8000, 7.2}});
    CHECK(noisy > 0.85);
    CHECK(noisy < 1);
  }

  TEST_CASE("break-even: where the curves cross, on logarithmic axes") {
    // dense n^2 / 1000, method n: equal at n = 1000.
    std::vector<Point> dense, method;
    for (const double n : {250.0, 500.0, 2000.0, 4000.0}) {
      dense.push_back({n, n * n / 1000});
      method.push_back({n, n});
    }
    const BreakEven b = break_even(method, dense);
    CHECK(b.faster == Faster::beyond);
    CHECK(std::abs(b.n - 1000) < 1e-6);
    const BreakEven other = break_even(dense, method);
    CHECK(other.faster == Faster::never);
    const std::vector<Point> quick{{250, 1}, {4000, 1}};
    CHECK(break_even(quick, dense).faster == Faster::always);
    CHECK(break_even(quick, dense).n == 250);
    CHECK(break_even(std::vector<Point>{{77, 1}}, dense).faster == Faster::unknown);
    // Faster at a small length, slower in the middle: only the last crossing counts.
    const std::vector<Point> odd{{250, 10}, {500, 1000}, {2000, 3000}, {4000, 4000}};
    const BreakEven last = break_even(odd, dense);
    CHECK(last.faster == Faster::beyond);
    CHECK(last.n > 500);
    CHECK(last.n < 4000);
  }

  TEST_CASE("Amdahl's law and the bound of sparse-linear attention") {
    CHECK(std::abs(amdahl(0.5, 2) - 4.0 / 3) < 1e-12);
    CHECK(amdahl(0, 100) == 1);
    CHECK(std::abs(amdahl(1, 7) - 7) < 1e-12);
    // Two values of the table in docs/attention: d = 64, blocks 128 x 64.
    CHECK(std::abs(sparse_linear_bound(0.03, 16384, 64, 128, 64) - 29.4) < 0.05);
    CHECK(std::abs(sparse_linear_bound(0.05, 4096, 64, 128, 64) - 15.2) < 0.05);
  }

  TEST_CASE("logarithmic positions and ticks") {
    CHECK(std::abs(log_position(10, 1, 100, 0, 50) - 25) < 1e-9);
    CHECK(std::abs(log_position(1, 1, 100, 300, 20) - 300) < 1e-9);
    CHECK(std::abs(log_position(100, 1, 100, 300, 20) - 20) < 1e-9);
    CHECK(log_position(5, 5, 5, 0, 10) == 5);
    CHECK(log_ticks(0.9, 11) == std::vector<double>{1, 2, 5, 10});
    CHECK(log_ticks(1, 1e6) == std::vector<double>{1, 10, 100, 1000, 10000, 100000, 1000000});
  }

  TEST_CASE("the plot holds every curve, mark and label, inside its frame") {
    SvgPanel p{.title = "a < b & c", .x_label = "tokens", .y_label = "ms"};
    p.series.push_back({"dense", {1024, 4096, 16384}, {1, 16, 256}});
    p.series.push_back({"sla2 \"97 %\"", {1024, 4096, 16384}, {2, 0, 8}, true});
    p.marks.push_back({2048, "break-even 2048", 1});
    p.x_ticks = {1024, 4096, 16384, 1e9};
    p.marks.push_back({1e9, "outside", 0});
    const std::string s =
        svg_plot("title", {p, SvgPanel{.title = "empty", .x_label = "", .y_label = ""}});
    CHECK(s.starts_with("<svg "));
    CHECK(s.ends_with("</svg>\n"));
    CHECK(count(s, "<polyline") == 2);
    CHECK(count(s, "<circle") == 5);  // the value 0 has no place on a logarithmic axis
    CHECK(count(s, "<g ") == count(s, "</g>"));
    CHECK(s.find("a &lt; b &amp; c") != std::string::npos);
    CHECK(s.find("sla2 &quot;97 %&quot;") != std::string::npos);
    CHECK(s.find("break-even 2048") != std::string::npos);
    CHECK(s.find("outside") == std::string::npos);
    CHECK(count(s, ">16384<") == 1);
    CHECK(s.find(">1e+09<") == std::string::npos);
    CHECK(s.find("no values") != std::string::npos);
    CHECK(s.find("nan") == std::string::npos);
    CHECK(s.find("inf") == std::string::npos);
  }
}
