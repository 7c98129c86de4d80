// What the table of cases does not cover: integers, ties, NaN, infinities, empty axes, precision,
// what is kept, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/reduce.h"
#include "tenun/ops/sum.h"

using namespace tenun;

namespace {

using Values = std::vector<double>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Values values(const Var& v) { return v.value().values<double>(); }
Tensor f64(std::initializer_list<double> v, const Shape& shape) { return Tensor::from(v, shape); }

}  // namespace

TEST_SUITE("ops_reduce") {
  TEST_CASE("integers and bool: sums in i64, extremes and running sums exact") {
    const int64_t big = int64_t{1} << 60;
    const Var x = Tensor::from<int64_t>({big, 1, -3, 1, 2, big}, {2, 3});
    CHECK(sum(x, {1}).value().values<int64_t>() == std::vector<int64_t>{big - 2, big + 3});
    CHECK(max(x, 1).values.value().values<int64_t>() == std::vector<int64_t>{big, big});
    CHECK(cumsum(x, 1).value().values<int64_t>() ==
          std::vector<int64_t>{big, big + 1, big - 2, 1, 3, big + 3});
    const Var small = x.value().to(DType::u8);
    CHECK(sum(small).dtype() == DType::i64);
    CHECK(sum(gt(x, 0)).value().item() == 5);
    CHECK(values(all(gt(x, 0), {1})) == Values{0, 1});
    CHECK(values(any(lt(x, 0), {1})) == Values{1, 0});
    CHECK(any(Tensor::zeros({0})).value().item() == 0);
    CHECK(all(Tensor::zeros({0})).value().item() == 1);
    CHECK_THROWS_AS((void)mean(x), DTypeError);
    CHECK_THROWS_AS((void)norm(x), DTypeError);
  }

  TEST_CASE("ties: the first one, in value and gradient") {
    for (const bool columns : {false, true}) {
      Tensor t = f64({2, 5, 5, 1, 5, 3, 3, 3, 3, 3}, {2, 5});
      if (columns) t = t.transpose(0, 1).contiguous();
      Var x = Var::parameter(t);
      const int dim = columns ? 0 : 1;
      Tape tape;
      const Extremum m = max(x, dim);
      CHECK(values(m.values) == Values{5, 3});
      CHECK(values(m.indices) == Values{1, 0});
      CHECK(values(argmin(x, dim)) == Values{3, 0});
      CHECK(!argmax(x, dim).requires_grad());
      tape.backward(sum(m.values));
      const Tensor g = columns ? x.grad().transpose(0, 1) : x.grad();
      CHECK(g.values<double>() == Values{0, 1, 0, 0, 0, 1, 0, 0, 0, 0});
    }
  }

  TEST_CASE("NaN wins, at its first place; infinities") {
    for (const DType d : {DType::f32, DType::f64, DType::bf16}) {
      for (const int64_t at : {0, 3, 17, 39}) {
        Tensor t = Tensor::arange(40, d);
        Tensor spot = t.slice(0, at, at + 1);
        spot.fill_(kNan);
        for (const int dim : {0, 1}) {
          const Tensor two = dim == 0 ? t.view({40, 1}).expand({40, 2}) : t.view({1, 40});
          CHECK(std::isnan(values(max(two, dim).values)[0]));
          CHECK(values(argmax(two, dim))[0] == at);
          CHECK(values(argmin(two, dim))[0] == at);
        }
        for (const Var& y : {sum(t), mean(t), amax(t), amin(t), var(t), norm(t), logsumexp(t)})
          CHECK(std::isnan(y.value().item()));
      }
    }
    const Tensor edge = f64({-kInf, -kInf, kInf, 1, -kInf, 2}, {3, 2});
    for (const bool columns : {false, true}) {
      Var x = Var::parameter(columns ? edge.transpose(0, 1).contiguous() : edge);
      Tape tape;
      const Var y = logsumexp(x, {columns ? 0 : 1});
      CHECK(values(y)[0] == -kInf);
      CHECK(values(y)[1] == kInf);
      CHECK(values(y)[2] == 2);
      CHECK(values(argmax(x, columns ? 0 : 1)) == Values{0, 0, 1});
      tape.backward(y, f64({1, 0, 1}, {3}));
      const Tensor g = columns ? x.grad().transpose(0, 1) : x.grad();
      CHECK(g.values<double>()[0] == 0);
      CHECK(g.values<double>()[1] == 0);
      CHECK(g.values<double>()[4] == 0);
      CHECK(g.values<double>()[5] == 1);
    }
  }

  TEST_CASE("empty axes") {
    const Var x = Tensor::zeros({2, 0});
    CHECK(values(sum(x, {1})) == Values{0, 0});
    CHECK(values(prod(x, {1})) == Values{1, 1});
    CHECK(std::isnan(values(mean(x, {1}))[0]));
    CHECK(values(logsumexp(x, {1}))[0] == -kInf);
    CHECK(sum(x, {0}).shape() == Shape{0});
    CHECK_THROWS_AS((void)max(x, 1), ValueError);
    CHECK_THROWS_AS((void)amax(x), ValueError);
  }

  TEST_CASE("precision: long f32 sums, a variance far from 0, 16-bit means") {
    constexpr int64_t kSize = 3000000;
    const Tensor tenth = Tensor::full({kSize}, 0.1);
    const double exact = static_cast<double>(0.1f) * kSize;
    CHECK(std::abs(sum(tenth).value().item() - exact) < 1e-6 * exact);
    CHECK(std::abs(sum(tenth.view({kSize / 3, 3}), {0}).value().values<double>()[1] - exact / 3) <
          1e-6 * exact);
    CHECK(std::abs(cumsum(tenth, 0).value().values<double>().back() - exact) < 1e-6 * exact);
    Tensor x({100000}, DType::f32);
    fill_normal(x, RandomKey{1}, 1000, 1);
    const Var wide = x.to(DType::f64);
    CHECK(std::abs(var(x).value().item() - var(wide).value().item()) < 1e-4);
    CHECK(std::abs(stddev(x.view({1000, 100}), {0}).value().values<double>()[7] -
                   stddev(Var(wide.value().view({1000, 100})), {0}).value().values<double>()[7]) <
          1e-4);
    // The sum of these leaves f16; the mean must not.
    CHECK(mean(Tensor::full({1000}, 1000, DType::f16)).value().item() == 1000);
    CHECK(norm(Tensor::full({10000}, 300, DType::f16)).value().item() == 30000);
  }

  TEST_CASE("gradients at zero: std and norm give 0, prod sees through zeros") {
    Var x = Var::parameter(f64({2, 2, 2}, {3}));
    Tape tape;
    CHECK(tape.gradients(stddev(x), std::vector<Var>{x}, Tape::Keep::yes)[0].values<double>() ==
          Values{0, 0, 0});
    Var z = Var::parameter(f64({0, 0}, {2}));
    CHECK(tape.gradients(norm(z), std::vector<Var>{z}, Tape::Keep::yes)[0].values<double>() ==
          Values{0, 0});
    Var p = Var::parameter(f64({2, 0, 3}, {3}));
    CHECK(tape.gradients(prod(p), std::vector<Var>{p}, Tape::Keep::yes)[0].values<double>() ==
          Values{0, 6, 0});
  }

  TEST_CASE("what is kept: nothing for sum and mean, indices for max") {
    Var x = Var::parameter(Tensor::zeros({4, 6}));
    Tape tape;
    (void)sum(x, {1}), (void)mean(x, {0}), (void)cumsum(x, 1), (void)max(x, 1), (void)var(x, {1});
    const auto lines = tape.listing();
    REQUIRE(lines.size() == 5);
    for (size_t i = 0; i < 3; ++i) CHECK(lines[i].bytes_kept == 0);
    CHECK(lines[3].bytes_kept == 4 * 8);
    CHECK(lines[4].bytes_kept == (4 * 6 + 4) * 4);
  }

  TEST_CASE("sum_to undoes any expansion; undo_reduce_view undoes reduce_view") {
    Tensor x({2, 3, 4}, DType::f64);
    fill_normal(x, RandomKey{2});
    for (const Shape& s : {Shape{}, Shape{1}, Shape{4}, Shape{3, 1}, Shape{2, 1, 4}, Shape{1, 3, 4},
                           Shape{1, 1, 1}}) {
      const Tensor y = sum_to(x, s);
      CHECK(y.shape() == s);
      double total = 0;
      for (double v : y.values<double>()) total += v;
      CHECK(std::abs(total - sum(x).value().item()) < 1e-12);
    }
    for (unsigned mask = 0; mask < 8; ++mask)
      CHECK(undo_reduce_view(reduce_view(x, mask), x.shape(), mask).values<double>() ==
            x.values<double>());
    CHECK_THROWS_AS((void)sum_to(x, Shape{2, 2, 3, 4}), ShapeError);
  }

  TEST_CASE("errors") {
    const Var x = Tensor::zeros({2, 3});
    CHECK_THROWS_AS((void)sum(x, {2}), ValueError);
    CHECK_THROWS_AS((void)sum(x, {0, 0}), ValueError);
    CHECK_THROWS_AS((void)sum(x, {1, -1}), ValueError);
    CHECK_THROWS_AS((void)argmax(x, -3), ValueError);
    CHECK_THROWS_AS((void)cumsum(x, 2), ValueError);
  }
}
