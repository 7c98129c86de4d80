// sla2 with learned units of its integers: the composition it is, and that it learns.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tenun/autograd/tape.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/quant.h"
#include "tenun/ops/reduce.h"
#include "tenun/ops/shape.h"
#include "tenun/tests/attention_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

AttentionSpec int8_spec() {
  AttentionSpec s;
  s.method = AttentionMethod::sla2;
  s.block_q = 16, s.block_k = 8, s.topk_ratio = 0.4;
  s.quant = {LowBit::int8, LowBit::none};
  return s;
}

Tensor steps(double a, double b, DType dtype = DType::f64) {
  return Tensor::from({a, b}, {2}).to(dtype);
}

// Every value to the nearest of -127 ... 127 units of its head.
Var rounded(const Var& x, const Var& unit, int64_t block) {
  const int64_t t = (x.dim(2) + block - 1) / block;
  return fake_quant_int8(x, expand(reshape(unit, {1, 2, 1}), {x.dim(0), 2, t}),
                         {.granularity = Granularity::block, .block = block});
}

}  // namespace

TEST_SUITE("ops_attention_steps") {
  TEST_CASE("it is the composition of rounding, exact and linear attention") {
    Inputs in(2, 2, 37, 45, 8);
    const AttentionSpec s = int8_spec();
    in.params.alpha = Var::parameter(Tensor::from({0.3, -0.6}, {2}));
    in.params.q_step = Var::parameter(steps(0.03, 0.011));  // the second clips
    in.params.k_step = Var::parameter(steps(0.02, 0.04));
    for (Var* x : {&in.q, &in.k, &in.v}) *x = Var::parameter(x->value());
    const std::vector<Var> wanted{
        in.q, in.k, in.v, in.params.alpha, in.params.q_step, in.params.k_step};
    const std::vector<Tensor> seed{normal(in.q.shape(), 21)};
    const auto run = [&](auto&& f) {
      Tape tape;
      const std::vector<Var> outputs{f()};
      std::vector<Tensor> all{outputs[0].value()};
      for (const Tensor& g : tape.gradients(outputs, wanted, Tape::Keep::no, seed))
        all.push_back(g);
      return all;
    };
    Tensor mask;
    const auto got = run([&] {
      const AttentionOutput r = attention(in.q, in.k, in.v, s, in.params);
      CHECK_FALSE(r.lse.defined());
      mask = r.mask;
      return r.o;
    });
    const auto want = run([&] {
      const Var smooth = in.k - mean(in.k, {2}, KeepDims::yes);
      const Var exact =
          block_sparse_attention(rounded(in.q, in.params.q_step, 16),
                                 rounded(smooth, in.params.k_step, 8), in.v, mask, 16, 8)
              .o;
      const Var rest = linear_attention(in.q, in.k, in.v, mask, FeatureMap::softmax, s.eps, 16, 8);
      const Var a = reshape(sigmoid(in.params.alpha), {1, 2, 1, 1});
      return exact * a + rest * (1.0 - a);
    });
    for (size_t i = 0; i < want.size(); ++i) {
      INFO("tensor ", i);
      CHECK(relative_l1(got[i], want[i]) < 1e-11);
    }
    CHECK(got[5].values<double>()[1] != 0);
  }

  TEST_CASE("near the units of the largest values it is near the kernels' integers") {
    Inputs in(1, 2, 200, 200, 64, DType::f32);
    AttentionSpec s = int8_spec();
    in.params.alpha = Var(Tensor::full({2}, 0.5));
    const Tensor dynamic = attention(in.q, in.k, in.v, s, in.params).o.value();
    in.params.q_step = in.params.k_step = Var(steps(4.0 / 127, 4.0 / 127, DType::f32));
    const Tensor learned = attention(in.q, in.k, in.v, s, in.params).o.value();
    s.quant = {};
    const Tensor exact = attention(in.q, in.k, in.v, s, in.params).o.value();
    CHECK(relative_l1(learned, exact) > 1e-4);
    CHECK(relative_l1(learned, exact) < 2 * relative_l1(dynamic, exact));
  }

  TEST_CASE("bad units are learned away") {
    Inputs in(1, 2, 96, 96, 32, DType::f32);
    const AttentionSpec s = int8_spec();
    in.params.alpha = Var(Tensor::full({2}, 3));
    AttentionSpec exact = s;
    exact.quant = {};
    const Var target(attention(in.q, in.k, in.v, exact, in.params).o.value());
    Tensor q = steps(0.6, 0.004, DType::f32), k = steps(0.003, 0.5, DType::f32);
    double first = 0, error = 0;
    for (int step = 0; step < 80; ++step) {
      in.params.q_step = Var::parameter(q), in.params.k_step = Var::parameter(k);
      Tape tape;
      const Var off = attention(in.q, in.k, in.v, s, in.params).o - target;
      const Var loss = mean(off * off);
      error = loss.value().item();
      if (step == 0) first = error;
      tape.backward(loss);
      for (const auto& [t, g] :
           {std::pair{&q, in.params.q_step.grad()}, std::pair{&k, in.params.k_step.grad()}}) {
        std::vector<float> v = t->values<float>();
        const auto d = g.values<float>();
        for (size_t i = 0; i < v.size(); ++i) v[i] *= d[i] > 0 ? 0.94f : 1.06f;
        *t = Tensor::from(v, {2});
      }
    }
    INFO(first, " to ", error);
    CHECK(error < first / 20);
  }

  TEST_CASE("wrong shapes and other methods are told") {
    Inputs in(1, 2, 20, 20, 8);
    AttentionSpec s = int8_spec();
    in.params.q_step = Var(steps(0.1, 0.1));
    CHECK_THROWS_AS((void)attention(in.q, in.k, in.v, s, in.params), ShapeError);
    in.params.k_step = Var(normal({3}, 1));
    CHECK_THROWS_AS((void)attention(in.q, in.k, in.v, s, in.params), ShapeError);
    in.params.k_step = in.params.q_step;
    s.method = AttentionMethod::sla;
    CHECK_THROWS_WITH_AS((void)attention(in.q, in.k, in.v, s, in.params),
                         doctest::Contains("only sla2 learns"), ValueError);
    // Switched off, the units lie idle.
    s.method = AttentionMethod::sla2, s.quant = {};
    AttentionParams without = in.params;
    without.q_step = without.k_step = {};
    CHECK(same(attention(in.q, in.k, in.v, s, in.params).o.value(),
               attention(in.q, in.k, in.v, s, without).o.value()));
  }
}
