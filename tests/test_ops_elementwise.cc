// What the table of cases does not cover: integers, special values, kinks, dtypes, errors.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/dropout.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/reduce.h"

using namespace tenun;

namespace {

using Values = std::vector<double>;
using Whole = std::vector<int64_t>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Var f64(std::initializer_list<double> v) {
  return Tensor::from(v, {static_cast<int64_t>(v.size())});
}
Var i64(std::initializer_list<int64_t> v) {
  return Tensor::from(v, {static_cast<int64_t>(v.size())});
}
Values values(const Var& v) { return v.value().values<double>(); }
Whole whole(const Var& v) { return v.value().values<int64_t>(); }
// The gradient of sum(f(x)).
Values slope(Var (*f)(const Var&), std::initializer_list<double> x) {
  Var p = Var::parameter(f64(x).value());
  Tape tape;
  tape.backward(sum(f(p)));
  return p.grad().values<double>();
}

}  // namespace

TEST_SUITE("ops_elementwise") {
  TEST_CASE("integers are exact, beyond what a double holds") {
    const int64_t big = (int64_t{1} << 60) + 1;
    const Var a = i64({big, -7, 5}), b = i64({1, 2, -3});
    CHECK(whole(a + b) == Whole{big + 1, -5, 2});
    CHECK(whole(a - b) == Whole{big - 1, -9, 8});
    CHECK(whole(a * b) == Whole{big, -14, -15});
    CHECK(whole(-a) == Whole{-big, 7, -5});
    CHECK(whole(abs(a)) == Whole{big, 7, 5});
    CHECK(whole(maximum(a, b)) == Whole{big, 2, 5});
    CHECK(whole(minimum(a, b)) == Whole{1, -7, -3});
    CHECK(whole(a + 2) == Whole{big + 2, -5, 7});
    CHECK(whole(3 - b) == Whole{2, 1, 6});
    CHECK(whole(clamp(a, -2, kInf)) == Whole{big, -2, 5});
    CHECK(whole(where(gt(b, 0), a, b)) == Whole{big, -7, -3});
    CHECK(whole(eq(a, i64({big - 1, -7, 5}))) == Whole{0, 1, 1});
    CHECK(eq(a, b).dtype() == DType::boolean);
    CHECK(whole(sum(a)) == Whole{big - 2});
  }

  TEST_CASE("dtypes of results") {
    const Var i = i64({4, 6}), k = i.value().to(DType::i32), u = i.value().to(DType::u8);
    const Var f = i.value().to(DType::f32), d = f64({1, 2}), h = i.value().to(DType::bf16);
    const Var flag = gt(d, 1.5);
    CHECK((i + k).dtype() == DType::i64);
    CHECK((k + u).dtype() == DType::i32);
    CHECK((u + Var(u.value().to(DType::i8))).dtype() == DType::i32);
    CHECK((i * f).dtype() == DType::f32);
    CHECK((h * f).dtype() == DType::f32);
    CHECK((h * i).dtype() == DType::bf16);
    CHECK((f + d).dtype() == DType::f64);
    CHECK((flag * f).dtype() == DType::f32);
    CHECK((flag + i).dtype() == DType::i64);
    CHECK((h + 1.0).dtype() == DType::bf16);
    CHECK((i / k).dtype() == DType::f32);
    CHECK(values(i / i64({8, 4})) == Values{0.5, 1.5});
    CHECK(values(i / 8) == Values{0.5, 0.75});
    CHECK(where(flag, i, k).dtype() == DType::i64);
    CHECK(where(flag, h, f).dtype() == DType::f32);
    CHECK_THROWS_AS((void)(flag + flag), DTypeError);
  }

  TEST_CASE("mixed dtypes: each input gets a gradient of its own dtype, integers none") {
    Var a = Var::parameter(Tensor::from<float>({1, 2}, {2}));
    Var b = Var::parameter(f64({3, 4}).value());
    Tape tape;
    tape.backward(sum(a * b * i64({5, 6})));
    CHECK(a.grad().dtype() == DType::f32);
    CHECK(a.grad().values<double>() == Values{15, 24});
    CHECK(b.grad().values<double>() == Values{5, 12});
  }

  TEST_CASE("kinks: the gradients that PyTorch takes") {
    CHECK(slope(relu, {-1, 0, 2}) == Values{0, 0, 1});
    CHECK(slope(abs, {-1, 0, 2}) == Values{-1, 0, 1});
    CHECK(slope([](const Var& x) { return clamp(x, -1, 1); }, {-2, -1, 0, 1, 2}) ==
          Values{0, 1, 1, 1, 0});
    CHECK(slope([](const Var& x) { return elu(x, 0.5); }, {0})[0] == 0.5);
    CHECK(slope([](const Var& x) { return pow(x, 0.0); }, {0, 2}) == Values{0, 0});
    CHECK(slope([](const Var& x) { return pow(x, 3.0); }, {0, 2}) == Values{0, 12});
    CHECK(slope([](const Var& x) { return pow(Var(Tensor::scalar(0, DType::f64)), x); }, {2}) ==
          Values{0});
    Var a = Var::parameter(f64({1, 2, 3}).value()), b = Var::parameter(f64({3, 2, 1}).value());
    {
      Tape tape;
      tape.backward(sum(maximum(a, b)));
      CHECK(a.grad().values<double>() == Values{0, 0.5, 1});
      CHECK(b.grad().values<double>() == Values{1, 0.5, 0});
    }
    a.zero_grad(), b.zero_grad();
    Tape tape;
    tape.backward(sum(minimum(a, b)));
    CHECK(a.grad().values<double>() == Values{1, 0.5, 0});
    CHECK(b.grad().values<double>() == Values{0, 0.5, 1});
  }

  TEST_CASE("NaN and infinity") {
    for (const DType d : {DType::f32, DType::f64, DType::bf16}) {
      const Var x = f64({kNan, kInf, -kInf, 1}).value().to(d);
      const auto nan_first = [](const Var& y) { return std::isnan(values(y)[0]); };
      for (const Var& y : {relu(x), abs(x), exp(x), log(x), tanh(x), sigmoid(x), silu(x), gelu(x),
                           gelu(x, Gelu::tanh), elu(x), softplus(x), clamp(x, -1, 1), sign(x),
                           maximum(x, Var(f64({1, 1, 1, 1}).value().to(d))),
                           minimum(Var(f64({1, 1, 1, 1}).value().to(d)), x)})
        CHECK(nan_first(y));
      CHECK(whole(isnan(x)) == Whole{1, 0, 0, 0});
      CHECK(whole(isfinite(x)) == Whole{0, 0, 0, 1});
      CHECK(values(exp(x))[2] == 0);
      CHECK(values(tanh(x))[2] == -1);
      CHECK(values(sigmoid(x))[1] == 1);
      CHECK(values(softplus(x))[1] == kInf);
      CHECK(values(softplus(x))[2] == 0);
      CHECK(values(elu(x))[2] == -1);
      CHECK(values(clamp(x, -kInf, 2))[1] == 2);
      CHECK(whole(eq(x, x)) == Whole{0, 1, 1, 1});
      CHECK(whole(ne(x, x)) == Whole{1, 0, 0, 0});
    }
    CHECK(slope(relu, {kInf}) == Values{1});
  }

  TEST_CASE("exact answers: rounding, powers, comparisons with numbers") {
    CHECK(values(round(f64({-1.5, -0.5, 0.5, 1.5, 2.5}))) == Values{-2, 0, 0, 2, 2});
    CHECK(values(floor(f64({-1.5, 1.5}))) == Values{-2, 1});
    CHECK(values(ceil(f64({-1.5, 1.5}))) == Values{-1, 2});
    CHECK(values(pow(f64({3}), 2.0)) == Values{9});
    CHECK(values(pow(f64({4}), -0.5)) == Values{0.5});
    const Var x = Tensor::from<float>({0.1f, 0.2f}, {2});
    CHECK(whole(eq(x, 0.1)) == Whole{1, 0});
    CHECK(whole(ge(x, 0.2)) == Whole{0, 1});
    CHECK(whole(lt(i64({1, 2, 3}), 2.5)) == Whole{1, 1, 0});
    CHECK(whole(logical_and(i64({0, 1, 2}), i64({1, 1, 0}))) == Whole{0, 1, 0});
    CHECK(whole(logical_not(i64({0, 1, 2}))) == Whole{1, 0, 0});
    CHECK(!gt(Var::parameter(x.value()), 0).requires_grad());
    // Near 0, expm1 and log1p keep their digits.
    const Var tiny = Tensor::from<float>({-1e-6f, 1e-6f}, {2});
    CHECK(std::abs(values(elu(tiny))[0] - std::expm1(static_cast<double>(-1e-6f))) < 1e-13);
    CHECK(std::abs(values(log1p(tiny))[1] - std::log1p(static_cast<double>(1e-6f))) < 1e-13);
  }

  TEST_CASE("bf16 is computed in f32 and rounded once") {
    Tensor x({1000}, DType::f32);
    fill_normal(x, RandomKey{3});
    const Tensor h = x.to(DType::bf16), wide = h.to(DType::f32);
    CHECK(values(silu(h)) == values(silu(wide).value().to(DType::bf16)));
    CHECK(values(Var(h) * Var(h)) == values((Var(wide) * Var(wide)).value().to(DType::bf16)));
  }

  TEST_CASE("saved bytes: sums keep nothing, where keeps one byte for an element") {
    Var a = Var::parameter(Tensor::zeros({8})), b = Var::parameter(Tensor::zeros({8}));
    Tape tape;
    (void)(a + b), (void)(a - b), (void)(-a), (void)(a * 2.0);
    (void)where(i64({1, 0, 1, 0, 1, 0, 1, 0}), a, b);
    (void)(a * b.detach());
    const auto lines = tape.listing();
    REQUIRE(lines.size() == 6);
    for (size_t i = 0; i < 4; ++i) CHECK(lines[i].bytes_kept == 0);
    CHECK(lines[4].bytes_kept == 8);
    CHECK(lines[5].bytes_kept == 8 * 4);
  }

  TEST_CASE("errors name the op and what to do") {
    const auto message = [](auto f) {
      try {
        f();
      } catch (const Error& e) {
        return std::string(e.what());
      }
      return std::string("nothing thrown");
    };
    const Var two = f64({1, 2}), three = f64({1, 2, 3});
    CHECK(message([&] { (void)(two * three); }).find("mul: cannot broadcast") == 0);
    CHECK(message([&] { (void)exp(i64({1})); }).find("exp: does not take i64[1]; cast") == 0);
    CHECK_THROWS_AS((void)exp(i64({1})), DTypeError);
    CHECK_THROWS_AS((void)(i64({1}) + 0.5), ValueError);
    CHECK_THROWS_AS((void)clamp(two, 1, 0), ValueError);
    CHECK_THROWS_AS((void)where(two, two, two), DTypeError);
    CHECK_THROWS_AS((void)gelu_from_name("erf"), ValueError);
    CHECK_THROWS_AS((void)(Var() + two), ShapeError);
    CHECK_THROWS_AS((void)dropout(two, 1.0, RandomKey{1}), ValueError);
    CHECK_THROWS_AS((void)dropout(two, -0.1, RandomKey{1}), ValueError);
    CHECK_THROWS_AS((void)dropout(i64({1}), 0.5, RandomKey{1}), DTypeError);
  }

  TEST_CASE("dropout: the share of dropped elements, the kept mean, the same mask in backward") {
    constexpr int64_t kSize = 1 << 20;
    for (const double drop : {0.1, 0.5, 0.9}) {
      Var x = Var::parameter(Tensor::full({kSize}, 1));
      Tape tape;
      const Var y = dropout(x, drop, RandomKey::derive(1, Purpose::dropout, 3));
      const auto v = values(y);
      double zeros = 0;
      for (const double e : v) zeros += e == 0 ? 1 : 0;
      CHECK(std::abs(zeros / kSize - drop) < 5 * std::sqrt(drop * (1 - drop) / kSize));
      for (size_t i = 0; i < 1000; ++i)
        CHECK((v[i] == 0 || std::abs(v[i] - 1 / (1 - drop)) < 1e-6 / (1 - drop)));
      CHECK(std::abs(mean(y).value().item() - 1) < 5 * std::sqrt(drop / (1 - drop) / kSize));
      CHECK(tape.listing()[0].bytes_kept == 0);
      tape.backward(sum(y));
      CHECK(x.grad().values<double>() == v);
    }
    const Var z = Tensor::full({100}, 1);
    CHECK(values(dropout(z, 0.5, RandomKey{1})) == values(dropout(z, 0.5, RandomKey{1})));
    CHECK(values(dropout(z, 0.5, RandomKey{1})) != values(dropout(z, 0.5, RandomKey{2})));
    CHECK(dropout(z, 0, RandomKey{1}).value().shares_storage(z.value()));
    // A dropped NaN is gone.
    const auto nans = whole(isnan(dropout(Tensor::full({1000}, kNan), 0.9, RandomKey{4})));
    const auto left = std::count(nans.begin(), nans.end(), 1);
    CHECK(left > 50);
    CHECK(left < 150);
  }
}
