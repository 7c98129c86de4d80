// The attention methods through attention(): odd sizes, the automatic choice, limits.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/allocator.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/select.h"
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

  TEST_CASE("memory grows with N D, not with N x N") {
    const int64_t n = 4096, d = 16;
    for (const AttentionMethod m : available_attention_methods()) {
      INFO(name(m));
      Inputs in(1, 1, n, n, d, DType::f32);
      in.params.gate_c = in.q;
      for (Var* x : {&in.q, &in.k, &in.v}) *x = Var::parameter(x->value());
      AttentionSpec s;
      s.method = m, s.block_q = s.block_k = 64, s.topk_ratio = 0.05, s.compression = 64;
      const Tensor dy = normal(in.q.shape(), 4, DType::f32);
      const size_t before = memory_stats().live;
      allocator(DeviceType::cpu).reset_peak();
      Tape tape;
      tape.backward(attention(in.q, in.k, in.v, s, in.params).o, dy);
      const size_t used = memory_stats().peak - before;
      INFO(used, " bytes");
      CHECK(used < static_cast<size_t>(n * n * 4 / 4));  // a quarter of one N x N
    }
  }

  TEST_CASE("the same bits for 1, 2, 3 and 8 threads, where work is cut into pieces") {
    for (const int64_t heads : {1, 9})
      for (const AttentionMethod m :
           {AttentionMethod::sla, AttentionMethod::vsa, AttentionMethod::vmoba,
            AttentionMethod::llsa, AttentionMethod::sparge}) {
        INFO(name(m), " heads ", heads);
        const auto everything = [&] {
          Inputs in(1, heads, 700, 700, 16, DType::f32);
          in.params.gate_c = normal(in.q.shape(), 12, DType::f32);
          std::vector<Var> wanted;
          for (Var* x : {&in.q, &in.k, &in.v, &in.params.gate_c, &in.params.proj_weight})
            wanted.push_back(*x = Var::parameter(x->value()));
          AttentionSpec s;
          s.method = m, s.block_q = s.block_k = m == AttentionMethod::vmoba ? 8 : 16;
          s.topk_ratio = 0.2, s.levels = 2;
          Tape tape;
          const Var o = attention(in.q, in.k, in.v, s, in.params).o;
          std::vector<std::vector<float>> all{o.value().values<float>()};
          const std::vector<Tensor> seeds{normal(o.shape(), 8, DType::f32)};
          const std::vector<Var> losses{o};
          for (const Tensor& g : tape.gradients(losses, wanted, Tape::Keep::no, seeds))
            if (g.defined()) all.push_back(g.values<float>());
          return all;
        };
        set_num_threads(1);
        const auto want = everything();
        CHECK(want.size() >= 4);
        for (const int n : {2, 3, 8}) {
          set_num_threads(n);
          CHECK(everything() == want);
        }
        set_num_threads(0);
      }
  }

  TEST_CASE("bf16: the output keeps the type, parameters get gradients of their own type") {
    for (const AttentionMethod m : available_attention_methods()) {
      INFO(name(m));
      const Inputs exact(1, 2, 100, 100, 32);
      Inputs in(1, 2, 100, 100, 32, DType::f32);
      in.params.gate_c = Var::parameter(in.q.value());
      in.params.proj_weight = Var::parameter(in.params.proj_weight.value());
      AttentionSpec s;
      s.method = m, s.block_q = 32, s.block_k = 16, s.topk_ratio = 0.3;
      AttentionParams p = exact.params;
      p.gate_c = exact.q;
      const Tensor want = attention(exact.q, exact.k, exact.v, s, p).o.value();
      Tape tape;
      const Autocast guard(DType::bf16);
      const Var o = attention(in.q, in.k, in.v, s, in.params).o;
      CHECK(o.dtype() == DType::bf16);
      CHECK(relative_l1(o.value(), want) < (m == AttentionMethod::sage ? 0.03 : 0.02));
      if (!o.requires_grad()) continue;
      tape.backward(o, Tensor::full(o.shape(), 1, DType::bf16));
      for (const Var* x : {&in.params.gate_c, &in.params.proj_weight})
        if (x->grad().defined()) CHECK(x->grad().dtype() == DType::f32);
    }
  }

  TEST_CASE("error of the low-bit forward: none without rounding, more with more of it") {
    const Inputs in(1, 2, 200, 200, 32, DType::f32);
    AttentionSpec s;
    s.block_q = 32, s.block_k = 16, s.topk_ratio = 0.3;
    for (const AttentionMethod m : {AttentionMethod::sla2, AttentionMethod::sla,
                                    AttentionMethod::vsa, AttentionMethod::sage}) {
      INFO(name(m));
      s.method = m, s.quant = {};
      const auto error = [&] {
        return attention_quant_error(in.q.value(), in.k.value(), in.v.value(), s, in.params);
      };
      if (m != AttentionMethod::sage) CHECK(error().rel_l1 == 0);
      s.quant.qk = LowBit::int8;
      const AttentionQuantError qk = error();
      s.quant.pv = LowBit::int8;
      const AttentionQuantError both = error();
      CHECK(qk.rel_l1 > 1e-3);
      CHECK(both.rel_l1 > qk.rel_l1);
      CHECK(both.rel_l1 < 0.05);
      CHECK(both.cosine < qk.cosine);
      CHECK(both.cosine > 0.999);
      CHECK((qk.q.low > 0 && qk.q.high > qk.q.low && qk.k.high > 0));
      CHECK(qk.v.high == 0);
      CHECK(both.v.high > both.v.low);
    }
  }

  TEST_CASE("top-k blocks: the best ones, ties to the lowest index, NaN last") {
    const int64_t n = 150;
    Tensor scores({3, n}, DType::f32);
    fill_normal(scores, RandomKey::derive(31, Purpose::test));
    float* const x = scores.mutable_data<float>();
    for (int64_t i = 0; i < n; ++i) x[n + i] = static_cast<float>(i % 5);  // ties
    for (int64_t i = 0; i < n; ++i)  // NaN, -inf and few numbers
      x[2 * n + i] = i % 3 == 0 ? NAN : i % 3 == 1 ? -INFINITY : i < 20 ? 1.0f : -INFINITY;
    for (const int64_t k : {1, 7, 32, 33, 149, 150}) {
      CAPTURE(k);
      const Tensor mask = attn::topk_blocks(scores, k, {});
      for (int64_t r = 0; r < 3; ++r) {
        std::vector<int64_t> order(static_cast<size_t>(n));
        std::iota(order.begin(), order.end(), int64_t{0});
        const auto rank = [&](int64_t i) {
          return std::isnan(x[r * n + i]) ? -INFINITY : x[r * n + i];
        };
        std::stable_sort(order.begin(), order.end(),
                         [&](int64_t a, int64_t b) { return rank(a) > rank(b); });
        for (int64_t i = 0; i < n; ++i)
          CHECK(mask.data<uint8_t>()[r * n + order[static_cast<size_t>(i)]] == (i < k ? 1 : 0));
      }
    }
  }
}
