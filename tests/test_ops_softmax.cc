// What the table of cases does not cover for softmax and losses: infinities, NaN, 16-bit types,
// zero vectors, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/loss.h"
#include "tenun/ops/softmax.h"

using namespace tenun;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

Tensor random(const Shape& shape, uint64_t stream) {
  Tensor t(shape, DType::f32);
  fill_normal(t, RandomKey::derive(6, Purpose::test, stream));
  return t;
}

}  // namespace

TEST_SUITE("ops_softmax") {
  TEST_CASE("-inf gets weight and gradient 0; a row of nothing else is NaN; NaN spreads") {
    const Var x =
        Var::parameter(Tensor::from<float>({0, -kInf, 1, -kInf, -kInf, -kInf, 1, NAN, 2}, {3, 3}));
    Tape tape;
    const Var y = softmax(x);
    const auto v = y.value().values<double>();
    CHECK(v[1] == 0);
    CHECK(std::abs(v[0] - 1 / (1 + std::exp(1.0))) < 1e-7);
    CHECK(std::abs(v[0] + v[2] - 1) < 1e-7);
    for (size_t i = 3; i < 9; ++i) CHECK(std::isnan(v[i]));
    tape.backward_all({&y, 1}, {{random({3, 3}, 1)}});
    const auto g = x.grad().values<double>();
    CHECK(g[1] == 0);
    CHECK(std::abs(g[0] + g[2]) < 1e-7);
    CHECK(std::isnan(softmax(Tensor::from<float>({kInf, 1}, {2})).value().values<double>()[0]));
  }

  TEST_CASE("rows sum to 1 from tiny to huge logits, in every dtype") {
    for (const DType d : {DType::f64, DType::f32, DType::bf16, DType::f16})
      for (const double scale : {1e-3, 1.0, 1e3}) {
        CAPTURE(std::string(name(d)));
        Tensor x = random({20, 77}, 2);
        float* const p = x.mutable_data<float>();
        for (int64_t i = 0; i < x.numel(); ++i) p[i] *= static_cast<float>(scale);
        const Tensor y = softmax(x.to(d)).value();
        CHECK(y.dtype() == d);
        const auto v = y.values<double>();
        for (size_t row = 0; row < 20; ++row) {
          double sum = 0;
          for (size_t i = 0; i < 77; ++i) sum += v[row * 77 + i];
          CHECK(std::abs(sum - 1) <= 4 * epsilon_of(d));
        }
      }
  }

  TEST_CASE("cross_entropy: extreme logits stay finite, bad targets are named") {
    const Var x = Var::parameter(Tensor::from<float>({1e4f, -1e4f, -1e4f, 1e4f}, {2, 2}));
    const Tensor target = Tensor::from<int64_t>({0, 0}, {2});
    Tape tape;
    const Var loss = cross_entropy(x, target);
    CHECK(loss.value().item() == 1e4);  // (0 + 2e4) / 2
    tape.backward(loss);
    CHECK(x.grad().values<double>() == std::vector<double>{0, 0, -0.5, 0.5});
    CHECK_THROWS_WITH_AS((void)cross_entropy(x, Tensor::from<int64_t>({0, 2}, {2})),
                         "cross_entropy: target[1] is 2, outside the 2 classes", ValueError);
    CHECK_THROWS_AS((void)cross_entropy(x, Tensor::from<int64_t>({-1, 0}, {2})), ValueError);
    CHECK_THROWS_AS((void)cross_entropy(x, Tensor::from<int64_t>({0}, {1})), ShapeError);
    CHECK_THROWS_AS((void)cross_entropy(x, Tensor::from<float>({0, 1}, {2})), DTypeError);
    CHECK_THROWS_AS((void)reduction_from_name("average"), ValueError);
  }

  TEST_CASE("losses compute in f32 under Autocast; gradients return in the input's dtype") {
    const Var x = Var::parameter(random({6, 5}, 3).to(DType::bf16));
    const Tensor t = random({6, 5}, 4), target = Tensor::from<int64_t>({0, 1, 2, 3, 4, 0}, {6});
    const Autocast guard(DType::bf16);
    Tape tape;
    const std::vector<Var> out{cross_entropy(x, target), mse_loss(x, t), l1_loss(x, t),
                               cosine_similarity(x, t, 1), log_softmax(x)};
    for (const Var& y : out) CHECK(y.dtype() == DType::f32);
    CHECK(softmax(x).dtype() == DType::bf16);
    const std::vector<Tensor> seeds{Tensor::scalar(1), Tensor::scalar(1), Tensor::scalar(1),
                                    random({6}, 5), random({6, 5}, 6)};
    tape.backward_all(out, seeds);
    CHECK(x.grad().dtype() == DType::bf16);
    CHECK(x.grad().all_finite());
  }

  TEST_CASE("cosine of zero vectors: 0, with finite gradients") {
    const Var a = Var::parameter(Tensor::zeros({2, 3}));
    const Var b = Var::parameter(Tensor::from<float>({1, 2, 2, 0, 0, 0}, {2, 3}));
    Tape tape;
    const Var y = cosine_similarity(a, b, 1, 0.5);
    CHECK(y.value().values<double>() == std::vector<double>{0, 0});
    tape.backward_all({&y, 1}, {{Tensor::full({2}, 1)}});
    // d/da <a, b> / (0.5 * 3) = b / 1.5
    const auto g = a.grad().values<double>();
    for (size_t i = 0; i < 3; ++i)
      CHECK(std::abs(g[i] - std::vector<double>{1, 2, 2}[i] / 1.5) < 1e-6);
    CHECK(std::vector<double>(g.begin() + 3, g.end()) == std::vector<double>{0, 0, 0});
    CHECK(b.grad().values<double>() == std::vector<double>(6, 0.0));
  }

  TEST_CASE("mse and l1: no broadcasting, exact zeros at equality") {
    const Var x = Var::parameter(random({4, 3}, 7));
    Tape tape;
    const Var loss = mse_loss(x, x.value()), absolute = l1_loss(x, x.value());
    CHECK(loss.value().item() == 0);
    const std::vector<Var> both{loss, absolute};
    const std::vector<Tensor> seeds(2, Tensor::scalar(1));
    tape.backward_all(both, seeds);
    CHECK(x.grad().values<double>() == std::vector<double>(12, 0.0));
    CHECK_THROWS_WITH_AS((void)mse_loss(x, random({4, 1}, 8)),
                         "mse_loss: shapes differ: f32[4, 3] and f32[4, 1]", ShapeError);
    CHECK_THROWS_AS((void)l1_loss(x, Tensor::zeros({4, 3}, DType::i64)), DTypeError);
    CHECK_THROWS_AS((void)cosine_similarity(x, x, 2), ValueError);
  }
}
