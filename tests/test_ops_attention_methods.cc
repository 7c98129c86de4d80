// The attention methods through attention(): odd sizes, the automatic choice, limits.
#include <doctest/doctest.h>

#include <limits>

#include "tenun/autograd/tape.h"
#include "tenun/tests/attention_util.h"

using namespace tenun;
using namespace tenun::test;

TEST_SUITE("ops_attention_methods") {
  TEST_CASE("odd sizes and head sizes: f32 near f64, finite gradients") {
    for (const AttentionMethod m : available_attention_methods())
      for (const int64_t n : {1, 7, 65, 200})
        for (const int64_t d : {8, 64, 72, 80, 128}) {
          if (n * d > 65 * 80 && d != 128) continue;
          INFO(name(m), " n ", n, " d ", d);
          Inputs exact(1, 2, n, n, d), in(1, 2, n, n, d, DType::f32);
          AttentionSpec s = sla2_spec(RouterMode::hard);
          s.method = m, s.block_q = 32, s.block_k = 16, s.topk_ratio = 0.3;
          in.params.gate_c = normal(in.q.shape(), 12, DType::f32);
          exact.params.gate_c = in.params.gate_c.value().to(DType::f64);
          for (const auto& [to, from] :
               {std::pair{&in.q, &exact.q}, std::pair{&in.k, &exact.k}, std::pair{&in.v, &exact.v}})
            *from = to->value().to(DType::f64), *to = Var::parameter(to->value());
          Tape tape;
          const Var o = attention(in.q, in.k, in.v, s, in.params).o;
          const double rounding = m == AttentionMethod::sage ? 2e-2 : 1e-4;
          CHECK(relative_l1(o.value(),
                            attention(exact.q, exact.k, exact.v, s, exact.params).o.value()) <
                rounding);
          tape.backward(o, normal(o.shape(), 13, DType::f32));
          for (const Var* x : {&in.q, &in.k, &in.v}) CHECK(x->grad().all_finite());
        }
  }

  TEST_CASE("automatic: dense below the break-even length, sla2 from it on") {
    CHECK(break_even_length(0.9) == std::numeric_limits<int64_t>::max());
    const int64_t least = break_even_length(0.05);
    CHECK(break_even_length(0.1) >= least);
    CHECK(automatic_method(0.05, least - 1) == AttentionMethod::dense);
    CHECK(automatic_method(0.05, least) == AttentionMethod::sla2);
    const Inputs in(1, 1, 40, 40, 8, DType::f32);
    AttentionSpec s;
    s.method = AttentionMethod::automatic;
    CHECK(same(attention(in.q, in.k, in.v, s).o.value(), sdpa(in.q, in.k, in.v).value()));
    const Inputs cross(1, 1, 3, least, 4, DType::f32);
    s.topk_ratio = 0.05;
    AttentionSpec named = s;
    named.method = AttentionMethod::sla2;
    CHECK(same(attention(cross.q, cross.k, cross.v, s, cross.params).o.value(),
               attention(cross.q, cross.k, cross.v, named, cross.params).o.value()));
  }

  TEST_CASE("methods that select everything are dense attention") {
    const Inputs in(1, 2, 50, 50, 8);
    const Tensor want = sdpa(in.q, in.k, in.v).value();
    AttentionSpec s;
    s.block_q = 16, s.block_k = 8, s.topk_ratio = 1, s.topk = 100, s.enrichment = false;
    s.radius = 100;
    for (const AttentionMethod m :
         {AttentionMethod::sparse, AttentionMethod::sparge, AttentionMethod::vmoba,
          AttentionMethod::llsa, AttentionMethod::window}) {
      s.method = m;
      const AttentionOutput r = attention(in.q, in.k, in.v, s);
      CHECK(relative_l1(r.o.value(), want) < 1e-14);
      CHECK(r.stats.density == 1);
    }
  }
}
