// Attention: worked examples of the specification, gradients that the op table cannot difference,
// determinism, memory, dropout, low precision, errors.
#include <doctest/doctest.h>

#include <cmath>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/gradcheck.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/allocator.h"
#include "tenun/core/parallel.h"
#include "tenun/core/random.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/select.h"
#include "tenun/tests/attention_util.h"

using namespace tenun;
using namespace tenun::test;

TEST_SUITE("ops_attention") {
  TEST_CASE("the worked example of SoftTop-k") {
    const Var x = Var::parameter(Tensor::from<double>({0.3, -0.1, 0.5, 0.0, 0.2, -0.4}, {6}));
    Tape tape;
    const Var m = soft_topk(x, 1.5, 0.1);
    close(m.value(), {0.41114251, 0.01262658, 0.83763774, 0.03359375, 0.20436315, 0.00063627},
          1e-8);
    tape.backward(m, Tensor::from<double>({1, 2, -1, 0.5, 0, 3}, {6}));
    close(x.grad(), {1.80500424, 0.21762006, -1.70606415, 0.07971769, -0.41373595, 0.0174581},
          1e-7);
  }

  TEST_CASE("the worked example of SLA2, forward and all gradients") {
    const auto t = [](std::initializer_list<double> v, const Shape& s) {
      return Var::parameter(Tensor::from<double>(v, s));
    };
    const Var q = t({1, 0, 0, 1, 1, 1, -1, 1}, {1, 1, 4, 2}),
              k = t({1, 0.5, 0, -1, 0.5, 1, -0.5, 0}, {1, 1, 4, 2}),
              v = t({1, 2, 3, -1, 0, 1, -2, 0.5}, {1, 1, 4, 2}), alpha = t({0.5, -1}, {1, 2});
    AttentionParams p;
    p.router_q = Tensor::from<double>({2, 0, 0, 0.5}, {2, 2});
    p.alpha = alpha;
    AttentionSpec s = sla2_spec(RouterMode::hard);
    s.block_q = 2, s.block_k = 2, s.topk_ratio = 0.5;
    Tape tape;
    const AttentionOutput r = attention(q, k, v, s, p);
    close(r.mask, {1, 0, 0, 1}, 0);
    CHECK(r.stats.density == 0.5);
    close(r.lse, {1.1079403, 0.6508594, 1.2782819, 1.0467006}, 1e-7);
    close(r.o.value(),
          {0.6560387, 0.9113941, 0.5650910, 1.0478157, 1.3569232, 0.6081722, 1.1104337, 0.6913484},
          1e-7);
    tape.backward(r.o, Tensor::from<double>({1, 0, 0, 1, 1, -1, 0.5, 2}, {1, 1, 4, 2}));
    close(
        q.grad(),
        {-0.1947035, -0.2920553, 0.2522561, 0.3783842, 0.1441176, -0.0543634, 0.0170377, 0.1731326},
        1e-7);
    close(k.grad(),
          {-0.5916656, 0.6492182, 0.6115874, -0.6691399, -0.0131826, 0.1029369, 0.0131826,
           -0.1029369},
          1e-7);
    close(v.grad(),
          {0.9858788, 0.9106445, 0.7331684, 0.4428734, 0.4723502, 0.2413673, 0.3086026, 0.4051148},
          1e-7);
    close(alpha.grad(), {0.7376595, -0.8014508}, 1e-7);
  }

  TEST_CASE("soft SLA2: gradients of router, alpha and v by differences") {
    for (const LinearRange range : {LinearRange::complement, LinearRange::global}) {
      const Inputs in(1, 2, 21, 17, 8);
      AttentionSpec s = sla2_spec(RouterMode::soft);
      s.linear_range = range, s.prefix = range == LinearRange::global ? 0 : 3;
      GradcheckOptions o;
      o.constant = {true, true, false, false, false, false};
      const auto f = [&](std::span<const Var> x) {
        AttentionParams p;
        p.router_q = x[3], p.router_k = x[4], p.alpha = x[5];
        return std::vector<Var>{sla2_attention(x[0], x[1], x[2], s, p).o};
      };
      const GradcheckResult r =
          gradcheck(f,
                    {in.q.value(), in.k.value(), in.v.value(), in.params.router_q.value(),
                     in.params.router_k.value(), in.params.alpha.value()},
                    o);
      INFO(r.message);
      CHECK(r.ok);
    }
  }

  TEST_CASE("both branches under soft weights: gradients of q, k, v and the weights") {
    // Blocks that divide neither the tokens nor the 64 lanes of a panel.
    for (const auto& [nq, nk, bq, bk] :
         {std::tuple{21, 17, 8, 4}, std::tuple{70, 90, 48, 40}, std::tuple{5, 140, 3, 100}}) {
      const Inputs in(1, 1, nq, nk, 5);
      Tensor m({1, 1, attn::blocks(nq, bq), attn::blocks(nk, bk)}, DType::f64);
      fill_uniform(m, RandomKey::derive(3, Purpose::test), 0.1, 0.9);
      const auto f = [&, bq = bq, bk = bk](std::span<const Var> x) {
        const attn::FlashVars s =
            attn::flash(x[0], x[1], x[2], x[3], {.scale = 0.4, .block_q = bq, .block_k = bk});
        const Var l = attn::linear_complement(x[0], x[1], x[2], x[3],
                                              {.eps = 1e-5, .block_q = bq, .block_k = bk});
        return std::vector<Var>{s.o, s.lse, l, attn::smooth_tokens(x[1])};
      };
      GradcheckOptions o;
      o.most_elements = 16;
      const GradcheckResult r = gradcheck(f, {in.q.value(), in.k.value(), in.v.value(), m}, o);
      INFO(r.message);
      CHECK(r.ok);
    }
  }

  TEST_CASE("pixelgen_sla2 in soft mode differentiates the mask into q, k and the router") {
    const Inputs in(1, 2, 21, 21, 4);
    AttentionSpec s;
    s.topk_ratio = 0.3, s.compression = 4, s.mode = RouterMode::soft, s.tau = 0.3, s.iters = 8;
    const auto f = [&](std::span<const Var> x) {
      AttentionParams p;
      p.router_q = x[3], p.router_k = x[4], p.alpha = x[5], p.proj_l = x[6];
      return std::vector<Var>{pixelgen_sla2(x[0], x[1], x[2], s, p).o};
    };
    const GradcheckResult r = gradcheck(
        f, {in.q.value(), in.k.value(), in.v.value(), in.params.router_q.value(),
            in.params.router_k.value(), in.params.alpha.value(), in.params.proj_l.value()});
    INFO(r.message);
    CHECK(r.ok);
  }

  TEST_CASE("router loss: gradients of router and alpha, none of q, k, v") {
    const Inputs in(1, 2, 21, 21, 8);
    const AttentionSpec s = sla2_spec(RouterMode::soft);
    const auto f = [&](std::span<const Var> x) {
      AttentionParams p;
      p.router_q = x[0], p.router_k = x[1], p.alpha = x[2];
      return std::vector<Var>{sla2_router_loss(in.q, in.k, in.v, s, p)};
    };
    const GradcheckResult r = gradcheck(
        f, {in.params.router_q.value(), in.params.router_k.value(), in.params.alpha.value()});
    INFO(r.message);
    CHECK(r.ok);
    const Var q = Var::parameter(in.q.value());
    AttentionParams p = in.params;
    p.alpha = Var::parameter(p.alpha.value());
    Tape tape;
    tape.backward(sla2_router_loss(q, in.k, in.v, s, p));
    CHECK(!q.grad().defined());
    CHECK(p.alpha.grad().defined());
  }

  TEST_CASE("the same bits for 1, 2, 3 and 8 threads") {
    const auto everything = [](int64_t heads) {
      std::vector<std::vector<float>> all;
      Inputs in(1, heads, 300, 260, 24, DType::f32);
      for (Var* x : {&in.q, &in.k, &in.v, &in.params.alpha, &in.params.router_q})
        *x = Var::parameter(x->value());
      for (const RouterMode mode : {RouterMode::hard, RouterMode::soft}) {
        Tape tape;
        AttentionSpec s = sla2_spec(mode);
        s.block_q = 32, s.block_k = 16;
        const Var o = sla2_attention(in.q, in.k, in.v, s, in.params).o;
        const Var d = sdpa(in.q, in.k, in.v);
        all.push_back(o.value().values<float>()), all.push_back(d.value().values<float>());
        const std::vector<Var> wanted{in.q, in.k, in.v, in.params.alpha, in.params.router_q};
        const std::vector<Var> losses{o, d};
        const std::vector<Tensor> seeds{normal(o.shape(), 8, DType::f32),
                                        normal(o.shape(), 9, DType::f32)};
        for (const Tensor& g : tape.gradients(losses, wanted, Tape::Keep::no, seeds))
          if (g.defined()) all.push_back(g.values<float>());
      }
      return all;
    };
    for (const int64_t heads : {1, 3, 20}) {
      set_num_threads(1);
      const auto want = everything(heads);
      for (const int n : {2, 3, 8}) {
        set_num_threads(n);
        CHECK(everything(heads) == want);
      }
      set_num_threads(0);
    }
  }

  TEST_CASE("views with the heads inside the tokens are read in place, with the same bits") {
    const Tensor qkv = normal({2, 33, 3, 4, 16}, 1, DType::f32);  // (B, N, 3, H, D)
    const auto part = [&](int64_t i) { return qkv.select(2, i).permute({0, 2, 1, 3}); };
    const Tensor dy = normal({2, 4, 33, 16}, 2, DType::f32);
    std::vector<std::vector<float>> both[2];
    for (const int copied : {0, 1}) {
      std::vector<Var> x;
      for (int64_t i = 0; i < 3; ++i)
        x.push_back(Var::parameter(copied == 1 ? part(i).contiguous() : part(i)));
      Tape tape;
      const Var o = sdpa(x[0], x[1], x[2]);
      const Var l = linear_attention(x[0], x[1], x[2], {}, FeatureMap::softmax, 0, 64, 64);
      both[copied].push_back(o.value().values<float>());
      both[copied].push_back(l.value().values<float>());
      const std::vector<Var> losses{o, l};
      const std::vector<Tensor> seeds{dy, dy};
      for (const Tensor& g : tape.gradients(losses, x, Tape::Keep::no, seeds))
        both[copied].push_back(g.values<float>());
    }
    CHECK(both[0] == both[1]);
  }

  TEST_CASE("memory grows with N D, not with N x N") {
    const int64_t n = 4096, d = 16;
    const Var q = Var::parameter(normal({1, 1, n, d}, 1, DType::f32)),
              k = Var::parameter(normal({1, 1, n, d}, 2, DType::f32)),
              v = Var::parameter(normal({1, 1, n, d}, 3, DType::f32));
    const Tensor dy = normal({1, 1, n, d}, 4, DType::f32);
    const size_t before = memory_stats().live;
    allocator(DeviceType::cpu).reset_peak();
    Tape tape;
    tape.backward(sdpa(q, k, v), dy);
    const size_t used = memory_stats().peak - before;
    INFO(used, " bytes");
    CHECK(used < static_cast<size_t>(32 * n * d * 4));  // N x N would be 8 times that
  }

  TEST_CASE("dropout: a pure function of the key, unbiased, with exact gradients") {
    const Inputs in(1, 2, 70, 90, 8);
    const SdpaOptions o{.dropout = 0.3, .key = RandomKey::derive(5, Purpose::dropout)};
    const Tensor a = sdpa(in.q, in.k, in.v, o).value(), b = sdpa(in.q, in.k, in.v, o).value();
    CHECK(a.values<double>() == b.values<double>());
    // With v = 1 the output is the kept mass over 1 - p: 1 on average.
    const Var ones = Tensor::full(in.v.shape(), 1, DType::f64);
    double sum = 0;
    const auto y = sdpa(in.q, in.k, ones, o).value().values<double>();
    for (const double x : y) sum += x;
    CHECK(std::abs(sum / static_cast<double>(y.size()) - 1) < 0.03);
    const auto f = [&](std::span<const Var> x) {
      return std::vector<Var>{sdpa(x[0], x[1], x[2], o)};
    };
    GradcheckOptions few;
    few.most_elements = 16;
    const GradcheckResult r = gradcheck(f, {in.q.value(), in.k.value(), in.v.value()}, few);
    INFO(r.message);
    CHECK(r.ok);
  }

  TEST_CASE("bf16: the output keeps the type, errors stay at its rounding; alpha stays f32") {
    Inputs exact(1, 2, 100, 100, 32);
    AttentionSpec s = sla2_spec(RouterMode::hard);
    s.block_q = 32, s.block_k = 16;
    Inputs wide(1, 2, 100, 100, 32, DType::f32);
    wide.params.alpha = Var::parameter(wide.params.alpha.value());
    const Tensor want = sla2_attention(exact.q, exact.k, exact.v, s, exact.params).o.value();
    Tape tape;
    const Autocast guard(DType::bf16);
    const Var o = sla2_attention(wide.q, wide.k, wide.v, s, wide.params).o;
    CHECK(o.dtype() == DType::bf16);
    CHECK(relative_l1(o.value(), want) < 0.02);
    tape.backward(o, Tensor::full(o.shape(), 1, DType::bf16));
    CHECK(wide.params.alpha.grad().dtype() == DType::f32);
    CHECK(relative_l1(sdpa(wide.q, wide.k, wide.v).value(),
                      sdpa(exact.q, exact.k, exact.v).value()) < 0.02);
  }

  TEST_CASE("INT8 products stay within the measured error of the method") {
    const Inputs in(1, 2, 512, 512, 64, DType::f32);
    const Tensor want = sdpa(in.q, in.k, in.v).value();
    const Tensor qk =
        int8_attention(in.q, in.k, in.v, {}, 128, 64, {LowBit::int8, LowBit::none}).value();
    CHECK(cosine(qk, want) > 0.9999);
    CHECK(relative_l1(qk, want) < 0.016);
    CHECK(relative_l1(qk, want) > 0.005);  // it does round
    const Tensor both =
        int8_attention(in.q, in.k, in.v, {}, 128, 64, {LowBit::int8, LowBit::int8}).value();
    CHECK(cosine(both, want) > 0.9993);
    CHECK(relative_l1(both, want) < 0.035);
    CHECK(relative_l1(both, want) > relative_l1(qk, want));
  }

  TEST_CASE("attention() by data: every available method, statistics, names") {
    Inputs in(1, 2, 40, 40, 8, DType::f32);
    in.params.mask = Tensor::full({1, 2, 5, 10}, 1, DType::u8);
    in.params.gate_c = in.q;
    for (const AttentionMethod m : available_attention_methods()) {
      AttentionSpec s = sla2_spec(RouterMode::hard);
      s.method = m;
      const AttentionOutput r = attention(in.q, in.k, in.v, s, in.params);
      CHECK(r.o.shape() == in.q.shape());
      CHECK(r.o.value().all_finite());
      CHECK(from_name<AttentionMethod>(name(m)) == m);
    }
    AttentionSpec s = sla2_spec(RouterMode::hard);
    CHECK(std::abs(attention(in.q, in.k, in.v, s, in.params).stats.density - 0.4) < 1e-12);
    s.prefix = 1;  // one key block more in each row, and a full row: (4 * 5 + 10) / 50
    CHECK(std::abs(attention(in.q, in.k, in.v, s, in.params).stats.density - 0.6) < 1e-12);
    s.mode = RouterMode::soft, s.aux = true;
    CHECK(attention(in.q, in.k, in.v, s, in.params).aux_loss.defined());
    CHECK(attn::selected_count(0.58, 50) == 29);  // 0.58 * 50 is 28.999999999999996
    CHECK(attn::selected_count(0.03, 5) == 1);
    CHECK(attn::selected_count(1.0, 7) == 7);
  }

  TEST_CASE("errors say what is wrong") {
    const Inputs in(1, 2, 8, 8, 4);
    AttentionSpec s = sla2_spec(RouterMode::hard);
    CHECK_THROWS_AS((void)attention(in.q, in.k, in.v, s), ValueError);  // no alpha
    s.topk_ratio = 1.5;
    CHECK_THROWS_AS((void)attention(in.q, in.k, in.v, s, in.params), ValueError);
    s = sla2_spec(RouterMode::soft);
    s.quant.qk = LowBit::int8;
    CHECK_THROWS_AS((void)attention(in.q, in.k, in.v, s, in.params), ValueError);
    s = AttentionSpec();
    s.method = AttentionMethod::sla;
    CHECK_THROWS_AS((void)attention(in.q, in.k, in.v, s), ValueError);  // no projection
    const Inputs cross(1, 2, 8, 9, 4);
    for (const AttentionMethod m : {AttentionMethod::vsa, AttentionMethod::vmoba,
                                    AttentionMethod::llsa, AttentionMethod::window}) {
      s.method = m;
      CHECK_THROWS_AS((void)attention(cross.q, cross.k, cross.v, s), ShapeError);
    }
    s.method = AttentionMethod::vmoba, s.selector = Selector::random;
    CHECK_THROWS_WITH_AS((void)attention(in.q, in.k, in.v, s),
                         "vmoba_attention: takes the selectors topk and threshold, not random",
                         ValueError);
    s.method = AttentionMethod::sparse, s.selector = Selector::threshold;
    CHECK_THROWS_AS((void)attention(in.q, in.k, in.v, s), ValueError);
    s.method = AttentionMethod::llsa, s.levels = 0;
    CHECK_THROWS_AS((void)attention(in.q, in.k, in.v, s), ValueError);
    CHECK_THROWS_WITH_AS((void)from_name<FeatureMap>("cosine"),
                         "feature map: 'cosine' is none of softmax, elu, relu", ValueError);
    CHECK_THROWS_AS((void)sdpa(in.q, normal({1, 2, 8, 5}, 1), in.v), ShapeError);
    CHECK_THROWS_AS((void)sdpa(in.q, in.k, Tensor::zeros({1, 2, 8, 4}, DType::i64)), DTypeError);
    CHECK_THROWS_AS((void)sdpa(in.q, in.k, in.v, {.dropout = 1.0}), ValueError);
    CHECK_THROWS_AS((void)block_sparse_attention(in.q, in.k, in.v,
                                                 Tensor::zeros({1, 2, 2, 3}, DType::u8), 4, 4),
                    ShapeError);
    CHECK_THROWS_AS((void)int8_attention(in.q, in.k, in.v, {}, 0, 4, {}), ValueError);
    CHECK_THROWS_AS((void)soft_topk(Var(), 1.0, 0.1), ShapeError);
  }
}
