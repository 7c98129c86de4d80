// Autocast and checkpoint: what is cast, how often, and that recomputation changes nothing.
#include <doctest/doctest.h>

#include <vector>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/checkpoint.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/ops/dropout.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/reduce.h"

using namespace tenun;

namespace {

Var random_parameter(const Shape& shape, uint64_t which) {
  Tensor t(shape, DType::f32);
  fill_normal(t, RandomKey::derive(5, Purpose::test, which));
  return Var::parameter(t);
}
size_t count(const Tape& tape, const std::string& op) {
  size_t n = 0;
  for (const Tape::Line& l : tape.listing()) n += l.op == op ? 1u : 0u;
  return n;
}
std::vector<float> grad(const Var& v) { return v.grad().values<float>(); }
size_t bytes_kept(const Tape& tape) {
  size_t n = 0;
  for (const Tape::Line& l : tape.listing()) n += l.bytes_kept;
  return n;
}

}  // namespace

TEST_SUITE("autograd_modes") {
  TEST_CASE("autocast: products in bf16, gradients of parameters in f32, casts cached") {
    Var x = random_parameter({5, 8}, 1), w = random_parameter({8, 8}, 2);
    Tape tape;
    Var y;
    {
      const Autocast guard(DType::bf16);
      y = x;
      for (int i = 0; i < 3; ++i) y = linear(y, w);
      CHECK(y.dtype() == DType::bf16);
      CHECK(matmul(x, w).dtype() == DType::bf16);
      CHECK(log(y).dtype() == DType::f32);
      CHECK((y + x).dtype() == DType::f32);
      CHECK(relu(y).dtype() == DType::bf16);
      CHECK(matmul(x.value().to(DType::f64), w).dtype() == DType::f64);
    }
    // x and w once; log(y); y + x; w to f64.
    CHECK(count(tape, "cast") == 5);
    tape.backward(sum(y));
    CHECK(x.grad().dtype() == DType::f32);
    CHECK(w.grad().dtype() == DType::f32);
    CHECK(linear(x, w).dtype() == DType::f32);
  }

  TEST_CASE("autocast: the nested guard wins, and f32 switches it off") {
    Var x = random_parameter({2, 4}, 1), w = random_parameter({4, 4}, 2);
    const Autocast outer(DType::bf16);
    {
      const Autocast inner(DType::f16);
      CHECK(linear(x, w).dtype() == DType::f16);
      const Autocast off(DType::f32);
      CHECK(linear(x, w).dtype() == DType::f32);
    }
    CHECK(linear(x, w).dtype() == DType::bf16);
    CHECK_THROWS_AS(Autocast(DType::i8), DTypeError);
  }

  TEST_CASE("autocast: a guard that outlives tapes and updates makes new casts") {
    Var x = random_parameter({2, 4}, 1), w = random_parameter({4, 4}, 2);
    const Autocast guard(DType::bf16);
    std::vector<float> first;
    for (int step = 0; step < 3; ++step) {
      Tape tape;  // at the same address each time
      const Var y = sum(linear(x, w));
      tape.backward(y);
      if (step == 0) first = grad(w);
      REQUIRE(w.grad().defined());
      CHECK(grad(w) == first);
      w.zero_grad();
    }
    {  // one tape, used twice
      Tape tape;
      tape.backward(sum(linear(x, w)));
      tape.backward(sum(linear(x, w)));
      for (size_t i = 0; i < first.size(); ++i) CHECK(grad(w)[i] == 2 * first[i]);
    }
    const float before = sum(linear(x, w)).value().to(DType::f32).values<float>()[0];
    w.mutable_value().fill_(0);
    const float after = sum(linear(x, w)).value().to(DType::f32).values<float>()[0];
    CHECK(before != 0);
    CHECK(after == 0);
  }

  TEST_CASE("checkpoint: the same gradients, less memory, hidden parameters included") {
    Var x = random_parameter({6, 8}, 1), c = random_parameter({8}, 2);
    std::vector<Var> w;
    for (uint64_t i = 0; i < 4; ++i) w.push_back(random_parameter({8, 8}, 10 + i));
    const auto block = [&](std::span<const Var> in) {
      Var h = in[0];
      for (size_t i = 0; i < w.size(); ++i)
        h = dropout(gelu(linear(h, w[i]) + in[1]), 0.2, RandomKey{i});
      return std::vector<Var>{h, sum(h)};
    };
    std::vector<std::vector<float>> want;
    size_t kept = 0;
    for (const bool recompute : {false, true})
      for (const bool low : {false, true}) {
        x.zero_grad(), c.zero_grad();
        for (Var& v : w) v.zero_grad();
        Tape tape;
        std::vector<Var> out;
        {
          const Autocast guard(low ? DType::bf16 : DType::f32);
          const std::vector<Var> in{x, c};
          out = recompute ? checkpoint(block, in) : block(in);
        }
        if (recompute) {
          CHECK(tape.size() == 1);
          CHECK(bytes_kept(tape) * 4 < kept);
        } else {
          kept = bytes_kept(tape);
        }
        tape.backward(sum(square(out[0])) + 2 * out[1]);
        std::vector<float> all = grad(x);
        for (const Var& v : {c, w[0], w[1], w[2], w[3]})
          for (const float g : grad(v)) all.push_back(g);
        if (!recompute)
          want.push_back(all);
        else
          CHECK(all == want[low ? 1 : 0]);
      }
  }

  TEST_CASE("checkpoint: no input wants a gradient, and gradients() of what is hidden") {
    Var w = random_parameter({3}, 1), other = random_parameter({3}, 2);
    const Tensor x = Tensor::from<float>({1, 2, 3}, {3});
    const auto block = [&](std::span<const Var> in) { return std::vector<Var>{in[0] * w * other}; };
    {
      Tape tape;
      tape.backward(sum(checkpoint(block, {x})[0]));
      CHECK(grad(w)[2] == 3 * other.value().values<float>()[2]);
    }
    const auto before = grad(w), before_other = grad(other);
    Tape tape;
    const Var loss = sum(checkpoint(block, {x})[0]);
    for (int i = 0; i < 2; ++i) {
      const auto g = tape.gradients(loss, std::vector<Var>{w}, Tape::Keep::yes);
      REQUIRE(g[0].defined());
      CHECK(g[0].values<float>() == before);
    }
    CHECK(grad(w) == before);
    CHECK(grad(other) == before_other);
  }

  TEST_CASE("checkpoint: hooks of a hidden parameter see the complete gradient once") {
    Var w = random_parameter({2}, 1);
    const Tensor x = Tensor::from<float>({1, 2}, {2});
    int calls = 0;
    std::vector<float> saw;
    w.on_grad([&](const Tensor& g) {
      ++calls, saw = g.values<float>();
      return Tensor();
    });
    const auto block = [&](std::span<const Var> in) { return std::vector<Var>{in[0] * w}; };
    Tape tape;
    tape.backward(sum(checkpoint(block, {x})[0] + checkpoint(block, {x})[0]));
    CHECK(calls == 1);
    CHECK(saw == std::vector<float>{2, 4});
    CHECK(grad(w) == saw);
  }

  TEST_CASE("checkpoint nests, works on a kept tape, and does nothing without a tape") {
    Var x = random_parameter({4}, 1);
    const auto inner = [](std::span<const Var> in) { return std::vector<Var>{exp(in[0])}; };
    const auto outer = [&](std::span<const Var> in) {
      return std::vector<Var>{sin(checkpoint(inner, {in[0]})[0])};
    };
    const Var plain = checkpoint(outer, {x})[0];
    CHECK(!plain.requires_grad());
    Tape tape;
    const Var a = sum(checkpoint(outer, {x})[0]), b = sum(sin(exp(x)));
    const std::vector<Var> in{x};
    const auto want = tape.gradients(b, in, Tape::Keep::yes)[0].values<float>();
    CHECK(tape.gradients(a, in, Tape::Keep::yes)[0].values<float>() == want);
    CHECK(tape.gradients(a, in, Tape::Keep::no)[0].values<float>() == want);
  }
}
