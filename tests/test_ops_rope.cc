// What the table of cases does not cover for the ops of JiT: known table entries, exactness,
// round trips, the fused qk_norm_rope against its composition, threads, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <thread>

#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/norm.h"
#include "tenun/ops/patchify.h"
#include "tenun/ops/rope.h"
#include "tenun/ops/shape.h"
#include "tenun/ops/sinusoid.h"
#include "tenun/ops/swiglu.h"
#include "tenun/tests/qkv_util.h"

using namespace tenun;

namespace {

Tensor random(const Shape& shape, uint64_t stream, DType d = DType::f32) {
  Tensor t(shape, d);
  fill_normal(t, RandomKey::derive(8, Purpose::test, stream));
  return t;
}
double worst(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  REQUIRE(x.size() == y.size());
  double m = 0;
  for (size_t i = 0; i < x.size(); ++i) m = std::max(m, std::abs(x[i] - y[i]));
  return m;
}
double largest(const Tensor& a) { return worst(a, zeros_like(a)); }
void check_near(const std::vector<double>& v, size_t at, std::initializer_list<double> want) {
  for (const double w : want) {
    CAPTURE(at);
    CHECK(std::abs(v.at(at++) - w) < 1.2e-7);  // printed from f32 tables
  }
}

Qkv composed(const Var& qkv, const Var& qw, const Var& kw, const QkNormRopeOptions& o) {
  const int64_t d = qkv.dim(2) / (3 * o.heads);
  const Var five = permute(reshape(qkv, {qkv.dim(0), qkv.dim(1), 3, o.heads, d}), {2, 0, 3, 1, 4});
  return {rope_2d(rms_norm(select(five, 0, 0), qw, o.eps), o.rope),
          rope_2d(rms_norm(select(five, 0, 1), kw, o.eps), o.rope), contiguous(select(five, 0, 2))};
}

std::vector<Tensor> evaluate(test::QkvOp f, const std::vector<Tensor>& in, DType d,
                             const QkNormRopeOptions& o, const std::vector<int>& used = {0, 1, 2}) {
  const auto parameter = [&](size_t i) { return Var::parameter(in[i].to(d)); };
  return test::qkv_results(f, {parameter(0), parameter(1), parameter(2)}, o, used,
                           [&](int part, const Shape& shape) {
                             return random(shape, 50 + static_cast<uint64_t>(part)).to(d);
                           });
}

}  // namespace

