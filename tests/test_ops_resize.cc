// Resizing: known numbers, partition of unity, adjoint, errors.
#include <doctest/doctest.h>

#include <cmath>

#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/resize.h"

using namespace tenun;

namespace {
double dot(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  double s = 0;
  for (size_t i = 0; i < x.size(); ++i) s += x[i] * y[i];
  return s;
}
}  // namespace

TEST_SUITE("ops_resize") {
  TEST_CASE("bicubic 256 -> 224 of a sine ramp: the numbers of the model specification") {
    Tensor x({1, 1, 256, 256}, DType::f64);
    double* p = x.mutable_data<double>();
    for (int64_t i = 0; i < x.numel(); ++i) p[i] = std::sin(0.05 * static_cast<double>(i));
    for (const DType d : {DType::f64, DType::f32}) {
      const auto y = resize(x.to(d), 224, {.mode = ResizeMode::bicubic}).value().values<double>();
      const double tol = d == DType::f64 ? 1.5e-7 : 1e-6;  // given: seven digits, computed in f32
      const double first[] = {0.0151465, 0.0754437, 0.1314563, 0.1861938};
      for (size_t i = 0; i < 4; ++i) CHECK(std::abs(y[i] - first[i]) < tol);
      CHECK(std::abs(y.back() + 0.0536037) < tol);
      double sum = 0;
      for (const double v : y) sum += v;
      CHECK(std::abs(sum / static_cast<double>(y.size()) - 6.11384e-4) < 1e-8);
    }
  }

  TEST_CASE("weights of every output add up to 1, so constants stay; ranges lie inside") {
    for (const ResizeMode mode : {ResizeMode::nearest, ResizeMode::bilinear, ResizeMode::bicubic})
      for (const bool antialias : {false, true}) {
        if (antialias && mode == ResizeMode::nearest) continue;
        for (const int64_t in : {1, 2, 7, 64})
          for (const int64_t out : {1, 3, 7, 100})
            for (const double scale : {0.0, 0.37, 4.1}) {
              const AxisTable t = resize_table(in, out, {.mode = mode, .antialias = antialias},
                                               scale > 0 ? std::optional(scale) : std::nullopt);
              REQUIRE(t.outputs() == out);
              for (size_t i = 0; i < static_cast<size_t>(out); ++i) {
                double sum = 0;
                for (int64_t k = t.offset[i]; k < t.offset[i + 1]; ++k)
                  sum += t.weight[static_cast<size_t>(k)];
                REQUIRE(std::abs(sum - 1) < 1e-12);
                REQUIRE(t.first[i] >= 0);
                REQUIRE(t.first[i] + t.offset[i + 1] - t.offset[i] <= in);
              }
            }
      }
  }

  TEST_CASE("backward is the adjoint: <resize(x), y> = <x, backward(y)>") {
    Tensor x({2, 3, 13, 9}, DType::f64), y({2, 3, 6, 17}, DType::f64);
    fill_normal(x, RandomKey::derive(1, Purpose::test));
    fill_normal(y, RandomKey::derive(2, Purpose::test));
    for (const ResizeOptions& o :
         {ResizeOptions{}, ResizeOptions{.mode = ResizeMode::bicubic},
          ResizeOptions{.mode = ResizeMode::bicubic, .antialias = true},
          ResizeOptions{.mode = ResizeMode::nearest},
          ResizeOptions{.mode = ResizeMode::bicubic, .scale_h = 0.4, .scale_w = 2.1}}) {
      Tape tape;
      const Var v = Var::parameter(x);
      const Var r = resize(v, {6, 17}, o);
      const std::vector<Var> losses{r}, inputs{v};
      const std::vector<Tensor> seeds{y};
      const Tensor g = tape.gradients(losses, inputs, Tape::Keep::no, seeds)[0];
      CHECK(std::abs(dot(r.value(), y) - dot(x, g)) < 1e-10);
    }
  }

  TEST_CASE("the same size is the identity, to the bit, infinities included") {
    Tensor x = Tensor::from<float>({1, INFINITY, -2, 4}, {1, 1, 2, 2});
    CHECK(resize(x, 2, {.mode = ResizeMode::bicubic}).value().values<float>() == x.values<float>());
  }

  TEST_CASE("errors") {
    const Tensor x = Tensor::zeros({1, 1, 4, 4});
    CHECK_THROWS_AS((void)resize(Tensor::zeros({4, 4}), 2), ShapeError);
    CHECK_THROWS_AS((void)resize(Tensor::zeros({1, 1, 0, 4}), 2), ShapeError);
    CHECK_THROWS_AS((void)resize(x, {0, 2}), ValueError);
    CHECK_THROWS_AS((void)resize(x, 2, {.mode = ResizeMode::nearest, .antialias = true}),
                    ValueError);
    CHECK_THROWS_AS((void)resize(x, 2, {.scale_h = -1.0}), ValueError);
    CHECK_THROWS_AS((void)resize_mode("lanczos"), ValueError);
    CHECK_THROWS_AS((void)resize(x.to(DType::u8), 2), DTypeError);
  }
}
