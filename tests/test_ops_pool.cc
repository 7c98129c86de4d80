// Pooling: special values, ties, 16-bit types, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tenun/autograd/tape.h"
#include "tenun/ops/pool.h"

using namespace tenun;

namespace {
Tensor gradient(const Tensor& x, const PoolOptions& o) {
  Tape tape;
  const Var v = Var::parameter(x);
  const Var y = max_pool2d(v, o);
  const std::vector<Var> losses{y}, inputs{v};
  const std::vector<Tensor> seeds{Tensor::full(y.shape(), 1, x.dtype())};
  return tape.gradients(losses, inputs, Tape::Keep::no, seeds)[0];
}
}  // namespace

TEST_SUITE("ops_pool") {
  TEST_CASE("NaN propagates, -infinity is an ordinary value") {
    const float nan = std::numeric_limits<float>::quiet_NaN(),
                inf = std::numeric_limits<float>::infinity();
    const Tensor x =
        Tensor::from<float>({1, nan, 2, 3, -inf, -inf, -inf, -inf, 5, nan, nan, 7}, {1, 1, 3, 4});
    const auto y = max_pool2d(x, {.kernel = Pair(1, 4)}).value().values<float>();
    CHECK(std::isnan(y[0]));
    CHECK(y[1] == -inf);
    CHECK(std::isnan(y[2]));
    // The gradient of a window of -infinity goes to a pixel of it.
    const auto g = gradient(x, {.kernel = Pair(1, 4)}).values<float>();
    CHECK(g[1] == 1);
    CHECK(g[4] == 1);
    CHECK(g[10] == 1);
  }

  TEST_CASE("of equal values the first one gets the gradient, overlapping windows add up") {
    const Tensor x = Tensor::full({1, 1, 3, 3}, 2);
    CHECK(gradient(x, {.kernel = 2, .stride = 1}).values<float>() ==
          std::vector<float>{1, 1, 0, 1, 1, 0, 0, 0, 0});
    const Tensor peak = Tensor::from<float>({0, 0, 0, 0, 9, 0, 0, 0, 0}, {1, 1, 3, 3});
    CHECK(gradient(peak, {.kernel = 2, .stride = 1}).values<float>() ==
          std::vector<float>{0, 0, 0, 0, 4, 0, 0, 0, 0});
  }

  TEST_CASE("padding never wins, even against negative values") {
    const Tensor x = Tensor::full({1, 1, 2, 2}, -5);
    const auto y = max_pool2d(x, {.kernel = 3, .stride = 1, .padding = 1}).value();
    CHECK(y.values<float>() == std::vector<float>(4, -5.0f));
  }

  TEST_CASE("the mean with and without padding in the divisor") {
    const Tensor x = Tensor::full({1, 1, 2, 2}, 9);
    const PoolOptions o{.kernel = 3, .stride = 1, .padding = 1};
    CHECK(avg_pool2d(x, o).value().values<float>() == std::vector<float>(4, 4.0f));
    PoolOptions inside = o;
    inside.count_include_pad = false;
    CHECK(avg_pool2d(x, inside).value().values<float>() == std::vector<float>(4, 9.0f));
  }

  TEST_CASE("16-bit types keep dtype and value") {
    for (const DType d : {DType::bf16, DType::f16}) {
      const Tensor x = Tensor::from<float>({1, 2, 3, 8}, {1, 1, 2, 2}).to(d);
      CHECK(max_pool2d(x, {.kernel = 2}).dtype() == d);
      CHECK(max_pool2d(x, {.kernel = 2}).value().item() == 8);
      CHECK(avg_pool2d(x, {.kernel = 2}).value().item() == 3.5);
      CHECK(gradient(x, {.kernel = 2}).describe() == x.describe());
    }
  }

  TEST_CASE("errors") {
    const Tensor x = Tensor::zeros({1, 1, 4, 4});
    CHECK_THROWS_AS((void)max_pool2d(Tensor::zeros({4, 4}), {.kernel = 2}), ShapeError);
    CHECK_THROWS_AS((void)max_pool2d(x, {.kernel = 5}), ShapeError);
    CHECK_THROWS_AS((void)max_pool2d(x, {.kernel = 2, .padding = 2}), ValueError);
    CHECK_THROWS_AS((void)avg_pool2d(x, {.kernel = 0}), ValueError);
    CHECK_THROWS_AS((void)avg_pool2d(x, {.kernel = 2, .stride = 0}), ValueError);
    CHECK_THROWS_AS((void)avg_pool2d(x.to(DType::i64), {.kernel = 2}), DTypeError);
  }
}