TEST_SUITE("ops_rope") {
  TEST_CASE("known entries of the tables of JiT-B/16 at 256 x 256") {
    const RopeTable t = rope_table({.grid = 16}, 64, DType::f64, cpu());
    REQUIRE(t.cos.shape() == Shape{256, 32});
    REQUIRE(rope_table({.grid = 16, .prefix = 32}, 64, DType::f32, cpu()).sin.shape() ==
            Shape{288, 32});
    const size_t token = 53 * 32;  // row 3, column 5
    const auto cos = t.cos.values<double>(), sin = t.sin.values<double>();
    check_near(cos, token, {-0.9899925, -0.1159662, 0.5827537});
    check_near(cos, token + 16, {0.2836622, -0.9460793, -0.0103423});
    check_near(sin, token, {0.1411200});
    check_near(sin, token + 16, {-0.9589243});

    const auto pos = sincos_pos_embed(768, 16).values<double>();
    check_near(pos, 53 * 768, {-0.9589243, -0.9985735, -0.9856184});
    check_near(pos, 53 * 768 + 192, {0.2836622, 0.0533950, -0.1689863});
    check_near(pos, 53 * 768 + 384, {0.1411200, 0.2783800, 0.4041414});
    check_near(pos, 53 * 768 + 576, {-0.9899925, -0.9604710, -0.9146965});

    const auto time =
        timestep_embedding(Tensor::scalar(0.3, DType::f64).view({1}), 256).value().values<double>();
    check_near(time, 0, {0.9553365, 0.9612840});
    check_near(time, 128, {0.2955202, 0.2755594});
    CHECK(std::abs(time[255] - 3.22382e-5) < 1e-10);
  }

  TEST_CASE("a rotation: prefix untouched, lengths kept, undone by its gradient") {
    const RopeOptions o{.grid = 5, .prefix = 3};
    const Var x = Var::parameter(random({2, 3, 28, 16}, 1));
    Tape tape;
    const Var y = rope_2d(x, o);
    CHECK(worst(y.value().slice(2, 0, 4), x.value().slice(2, 0, 4)) == 0);  // and token (0, 0)
    CHECK(worst(y.value().slice(2, 4, 28), x.value().slice(2, 4, 28)) > 0.1);
    tape.backward_all({&y, 1}, {{y.value()}});
    CHECK(worst(x.grad(), x.value()) < 1e-6);
  }

  TEST_CASE("tables are shared, and made safely by many threads at once") {
    const RopeTable first = rope_table({.grid = 7}, 8, DType::bf16, cpu());
    CHECK(first.cos.dtype() == DType::f32);
    CHECK(rope_table({.grid = 7}, 8, DType::f32, cpu()).cos.shares_storage(first.cos));
    CHECK(!rope_table({.grid = 7}, 8, DType::f64, cpu()).cos.shares_storage(first.cos));
    std::vector<double> sums(8);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < sums.size(); ++i)
      threads.emplace_back([&sums, i] {
        for (int64_t grid = 1; grid < 80; ++grid)  // more than the cache holds
          sums[i] += rope_table({.grid = grid}, 4, DType::f32, cpu()).sin.values<double>().back();
      });
    for (std::thread& t : threads) t.join();
    for (const double s : sums) CHECK(s == sums[0]);
  }

  TEST_CASE("qk_norm_rope and its composition: equally exact in every dtype") {
    const QkNormRopeOptions o{.heads = 3, .rope = {.grid = 6, .prefix = 4}, .eps = 1e-6};
    const std::vector<Tensor> in{random({2, 40, 3 * 3 * 16}, 1), random({16}, 2), random({16}, 3)};
    for (const DType d : {DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(std::string(name(d)));
      std::vector<Tensor> rounded;
      for (const Tensor& t : in) rounded.push_back(t.to(d).to(DType::f64));
      const auto exact = evaluate(composed, rounded, DType::f64, o);
      const auto a = evaluate(qk_norm_rope, rounded, d, o), b = evaluate(composed, rounded, d, o);
      for (size_t i = 0; i < exact.size(); ++i) {
        CAPTURE(i);
        CHECK(a[i].dtype() == d);
        CHECK(a[i].shape() == exact[i].shape());
        CHECK(worst(a[i], exact[i]) <=
              (i < 3 ? 2 : 3) * worst(b[i], exact[i]) + epsilon_of(d) * largest(exact[i]));
      }
    }
  }

  TEST_CASE("qk_norm_rope: outputs that nobody used count as zero") {
    const QkNormRopeOptions o{.heads = 2, .rope = {.grid = 3}, .eps = 1e-6};
    const std::vector<Tensor> in{random({1, 9, 24}, 1), random({4}, 2), random({4}, 3)};
    for (const std::vector<int>& used : {std::vector<int>{0}, {1}, {2}, {0, 2}}) {
      const auto a = evaluate(qk_norm_rope, in, DType::f64, o, used),
                 b = evaluate(composed, in, DType::f64, o, used);
      CHECK(worst(a[3], b[3]) < 1e-12);
      for (size_t i : {4, 5})  // the composition leaves the gradient of an unused weight undefined
        CHECK((b[i].defined() ? worst(a[i], b[i]) : largest(a[i])) < 1e-12);
    }
  }

  TEST_CASE("patchify: round trip, and a convolution as a matrix product") {
    const Tensor x = random({2, 3, 12, 12}, 1);
    CHECK(worst(unpatchify(patchify(x, 4), 4, 3).value(), x) == 0);
    const Tensor w = random({5, 3, 4, 4}, 2);
    const Tensor y = linear(patchify(x, 4, PatchOrder::channels_first), w.view({5, 48})).value();
    const auto xv = x.values<double>(), wv = w.values<double>(), yv = y.values<double>();
    double want = 0;  // output 3 of patch (1, 2) of image 1
    for (size_t c = 0; c < 3; ++c)
      for (size_t i = 0; i < 4; ++i)
        for (size_t j = 0; j < 4; ++j)
          want += wv[((3 * 3 + c) * 4 + i) * 4 + j] * xv[((3 + c) * 12 + 4 + i) * 12 + 8 + j];
    CHECK(std::abs(yv[(9 + 5) * 5 + 3] - want) < 1e-5);
  }

  TEST_CASE("swiglu: 16-bit halves, infinities") {
    const Tensor x = random({3, 34}, 1).to(DType::bf16);
    CHECK(worst(swiglu(x).value(), swiglu(x.to(DType::f32)).value().to(DType::bf16)) == 0);
    const Tensor wide = Tensor::from<float>({200, -200, 3, 3}, {1, 4});
    const auto v = swiglu(wide).value().values<double>();
    CHECK(v[0] == 600);
    CHECK(v[1] == 0);
  }

  TEST_CASE("errors name the op and the shapes") {
    const Var x = random({1, 2, 9, 8}, 1);
    CHECK_THROWS_AS((void)rope_2d(x, {.grid = 4}), ShapeError);
    CHECK_THROWS_AS((void)rope_2d(random({1, 2, 9, 6}, 1), {.grid = 3}), ShapeError);
    CHECK_THROWS_AS((void)rope_2d(x, {.grid = 0, .prefix = 9}), ValueError);
    CHECK_THROWS_AS((void)rope_2d(x, {.grid = 3, .theta = -1}), ValueError);
    CHECK_THROWS_AS((void)rope_2d(x, {.grid = 3, .tile = 2}), ValueError);
    const Var w = random({4}, 2), qkv = random({1, 9, 24}, 3);
    CHECK_THROWS_AS((void)qk_norm_rope(qkv, w, w, {.heads = 4, .rope = {.grid = 3}}), ShapeError);
    CHECK_THROWS_AS((void)qk_norm_rope(qkv, w, w, {.heads = 1, .rope = {.grid = 3}}), ShapeError);
    CHECK_THROWS_AS((void)qk_norm_rope(qkv, w, w, {.heads = 2, .rope = {.grid = 2}}), ShapeError);
    CHECK_THROWS_AS((void)patchify(random({1, 3, 5, 4}, 4), 2), ShapeError);
    CHECK_THROWS_AS((void)unpatchify(random({1, 3, 12}, 5), 2, 3), ShapeError);
    CHECK_THROWS_AS((void)unpatchify(random({1, 4, 12}, 5), 2, 2), ShapeError);
    CHECK_THROWS_AS((void)sincos_pos_embed(6, 2), ValueError);
    CHECK_THROWS_AS((void)timestep_embedding(random({2, 2}, 6), 8), ShapeError);
    CHECK_THROWS_WITH_AS((void)swiglu(random({2, 3}, 7)),
                         "swiglu: the last axis holds two halves, so its size must be even; got "
                         "f32[2, 3]",
                         ShapeError);
  }
}
