// INT8 quantisation: rounding, zero groups, tails, special values, learned scales, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/quant.h"

using namespace tenun;

TEST_SUITE("ops_quant") {
  TEST_CASE("halves go to the even neighbour, -128 is never used") {
    const Tensor x = Tensor::from<float>({127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -127}, {8});
    const Quantized r = quantize_int8(x, {});
    CHECK(r.scale.shape() == Shape{});
    CHECK(r.scale.item() == 1);
    CHECK(r.q.dtype() == DType::i8);
    CHECK(r.q.values<int8_t>() == std::vector<int8_t>{127, 0, 2, 2, 0, -2, -2, -127});
  }

  TEST_CASE("groups of zeros give zeros, beside groups that do not") {
    Tensor x = Tensor::zeros({1, 6, 4});
    x.slice(1, 2, 4).fill_(-3);
    const QuantOptions o{.granularity = Granularity::block, .block = 2};
    const Quantized r = quantize_int8(x, o);
    CHECK(r.scale.shape() == Shape{1, 3});
    const auto s = r.scale.values<float>();
    CHECK(s[0] == 0);
    CHECK(std::abs(s[1] - 3.0f / 127) < 1e-8f);
    CHECK(s[2] == 0);
    const auto q = r.q.values<int8_t>();
    CHECK(q[0] == 0);
    CHECK(q[8] == -127);
    CHECK(q[23] == 0);
    const Tensor y = fake_quant_int8(x, o).value();
    CHECK(y.all_finite());
    CHECK(y.values<float>()[0] == 0);
  }

  TEST_CASE("the last block is shorter and has a scale of its own") {
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5}, {5, 1});
    const Quantized r = quantize_int8(x, {.granularity = Granularity::block, .block = 2});
    const auto s = r.scale.values<float>();
    REQUIRE(s.size() == 3);
    CHECK(std::abs(s[0] * 127 - 2) < 1e-6f);
    CHECK(std::abs(s[1] * 127 - 4) < 1e-6f);
    CHECK(std::abs(s[2] * 127 - 5) < 1e-6f);
    CHECK(r.q.values<int8_t>() == std::vector<int8_t>{64, 127, 95, 127, 127});
  }

  TEST_CASE("a NaN spoils its own group only, and there is no undefined conversion") {
    Tensor x = Tensor::full({3, 4}, 2);
    x.slice(0, 1, 2).slice(1, 2, 3).fill_(std::numeric_limits<double>::quiet_NaN());
    x.slice(0, 2, 3).slice(1, 0, 1).fill_(std::numeric_limits<double>::infinity());
    const QuantOptions o{.granularity = Granularity::token};
    const Quantized r = quantize_int8(x, o);
    const auto s = r.scale.values<float>();
    CHECK(std::isfinite(s[0]));
    CHECK(std::isnan(s[1]));
    CHECK(std::isinf(s[2]));
    CHECK(r.q.values<int8_t>()[5] == 0);
    const auto y = fake_quant_int8(x, o).value().values<float>();
    CHECK(y[0] == 2);
    CHECK(std::isnan(y[4]));
  }

  TEST_CASE("16-bit input: f32 scales, the error is at most half a step") {
    Tensor x({2, 33, 16}, DType::bf16);
    fill_normal(x, RandomKey::derive(4, Purpose::test));
    for (const Granularity g :
         {Granularity::tensor, Granularity::block, Granularity::token, Granularity::channel}) {
      const QuantOptions o{.granularity = g, .block = 8};
      const Quantized r = quantize_int8(x, o);
      CHECK(r.scale.dtype() == DType::f32);
      CHECK(r.scale.shape() == scale_shape(x.shape(), o));
      const Tensor y = fake_quant_int8(x.to(DType::f32), o).value();
      double most = 0;
      for (float v : r.scale.values<float>()) most = std::max(most, double{v});
      const auto a = x.values<double>(), b = y.values<double>();
      for (size_t i = 0; i < a.size(); ++i) REQUIRE(std::abs(a[i] - b[i]) <= most * 0.5001);
      CHECK(fake_quant_int8(x, o).dtype() == DType::bf16);
    }
  }

  TEST_CASE("learned scale: inside, outside, and at the border") {
    // v = x / scale = 0.25, 126.75, 127, 130, -200
    const Tensor x = Tensor::from<double>({0.125, 63.375, 63.5, 65, -100}, {5});
    Tape tape;
    const Var vx = Var::parameter(x), s = Var::parameter(Tensor::scalar(0.5, DType::f64));
    const Var y = fake_quant_int8(vx, s, {}, ScaleGradient::plain);
    CHECK(y.value().values<double>() == std::vector<double>{0, 63.5, 63.5, 63.5, -63.5});
    const std::vector<Var> losses{y}, inputs{vx, s};
    const std::vector<Tensor> seeds{Tensor::from<double>({1, 10, 100, 1000, 10000}, {5})};
    const auto g = tape.gradients(losses, inputs, Tape::Keep::no, seeds);
    CHECK(g[0].values<double>() == std::vector<double>{1, 10, 100, 0, 0});
    CHECK(g[1].item() == -0.25 + 2.5 + 0 + 127e3 - 127e4);
  }

  TEST_CASE("a learned scale of zero or less stays harmless") {
    const Tensor x = Tensor::from<float>({1, -2}, {2});
    for (const double bad : {0.0, -1.0})
      CHECK(fake_quant_int8(x, Tensor::scalar(bad), {}).value().all_finite());
  }

  TEST_CASE("errors") {
    const Tensor x = Tensor::zeros({3, 4});
    CHECK_THROWS_AS((void)quantize_int8(x, {.granularity = Granularity::block}), ValueError);
    CHECK_THROWS_AS((void)quantize_int8(Tensor::zeros({4}), {.granularity = Granularity::channel}),
                    ShapeError);
    CHECK_THROWS_AS((void)fake_quant_int8(x, Tensor::zeros({3}), QuantOptions{}), ShapeError);
    CHECK_THROWS_AS((void)fake_quant_int8(x, Tensor::scalar(1, DType::i64), QuantOptions{}),
                    DTypeError);
    CHECK_THROWS_AS((void)quantize_int8(x.to(DType::i64), {}), DTypeError);
    CHECK_THROWS_AS((void)granularity_from_name("row"), ValueError);
  }
}
