// What the table of cases does not cover for norms and modulation: precision, mixed dtypes,
// Autocast, the fused ops against their compositions, what is kept, errors.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/modulate.h"
#include "tenun/ops/norm.h"

using namespace tenun;

namespace {

Tensor random(const Shape& shape, uint64_t stream, DType d = DType::f32) {
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
double largest(const Tensor& a) { return worst(a, zeros_like(a)); }

// Output and gradients of f for inputs rounded to `d` and a fixed upstream gradient.
std::vector<Tensor> evaluate(const std::function<Var(std::span<const Var>)>& f,
                             const std::vector<Tensor>& inputs, DType d) {
  Tape tape;
  std::vector<Var> in;
  for (const Tensor& t : inputs) in.push_back(Var::parameter(t.to(d)));
  const Var y = f(in);
  std::vector<Tensor> all{y.value()};
  const Tensor seed = random(y.shape(), 99).to(y.dtype());
  for (Tensor& g : tape.gradients({&y, 1}, in, Tape::Keep::no, {&seed, 1})) all.push_back(g);
  return all;
}

}  // namespace

TEST_SUITE("ops_norm") {
  TEST_CASE("layer_norm keeps its digits on an offset of 1000") {
    const Tensor x = random({8, 64}, 1, DType::f64);
    Tensor moved = x.clone();
    moved.add_(Tensor::full(x.shape(), 1000, DType::f64));
    const Tensor shifted = moved.to(DType::f32);
    const Tensor want = layer_norm(shifted.to(DType::f64)).value();
    // f32 holds x + 1000 to 6e-5; the mean must not be worse than that
    CHECK(worst(layer_norm(shifted).value(), want) < 2e-4);
  }

  TEST_CASE("zero rows: finite outputs and gradients") {
    Var x = Var::parameter(Tensor::zeros({2, 8}));
    Tape tape;
    const std::vector<Var> out{rms_norm(x, {}, 1e-6), layer_norm(x, {}, {}, 1e-6)};
    const std::vector<Tensor> seeds{random({2, 8}, 1), random({2, 8}, 2)};
    tape.backward_all(out, seeds);
    CHECK(largest(out[0].value()) == 0);
    CHECK(x.grad().all_finite());
    CHECK(largest(x.grad()) > 100);  // 1 / sqrt(eps) = 1000 times the upstream gradient
  }

  TEST_CASE("16-bit inputs: f32 inside, gradients in the dtype of each input") {
    for (const DType low : {DType::bf16, DType::f16}) {
      const Tensor x = random({6, 40}, 1).to(low), w = random({40}, 2);
      Tape tape;
      const Var a = Var::parameter(x), b = Var::parameter(w);
      const Var y = rms_norm(a, b);
      CHECK(y.dtype() == low);
      // the f32 result, rounded once
      CHECK(worst(y.value(), rms_norm(x.to(DType::f32), w).value().to(low)) == 0);
      tape.backward_all({&y, 1}, {{x}});
      CHECK(a.grad().dtype() == low);
      CHECK(b.grad().dtype() == DType::f32);
      CHECK(a.grad().shape() == x.shape());
    }
  }

  TEST_CASE("rms_norm_modulate and its composition: equally exact in every dtype") {
    const std::vector<Tensor> in{random({2, 50, 96}, 1), random({96}, 2), random({2, 96}, 3),
                                 random({2, 96}, 4)};
    const auto fused = [](std::span<const Var> v) {
      return rms_norm_modulate(v[0], v[1], v[2], v[3], 1e-6);
    };
    const auto composed = [](std::span<const Var> v) {
      return modulate(rms_norm(v[0], v[1], 1e-6), v[2], v[3]);
    };
    for (const DType d : {DType::f32, DType::bf16, DType::f16}) {
      CAPTURE(std::string(name(d)));
      std::vector<Tensor> rounded;  // all start from the same numbers
      for (const Tensor& t : in) rounded.push_back(t.to(d).to(DType::f64));
      const auto exact = evaluate(composed, rounded, DType::f64);
      const auto a = evaluate(fused, rounded, d), b = evaluate(composed, rounded, d);
      for (size_t i = 0; i < exact.size(); ++i) {
        CAPTURE(i);
        CHECK(a[i].dtype() == d);
        CHECK(a[i].shape() == exact[i].shape());
        const double factor = i == 0 ? 2 : 3;
        CHECK(worst(a[i], exact[i]) <=
              factor * worst(b[i], exact[i]) + epsilon_of(d) * largest(exact[i]));
      }
    }
  }

  TEST_CASE("rms_norm_modulate under Autocast: what the next matrix product would round to") {
    const Tensor x = random({2, 5, 32}, 1), w = random({32}, 2);
    const Tensor shift = random({2, 32}, 3), scale = random({2, 32}, 4);
    const Tensor plain = rms_norm_modulate(x, w, shift, scale).value();
    CHECK(plain.dtype() == DType::f32);
    const Autocast guard(DType::bf16);
    const Tensor low = rms_norm_modulate(x, w, shift, scale).value();
    CHECK(low.dtype() == DType::bf16);
    CHECK(worst(low, plain.to(DType::bf16)) == 0);
    CHECK(rms_norm_modulate(x.to(DType::f64), w, shift, scale).dtype() == DType::f64);
    CHECK(rms_norm(x, w).dtype() == DType::f32);
  }

  TEST_CASE("residual_gate: an f32 stream takes 16-bit branches") {
    const Tensor h = random({2, 3, 8}, 1), gate = random({2, 8}, 2).to(DType::bf16),
                 y = random({2, 3, 8}, 3).to(DType::bf16);
    Tape tape;
    const Var a = Var::parameter(h), g = Var::parameter(gate), b = Var::parameter(y);
    const Var out = residual_gate(a, g, b);
    CHECK(out.dtype() == DType::f32);
    const auto hv = h.values<double>(), gv = gate.values<double>(), yv = y.values<double>();
    const auto got = out.value().values<double>();
    for (size_t i = 0; i < got.size(); ++i)
      CHECK(std::abs(got[i] - (hv[i] + gv[i / 24 * 8 + i % 8] * yv[i])) < 1e-6);
    const Tensor seed = random({2, 3, 8}, 4);
    tape.backward_all({&out, 1}, {{seed}});
    CHECK(worst(a.grad(), seed) == 0);
    CHECK(g.grad().dtype() == DType::bf16);
    CHECK(b.grad().dtype() == DType::bf16);
    CHECK(residual_gate(y, gate, h).dtype() == DType::f32);
    CHECK(residual_gate(y, gate, y).dtype() == DType::bf16);
  }

  TEST_CASE("what is kept: the input and one number for each row") {
    const size_t bytes = 4 * 100 * 64;
    const Var x = Var::parameter(random({4, 25, 64}, 1)), w = Var::parameter(random({64}, 2));
    const Var v = Var::parameter(random({4, 64}, 3));
    Tape tape;
    (void)rms_norm(x, w);
    (void)rms_norm_modulate(x, w, v, v);
    (void)layer_norm(x, w);
    (void)residual_gate(x, v, x);
    for (const Tape::Line& line : tape.listing()) {
      CAPTURE(line.op);
      CHECK(line.bytes_kept >= bytes);
      CHECK(line.bytes_kept <= bytes + 2 * 400 + 2 * 4 * 4 * 64);
    }
  }

  TEST_CASE("only the wanted gradients are made") {
    const Var x = Var::parameter(random({2, 3, 8}, 1)), w = Var::parameter(random({8}, 2)),
              s = Var::parameter(random({2, 8}, 3)), t = Var::parameter(random({2, 8}, 4));
    const auto gradient = [&](int which) {
      Tape tape;
      const auto pick = [which](int i, const Var& v) { return i == which ? v : v.detach(); };
      const Var y = rms_norm_modulate(pick(0, x), pick(1, w), pick(2, s), pick(3, t));
      const Tensor seed = random(y.shape(), 9);
      const Var* const all[] = {&x, &w, &s, &t};
      return tape.gradients({&y, 1}, {all[which], 1}, Tape::Keep::no, {&seed, 1})[0];
    };
    Tape tape;
    const Var y = rms_norm_modulate(x, w, s, t);
    const Tensor seed = random(y.shape(), 9);
    const std::vector<Var> in{x, w, s, t};
    const auto together = tape.gradients({&y, 1}, in, Tape::Keep::no, {&seed, 1});
    for (int i = 0; i < 4; ++i) CHECK(worst(gradient(i), together[static_cast<size_t>(i)]) <= 1e-6);
  }

  TEST_CASE("errors name the op and the shapes") {
    const Var x = random({2, 3, 8}, 1), w = random({7}, 2), v = random({2, 8}, 3);
    CHECK_THROWS_WITH_AS((void)rms_norm(x, w),
                         "rms_norm: weight f32[7] for x f32[2, 3, 8]: expected [8]", ShapeError);
    CHECK_THROWS_AS((void)layer_norm(x, {}, w), ShapeError);
    CHECK_THROWS_AS((void)rms_norm(Tensor::scalar(1)), ShapeError);
    CHECK_THROWS_AS((void)rms_norm(Tensor::arange(4)), DTypeError);
    CHECK_THROWS_AS((void)batch_norm_eval(x, w, w, w, w), ShapeError);
    CHECK_THROWS_AS((void)batch_norm_eval(x, random({3}, 4), {}, random({3}, 5), random({3}, 6)),
                    ShapeError);
    CHECK_THROWS_AS((void)modulate(x, w, v), ShapeError);
    CHECK_THROWS_AS((void)modulate(v, v, v), ShapeError);
    CHECK_THROWS_AS((void)rms_norm_modulate(x, w, v, v), ShapeError);
    CHECK_THROWS_AS((void)residual_gate(v, v, x), ShapeError);
    CHECK_THROWS_AS((void)layer_scale(x, w), ShapeError);
  }
}
