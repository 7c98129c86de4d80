// What the op table cannot say about index ops: ties, NaN, exact sums, 16-bit sums, bad indices.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tenun/autograd/tape.h"
#include "tenun/core/parallel.h"
#include "tenun/core/random.h"
#include "tenun/ops/index.h"

using namespace tenun;

namespace {

using Values = std::vector<double>;
constexpr double kInf = std::numeric_limits<double>::infinity();
Values values(const Var& v) { return v.value().values<double>(); }
Tensor ids(std::initializer_list<int64_t> v) {
  return Tensor::from<int64_t>(v, {static_cast<int64_t>(v.size())});
}

}  // namespace

TEST_SUITE("ops_index") {
  TEST_CASE("ties go to the lowest index, in both directions and every dtype") {
    for (const DType d : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::u8,
                          DType::i32, DType::i64}) {
      CAPTURE(name(d));
      const Var x = Tensor::from<double>({3, 1, 3, 2, 1, 3}, {6}).to(d);
      CHECK(values(topk(x, 2).indices) == Values{0, 2});
      CHECK(values(topk(x, 4).values) == Values{3, 3, 3, 2});
      CHECK(values(topk(x, 2, 0, {.largest = false}).indices) == Values{1, 4});
      CHECK(values(topk(x, 4, 0, {.sorted = false}).indices) == Values{0, 2, 3, 5});
      CHECK(values(sort(x).indices) == Values{1, 4, 3, 0, 2, 5});
      CHECK(values(sort(x, 0, Order::descending).indices) == Values{0, 2, 5, 3, 1, 4});
    }
    CHECK(values(topk(Tensor::zeros({64}), 3).indices) == Values{0, 1, 2});
    const Var b = Tensor::from<double>({0, 1, 0, 1}, {4}).to(DType::boolean);
    CHECK(values(Var(argsort(b))) == Values{0, 2, 1, 3});
  }

  TEST_CASE("extremes: infinities, both zeros, NaN above everything, the ends of integers") {
    for (const DType d : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
      CAPTURE(name(d));
      const Tensor x =
          Tensor::from<double>({0.0, std::nan(""), -kInf, -0.0, kInf, -2, 0.0, -std::nan("")}, {8})
              .to(d);
      CHECK(values(sort(x).indices) == Values{2, 5, 0, 3, 6, 4, 1, 7});
      CHECK(values(sort(x, 0, Order::descending).indices) == Values{1, 7, 4, 0, 3, 6, 5, 2});
      CHECK(values(topk(x, 1, 0, {.largest = false}).values) == Values{-kInf});
      const Values sorted = values(sort(x).values);
      CHECK(std::signbit(sorted[3]));  // -0 stays -0
      CHECK(std::isnan(sorted[7]));
    }
    constexpr int64_t kMin = std::numeric_limits<int64_t>::min(), kMax = ~kMin;
    const Tensor i = Tensor::from<int64_t>({kMax, -1, kMin, 0, kMax - 1}, {5});
    CHECK(sort(i).values.value().values<int64_t>() ==
          std::vector<int64_t>{kMin, -1, 0, kMax - 1, kMax});
    CHECK(values(sort(Tensor::from<int8_t>({127, -128, 0, -1}, {4})).values) ==
          Values{-128, -1, 0, 127});
    CHECK(values(sort(Tensor::from<uint8_t>({127, 255, 0}, {3})).values) == Values{0, 127, 255});
  }

  TEST_CASE("long rows sort correctly") {
    Tensor x({3, 20011}, DType::f32);
    fill_normal(x, RandomKey::derive(1, Purpose::test));
    const Ranked r = sort(x);
    for (int64_t row = 0; row < 3; ++row) {
      const Tensor v = r.values.value().select(0, row), at = r.indices.value().select(0, row);
      int64_t wrong = 0;
      for (int64_t i = 0; i < 20011; ++i) {
        if (i > 0 && v.data<float>()[i - 1] > v.data<float>()[i]) ++wrong;
        if (x.select(0, row).data<float>()[at.data<int64_t>()[i]] != v.data<float>()[i]) ++wrong;
      }
      CHECK(wrong == 0);
    }
    CHECK(values(topk(x, 100, 1, {.largest = false}).values) ==
          r.values.value().slice(1, 0, 100).values<double>());
  }

  TEST_CASE("the gradient of a choice lands where the value stood") {
    Var x = Var::parameter(Tensor::from<float>({5, 9, 7, 1}, {4}));
    Tape tape;
    tape.backward(topk(x, 2).values, Tensor::from<float>({10, 20}, {2}));
    CHECK(x.grad().values<double>() == Values{0, 10, 20, 0});
    x.zero_grad();
    tape.backward(sort(x).values, Tensor::from<float>({1, 2, 3, 4}, {4}));
    CHECK(x.grad().values<double>() == Values{2, 4, 3, 1});
    CHECK_FALSE(topk(x, 1).indices.requires_grad());
  }

  TEST_CASE("what is picked several times gets the sum of its gradients, exactly") {
    for (const DType d : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
      CAPTURE(name(d));
      // 2048 rows of ones into two rows: sums in the 16-bit types themselves would stop early.
      Var w = Var::parameter(Tensor::zeros({3, 2}, d));
      const Tensor index = Tensor::full({2048}, 1, DType::i64);
      Tape tape;
      const Tensor seed = Tensor::full({2048, 2}, 1, d);
      tape.backward(embedding(w, index), seed);
      CHECK(w.grad().values<double>() == Values{0, 0, 2048, 2048, 0, 0});
      CHECK(w.grad().dtype() == d);
      w.zero_grad();
      tape.backward(gather(w, index.view({2048, 1}).expand({2048, 2}), 0), seed);
      CHECK(w.grad().values<double>() == Values{0, 0, 2048, 2048, 0, 0});
      const Var y = scatter_add(Tensor::zeros({2}, d), index, Tensor::full({2048}, 1, d), 0);
      CHECK(values(y) == Values{0, 2048});
    }
  }

  TEST_CASE("integers are added exactly") {
    const int64_t large = (int64_t{1} << 60) + 1;
    const Var y = scatter_add(Tensor::from<int64_t>({large, 0}, {2}), ids({0, 1, 0}),
                              Tensor::from<int64_t>({2, 3, 4}, {3}), 0);
    CHECK(y.value().values<int64_t>() == std::vector<int64_t>{large + 6, 3});
    CHECK_THROWS_AS((void)scatter_add(Tensor::zeros({2}, DType::i8), ids({0}),
                                      Tensor::zeros({1}, DType::i8), 0),
                    DTypeError);
    CHECK_THROWS_AS(
        (void)scatter_add(Tensor::zeros({2}), ids({0}), Tensor::zeros({1}, DType::i64), 0),
        DTypeError);
  }

  TEST_CASE("a large embedding gradient has the same bits for any number of threads") {
    Var w = Var::parameter(Tensor::zeros({50, 200}, DType::f32));
    Tensor seed({3000, 200}, DType::f32), index({3000}, DType::i64);
    const RandomKey key = RandomKey::derive(2, Purpose::test);
    fill_normal(seed, key);
    for (uint64_t i = 0; i < 3000; ++i)
      index.mutable_data<int64_t>()[i] = static_cast<int64_t>(key.below(i, 50));
    std::vector<float> first;
    for (const int n : {1, 2, 5}) {
      set_num_threads(n);
      w.zero_grad();
      Tape tape;
      tape.backward(embedding(w, index), seed);
      const auto g = w.grad().values<float>();
      if (first.empty()) first = g;
      CHECK(g == first);
    }
    set_num_threads(0);
    // And it is the sum.
    double want = 0;
    for (int64_t i = 0; i < 3000; ++i)
      if (index.data<int64_t>()[i] == 7)
        want += static_cast<double>(seed.data<float>()[i * 200 + 3]);
    CHECK(std::abs(static_cast<double>(first[7 * 200 + 3]) - want) < 1e-4);
  }

  TEST_CASE("an index out of range is named with its position") {
    const Var x = Tensor::zeros({3, 4});
    CHECK_THROWS_WITH_AS((void)embedding(x, Tensor::from<int64_t>({0, 2, 1, 3, 0, 0}, {2, 3})),
                         "embedding: index 3 at position [1, 0] is outside [0, 3)", ValueError);
    CHECK_THROWS_WITH_AS((void)index_select(x, ids({0, -1}), 1),
                         "index_select: index -1 at position [1] is outside [0, 4)", ValueError);
    CHECK_THROWS_AS((void)gather(x, Tensor::from<int64_t>({4}, {1, 1}), 1), ValueError);
    CHECK_THROWS_AS(
        (void)scatter_add(x, Tensor::from<int64_t>({3}, {1, 1}), Tensor::zeros({1, 1}), 0),
        ValueError);
    CHECK_THROWS_AS((void)one_hot(ids({2}), 2), ValueError);
    CHECK_THROWS_AS((void)embedding(x, Tensor::scalar(-1, DType::i64)), ValueError);
    CHECK_THROWS_AS((void)index_select(Tensor({0, 2}, DType::f32), ids({0}), 0), ValueError);
  }

  TEST_CASE("shapes and dtypes that do not fit") {
    const Var x = Tensor::zeros({3, 4});
    CHECK_THROWS_WITH_AS(
        (void)gather(x, ids({0}), 0),
        "gather: index i64[1] does not fit f32[3, 4]: it needs the same rank and no "
        "larger sizes outside axis 0",
        ShapeError);
    CHECK_THROWS_AS((void)gather(x, Tensor::zeros({1, 5}, DType::i64), 0), ShapeError);
    CHECK_THROWS_AS((void)gather(x, Tensor::zeros({3, 4}), 0), DTypeError);
    CHECK_THROWS_AS(
        (void)scatter_add(x, Tensor::zeros({2, 4}, DType::i64), Tensor::zeros({1, 4}), 0),
        ShapeError);
    CHECK_THROWS_AS((void)index_select(x, Tensor::zeros({1, 1}, DType::i64), 0), ShapeError);
    CHECK_THROWS_AS((void)masked_fill(x, Tensor::zeros({2, 3, 4}, DType::boolean), 0), ShapeError);
    CHECK_THROWS_AS((void)take_along(x, ids({0}), 0), ShapeError);
    CHECK_THROWS_WITH_AS((void)topk(x, 5, 1),
                         "topk: k = 5 is outside [0, 4], the size of axis 1 of f32[3, 4]",
                         ValueError);
    CHECK_THROWS_AS((void)topk(x, -1), ValueError);
    CHECK_THROWS_AS((void)sort(x, 2), ValueError);
    CHECK_THROWS_AS((void)one_hot(ids({}), -1), ValueError);
    CHECK(values(gather(x, Tensor::zeros({1, 2}, DType::i32), 0)) == Values{0, 0});
  }

  TEST_CASE("masks of any dtype, and infinities as values") {
    const Var x = Tensor::from<float>({1, 2, 3, 4}, {2, 2});
    for (const DType d : {DType::boolean, DType::i64, DType::u8, DType::f32}) {
      const Tensor mask = Tensor::from<double>({0, 1}, {2}).to(d);
      CHECK(values(masked_fill(x, mask, -kInf)) == Values{1, -kInf, 3, -kInf});
    }
    CHECK(masked_fill(x, Tensor::zeros({1}, DType::boolean), 5).dtype() == DType::f32);
  }

  TEST_CASE("one_hot, nonzero and rank 6") {
    CHECK(values(Var(one_hot(ids({2, 0}), 3))) == Values{0, 0, 1, 1, 0, 0});
    CHECK(one_hot(ids({1}), 2, DType::i64).describe() == "i64[1, 2]");
    CHECK(nonzero(Tensor::from<float>({0, 5, 0, -1}, {2, 2})).values<int64_t>() ==
          std::vector<int64_t>{0, 1, 1, 1});
    CHECK(nonzero(Tensor::scalar(3)).shape() == Shape{1, 0});
    CHECK(nonzero(Tensor::zeros({4})).shape() == Shape{0, 1});
    const Var x = Tensor::arange(64, DType::f32).view({2, 2, 2, 2, 2, 2});
    CHECK(values(index_select(x, ids({1}), 3)) == x.value().slice(3, 1, 2).values<double>());
    CHECK(topk(x, 1, 2).values.shape() == Shape{2, 2, 1, 2, 2, 2});
    CHECK(values(topk(x, 1, 2).values) == x.value().slice(2, 1, 2).values<double>());
  }
}
