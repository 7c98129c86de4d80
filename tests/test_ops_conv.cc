// conv2d: what the table of op cases cannot say: errors, exactness, 16-bit types, needs.
#include <doctest/doctest.h>

#include <cmath>

#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/conv.h"

using namespace tenun;

namespace {
Tensor normal(const Shape& shape, uint64_t stream, DType d = DType::f32) {
  Tensor t(shape, d);
  fill_normal(t, RandomKey::derive(5, Purpose::test, stream));
  return t;
}
double worst(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  REQUIRE(x.size() == y.size());
  double m = 0;
  for (size_t i = 0; i < x.size(); ++i) m = std::max(m, std::abs(x[i] - y[i]));
  return m;
}
struct Result {
  Tensor y, dx, dw, db;
};
Result run(const Tensor& x, const Tensor& w, const Tensor& b, const Conv2dOptions& o) {
  Tape tape;
  const Var vx = Var::parameter(x), vw = Var::parameter(w), vb = Var::parameter(b);
  const Var y = conv2d(vx, vw, vb, o);
  const std::vector<Var> losses{y}, inputs{vx, vw, vb};
  const std::vector<Tensor> seeds{normal(y.shape(), 9).to(x.dtype())};
  const auto g = tape.gradients(losses, inputs, Tape::Keep::no, seeds);
  return {y.value(), g[0], g[1], g[2]};
}
}  // namespace

TEST_SUITE("ops_conv") {
  TEST_CASE("a convolution by hand") {
    const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 1, 3, 3});
    const Tensor w = Tensor::from<float>({1, 0, 0, -1}, {1, 1, 2, 2});
    const Tensor y = conv2d(x, w).value();
    CHECK(y.values<float>() == std::vector<float>{-4, -4, -4, -4});
    const Tensor padded = conv2d(x, w, Tensor::from<float>({10}, {1}), {.padding = 1}).value();
    CHECK(padded.shape() == Shape{1, 1, 4, 4});
    CHECK(padded.values<float>() ==
          std::vector<float>{9, 8, 7, 10, 6, 6, 6, 13, 3, 6, 6, 16, 10, 17, 18, 19});
  }

  TEST_CASE("the gradient's shapes and dtypes are those of the inputs; a bias may be absent") {
    for (const DType d : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
      const Result r = run(normal({2, 4, 5, 6}, 1, d), normal({6, 2, 3, 3}, 2, d),
                           normal({6}, 3, d), {.padding = 1, .groups = 2});
      CHECK(r.dx.describe() == Tensor({2, 4, 5, 6}, d).describe());
      CHECK(r.dw.describe() == Tensor({6, 2, 3, 3}, d).describe());
      CHECK(r.db.describe() == Tensor({6}, d).describe());
    }
  }

  TEST_CASE("bf16 differs from f32 on the same numbers only by the rounding of the results") {
    for (const Conv2dOptions& o : {Conv2dOptions{.padding = 1}, Conv2dOptions{.stride = 3}}) {
      const Tensor x = normal({2, 3, 9, 9}, 1, DType::bf16),
                   w = normal({4, 3, 3, 3}, 2, DType::bf16), b = normal({4}, 3, DType::bf16);
      const Result low = run(x, w, b, o);
      Tape tape;
      const Var vx = Var::parameter(x.to(DType::f32)), vw = Var::parameter(w.to(DType::f32));
      const Var y = conv2d(vx, vw, b.to(DType::f32), o);
      const std::vector<Var> losses{y}, inputs{vx, vw};
      const std::vector<Tensor> seeds{normal(y.shape(), 9).to(DType::bf16).to(DType::f32)};
      const auto g = tape.gradients(losses, inputs, Tape::Keep::no, seeds);
      const auto bound = [](const Tensor& t) {
        double m = 0;
        for (double v : t.values<double>()) m = std::max(m, std::abs(v));
        return m * 0x1p-7;
      };
      CHECK(worst(low.y, y.value()) <= bound(y.value()));
      CHECK(worst(low.dx, g[0]) <= bound(g[0]));
      CHECK(worst(low.dw, g[1]) <= bound(g[1]));
    }
  }

  TEST_CASE("small integers are exact, whatever the blocks: dense, tiled and pointwise agree") {
    // An 8 x 8 kernel with stride 8 tiles the image; one more row of padding does not, and shifts.
    Tensor x({3, 5, 32, 40}, DType::f32), w({7, 5, 8, 8}, DType::f32);
    fill_uniform(x, RandomKey::derive(1, Purpose::test), -8, 8);
    fill_uniform(w, RandomKey::derive(2, Purpose::test), -8, 8);
    for (Tensor* t : {&x, &w}) {
      float* p = t->mutable_data<float>();
      for (int64_t i = 0; i < t->numel(); ++i) p[i] = std::floor(p[i]);
    }
    const Tensor tiled = conv2d(x, w, {}, {.stride = 8}).value();
    Tensor framed = Tensor::zeros({3, 5, 48, 56}, DType::f32);
    Tensor middle = framed.slice(2, 8, 40).slice(3, 8, 48);
    middle.copy_(x);
    const Tensor padded = conv2d(x, w, {}, {.stride = 8, .padding = 8}).value();
    CHECK(worst(padded, conv2d(framed, w, {}, {.stride = 8}).value()) == 0);
    CHECK(worst(padded.slice(2, 1, 5).slice(3, 1, 6), tiled) == 0);
  }

  TEST_CASE("wrong arguments name the op and the cause") {
    const Tensor x = normal({1, 4, 5, 5}, 1), w = normal({6, 4, 3, 3}, 2);
    CHECK_THROWS_AS((void)conv2d(normal({4, 5, 5}, 1), w), ShapeError);
    CHECK_THROWS_AS((void)conv2d(x, normal({6, 3, 3, 3}, 2)), ShapeError);
    CHECK_THROWS_AS((void)conv2d(x, w, normal({5}, 3)), ShapeError);
    CHECK_THROWS_AS((void)conv2d(x, w, {}, {.groups = 3}), ShapeError);
    CHECK_THROWS_AS((void)conv2d(x, w, {}, {.groups = 0}), ValueError);
    CHECK_THROWS_AS((void)conv2d(x, w, {}, {.stride = 0}), ValueError);
    CHECK_THROWS_AS((void)conv2d(x, w, {}, {.padding = -1}), ValueError);
    CHECK_THROWS_AS((void)conv2d(x, w, {}, {.dilation = Pair(1, 0)}), ValueError);
    CHECK_THROWS_AS((void)conv2d(x, w, {}, {.dilation = 3}), ShapeError);
    CHECK_THROWS_AS((void)conv2d(x, w, {}, {.padding = int64_t{1} << 62}), ValueError);
    CHECK_THROWS_AS((void)conv2d(x.to(DType::i64), w), DTypeError);
    CHECK_THROWS_WITH_AS((void)conv2d(x, normal({2, 4, 6, 6}, 2)),
                         doctest::Contains("conv2d: the output would be empty"), ShapeError);
  }
}
