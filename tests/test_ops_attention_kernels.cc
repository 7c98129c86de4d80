// The attention kernels against each other: fused ops and their compositions, low precision and
// f64, in place and copied, one thread and many; at sizes that divide neither blocks nor panels.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "tenun/autograd/tape.h"
#include "tenun/core/parallel.h"
#include "tenun/core/random.h"
#include "tenun/ops/attention/flash_detail.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/parts.h"
#include "tenun/ops/attention/sparse_linear.h"

using namespace tenun;

namespace {

Tensor normal(const Shape& shape, uint64_t i, DType dtype) {
  Tensor t(shape, DType::f64);
  fill_normal(t, RandomKey::derive(17, Purpose::test, i));
  return t.to(dtype);
}

double relative_l1(const Tensor& a, const Tensor& b) {
  const auto x = a.values<double>(), y = b.values<double>();
  REQUIRE(x.size() == y.size());
  double error = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) error += std::abs(x[i] - y[i]), size += std::abs(y[i]);
  return size > 0 ? error / size : error;
}

// About `share` of the blocks; query block 0 gets all of them, block 1 none if `empty`.
Tensor random_mask(const Shape& shape, double share, bool empty) {
  Tensor u(shape, DType::f64), m(shape, DType::u8);
  fill_uniform(u, RandomKey::derive(23, Purpose::test));
  const auto v = u.values<double>();
  uint8_t* const out = m.mutable_data<uint8_t>();
  const int64_t tm = shape[2], tn = shape[3];
  for (size_t i = 0; i < v.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / tn % tm;
    out[i] = row == 0 ? 1 : row == 1 && empty ? 0 : v[i] < share ? 1 : 0;
  }
  return m;
}

struct Sizes {
  int64_t h, nq, nk, bq, bk, d;
  double share;
};
// Odd everything; panels of several blocks; one block of each; few of many blocks (the state of the
// complement is then the total minus the listed ones).
const Sizes kSizes[] = {{2, 37, 53, 8, 4, 5, 0.4},
                        {1, 150, 200, 72, 24, 16, 0.5},
                        {3, 50, 60, 128, 64, 8, 1.0},
                        {1, 100, 640, 16, 16, 24, 0.1}};

struct Run {
  Tensor o, dq, dk, dv, dalpha;
};
template <class F>
Run run(const Sizes& s, DType dtype, const Shape& alpha_shape, F&& f) {
  const Var q = Var::parameter(normal({1, s.h, s.nq, s.d}, 1, dtype)),
            k = Var::parameter(normal({1, s.h, s.nk, s.d}, 2, dtype)),
            v = Var::parameter(normal({1, s.h, s.nk, s.d}, 3, dtype)),
            alpha = Var::parameter(normal(alpha_shape, 4, dtype));
  Tape tape;
  const Var o = f(q, k, v, alpha);
  tape.backward(o, normal(o.shape(), 5, dtype));
  return {o.value(), q.grad(), k.grad(), v.grad(), alpha.grad()};
}

void compare(const Run& a, const Run& b, double tolerance) {
  CHECK(relative_l1(a.o, b.o) <= tolerance);
  CHECK(relative_l1(a.dq, b.dq) <= tolerance);
  CHECK(relative_l1(a.dk, b.dk) <= tolerance);
  CHECK(relative_l1(a.dv, b.dv) <= tolerance);
  CHECK(relative_l1(a.dalpha, b.dalpha) <= tolerance);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.dtype() == y.dtype() && x.shape() == y.shape() &&
         x.values<double>() == y.values<double>();
}

}  // namespace

TEST_SUITE("ops_attention_kernels") {
  TEST_CASE("the fused sparse and linear branches equal their composition") {
    for (const Sizes& s : kSizes)
      for (const bool complement : {true, false})
        for (const FeatureMap map : {FeatureMap::softmax, FeatureMap::elu, FeatureMap::relu}) {
          const int64_t tm = attn::blocks(s.nq, s.bq), tn = attn::blocks(s.nk, s.bk);
          const Tensor mask = random_mask({1, s.h, tm, tn}, s.share, tm > 2);
          attn::FlashArgs args{.scale = 0.6};
          args.block_q = s.bq, args.block_k = s.bk;
          const attn::LinearArgs linear{.feature_map = map,
                                        .eps = map == FeatureMap::softmax ? 0.01 : 0.0,
                                        .block_q = s.bq,
                                        .block_k = s.bk,
                                        .weight = {}};
          const auto fused = [&](const Var& q, const Var& k, const Var& v, const Var& alpha) {
            return attn::sparse_linear(q, k, v, alpha, args, linear,
                                       attn::block_lists(mask, s.bq, s.bk), complement)
                .o;
          };
          const auto composed = [&](const Var& q, const Var& k, const Var& v, const Var& alpha) {
            const Var exact = attn::flash(q, k, v, {}, args, attn::block_lists(mask, s.bq, s.bk)).o;
            const Var rest = attn::linear_complement(
                q, k, v, complement ? Var(mask.to(q.dtype())) : Var(), linear);
            return attn::mix(exact, rest, alpha, mask, s.bq);
          };
          CAPTURE(s.nk);
          CAPTURE(complement);
          CAPTURE(static_cast<int>(map));
          const Shape per_head{s.h}, per_block{s.h, tm};
          compare(run(s, DType::f64, per_block, fused), run(s, DType::f64, per_block, composed),
                  1e-11);
          compare(run(s, DType::f32, per_head, fused), run(s, DType::f64, per_head, composed),
                  map == FeatureMap::relu ? 1e-4 : 2e-5);
          compare(run(s, DType::bf16, per_head, fused), run(s, DType::f64, per_head, composed),
                  map == FeatureMap::relu ? 0.1 : 0.04);
        }
  }

  TEST_CASE("low-bit forwards in 8-bit arithmetic follow the definition that f64 holds exactly") {
    for (const Sizes& s : kSizes)
      for (const attn::Quant quant :
           {attn::Quant{LowBit::int8, LowBit::none}, attn::Quant{LowBit::none, LowBit::int8},
            attn::Quant{LowBit::int8, LowBit::int8}, attn::Quant{LowBit::none, LowBit::fp8},
            attn::Quant{LowBit::int8, LowBit::fp8}}) {
        CAPTURE(s.nk);
        CAPTURE(static_cast<int>(quant.qk));
        CAPTURE(static_cast<int>(quant.pv));
        const int64_t tm = attn::blocks(s.nq, s.bq), tn = attn::blocks(s.nk, s.bk);
        const Tensor mask = random_mask({1, s.h, tm, tn}, s.share, tm > 2);
        const auto forward = [&](DType type) {
          // The numbers of f32, so that both round the same ones.
          const auto in = [&](int64_t n, uint64_t i) {
            return Var(normal({1, s.h, n, s.d}, i, DType::f32).to(type));
          };
          return int8_attention(in(s.nq, 1), in(s.nk, 2), in(s.nk, 3), mask, s.bq, s.bk, quant)
              .value();
        };
        CHECK(relative_l1(forward(DType::f32), forward(DType::f64)) <= 1e-3);
      }
  }

  TEST_CASE("the linear branch in bf16 at every head size") {
    for (const int64_t d : {8, 24, 64, 72, 80, 128, 200, 256}) {
      CAPTURE(d);
      const auto branch = [&](DType type) {
        // The numbers of bf16, so that only the arithmetic differs.
        const auto in = [&](uint64_t i) {
          return Var(normal({1, 2, 70, d}, i, DType::bf16).to(type));
        };
        return linear_attention(in(1), in(2), in(3), {}, FeatureMap::softmax, 0, 8, 16).value();
      };
      CHECK(relative_l1(branch(DType::bf16), branch(DType::f64)) <= 0.01);
    }
  }

  TEST_CASE("scores of any scale, 0 and negative ones too, where keys do not fill a group") {
    const auto in = [](int64_t n, uint64_t i, DType type) {
      return Var(normal({1, 2, n, 16}, i, DType::bf16).to(type));
    };
    for (const double scale : {0.0, -1.0, -0.1, 2.0})
      for (const int64_t n : {1, 7, 66, 200}) {
        CAPTURE(scale);
        CAPTURE(n);
        const auto dense = [&](DType t) {
          return sdpa(in(n, 1, t), in(n, 2, t), in(n, 3, t), {.scale = scale}).value();
        };
        CHECK(relative_l1(dense(DType::bf16), dense(DType::f64)) <= 0.01);
        CHECK(relative_l1(dense(DType::f32), dense(DType::f64)) <= 1e-5);
      }
    // All-zero queries: every low-bit form gives the mean of v.
    for (const DType type : {DType::f32, DType::bf16})
      for (const LowBit pv : {LowBit::none, LowBit::int8, LowBit::fp8}) {
        CAPTURE(static_cast<int>(pv));
        const auto mean = [&](DType t) {
          return int8_attention(Var(Tensor::zeros({1, 2, 7, 16}, t)), in(7, 2, t), in(7, 3, t), {},
                                8, 8, {LowBit::int8, pv})
              .value();
        };
        CHECK(relative_l1(mean(type), mean(DType::f64)) <= 0.01);
      }
  }

  TEST_CASE("the linear branch keeps NaN") {
    for (const FeatureMap map : {FeatureMap::softmax, FeatureMap::elu, FeatureMap::relu})
      for (const bool in_q : {true, false}) {
        Tensor q = normal({1, 1, 8, 16}, 1, DType::f32), k = normal({1, 1, 8, 16}, 2, DType::f32);
        (in_q ? q : k).mutable_data<float>()[0] = std::nanf("");
        const auto o = linear_attention(q, k, k, {}, map, 0, 8, 8).value().values<float>();
        CHECK(std::isnan(o[0]));
      }
  }

  TEST_CASE("FP8 E4M3: what it can hold") {
    for (const auto& [x, y] :
         std::initializer_list<std::pair<double, double>>{{0, 0},
                                                          {448, 448},
                                                          {1000, 448},
                                                          {-1000, -448},
                                                          {17, 16},
                                                          {19, 20},
                                                          {-18, -18},
                                                          {0.0009765625, 0},
                                                          {0.0029296875, 0.00390625},
                                                          {0.013671875, 0.013671875},
                                                          {1.0625, 1},
                                                          {1.1875, 1.25}}) {
      CAPTURE(x);
      CHECK(attn::e4m3(x) == y);
      CHECK(attn::e4m3(static_cast<float>(x)) == static_cast<float>(y));
    }
  }

  TEST_CASE("bf16 is read in place wherever whole pairs allow it, with the same bits as copies") {
    // (B, N, 3, H, D), as a projection writes it; block sizes with and without whole pairs.
    const int64_t h = 2, n = 150, d = 16;
    const Tensor qkv = normal({1, n, 3, h, d}, 1, DType::bf16);
    const auto part = [&](int64_t i) { return qkv.select(2, i).transpose(1, 2); };
    for (const int64_t bk : {24, 25}) {
      const Tensor mask = random_mask({1, h, attn::blocks(n, 64), attn::blocks(n, bk)}, 0.5, false);
      const auto lists = attn::block_lists(mask, 64, bk);
      attn::FlashArgs args{.scale = 0.3};
      args.lists = &lists;
      const attn::FlashResult a = attn::flash_forward(part(0), part(1), part(2), args);
      const attn::FlashResult b = attn::flash_forward(part(0).contiguous(), part(1).contiguous(),
                                                      part(2).contiguous(), args);
      CHECK(same_bits(a.o, b.o));
      CHECK(same_bits(a.lse, b.lse));
      const attn::FlashResult exact = attn::flash_forward(
          part(0).to(DType::f64), part(1).to(DType::f64), part(2).to(DType::f64), args);
      CHECK(relative_l1(a.o, exact.o) <= 0.01);
      CHECK(relative_l1(a.lse, exact.lse) <= 1e-3);
    }
  }

  TEST_CASE("the same bits for any number of threads") {
    const int before = num_threads();
    for (const int64_t heads : {1, 3})
      for (const DType type : {DType::f32, DType::f64, DType::bf16})
        for (const bool low : {false, true}) {
          AttentionSpec s;
          s.method = AttentionMethod::sla2;
          s.block_q = 48, s.block_k = 32, s.topk_ratio = 0.3;
          if (low) s.quant = {LowBit::int8, LowBit::int8};
          std::vector<Run> runs;
          for (const int threads : {1, 2, 3, 8}) {
            set_num_threads(threads);
            runs.push_back(run({heads, 500, 700, 48, 32, 16, 0}, type, {heads},
                               [&](const Var& q, const Var& k, const Var& v, const Var& alpha) {
                                 AttentionParams p;
                                 p.alpha = alpha;
                                 return sla2_attention(q, k, v, s, p).o;
                               }));
            CHECK(same_bits(runs.back().o, runs[0].o));
            CHECK(same_bits(runs.back().dq, runs[0].dq));
            CHECK(same_bits(runs.back().dk, runs[0].dk));
            CHECK(same_bits(runs.back().dv, runs[0].dv));
            CHECK(same_bits(runs.back().dalpha, runs[0].dalpha));
          }
        }
    set_num_threads(before);
  }

  TEST_CASE("both branches in one kernel, or one after the other") {
    for (const Sizes& s : kSizes)
      for (const DType type : {DType::f32, DType::f64, DType::bf16})
        for (const bool low : {false, true}) {
          CAPTURE(s.nk);
          CAPTURE(static_cast<int>(type));
          const Tensor q = normal({2, s.h, s.nq, s.d}, 1, type),
                       k = normal({2, s.h, s.nk, s.d}, 2, type),
                       v = normal({2, s.h, s.nk, s.d}, 3, type);
          const int64_t tm = attn::blocks(s.nq, s.bq), tn = attn::blocks(s.nk, s.bk);
          const auto lists =
              attn::block_lists(random_mask({2, s.h, tm, tn}, s.share, tm > 2), s.bq, s.bk);
          const DType wide = type == DType::f64 ? DType::f64 : DType::f32;
          const DType out = low ? wide : type;
          attn::FlashArgs args{.scale = 0.3};
          args.lists = &lists;
          if (low) args.quant = {LowBit::int8, LowBit::int8};
          attn::LinearArgs linear{.eps = 0.01, .block_q = s.bq, .block_k = s.bk};
          linear.lists = &lists;
          linear.gate = Tensor({2, s.h, tm}, wide);
          for (int64_t i = 0; i < linear.gate.numel(); ++i) {  // shut and open ones, too
            const double g = i % 4 == 0 ? 0 : i % 4 == 1 ? 1 : 0.3;
            if (wide == DType::f64)
              linear.gate.mutable_data<double>()[i] = g;
            else
              linear.gate.mutable_data<float>()[i] = static_cast<float>(g);
          }
          Tensor o(q.shape(), out), exact(q.shape(), out), lse({2, s.h, s.nq}, wide);
          Tensor o2(q.shape(), out), lse2({2, s.h, s.nq}, wide);
          attn::kernel::sparse_linear_forward(cpu(), o, exact, lse, q, k, v, args, linear);
          attn::kernel::flash_forward(cpu(), o2, lse2, q, k, v, args);
          // The mean of the keys is summed in another order, and an integer may then flip.
          if (low) CHECK(relative_l1(exact, o2) <= 1e-3);
          if (!low) CHECK(same_bits(exact, o2));
          if (!low) CHECK(same_bits(lse, lse2));
          attn::kernel::linear_forward(cpu(), o2, q, k, v, linear);
          CHECK(relative_l1(o, o2) <= (type == DType::f64           ? 1e-13
                                       : low || type == DType::bf16 ? 6e-3
                                                                    : 2e-6));
        }
  }

  TEST_CASE("recording the forward pass does not change its bits") {
    for (const DType type : {DType::f32, DType::f64, DType::bf16})
      for (const bool low : {false, true}) {
        AttentionSpec s;
        s.method = AttentionMethod::sla2;
        s.block_q = 48, s.block_k = 32, s.topk_ratio = 0.3;
        if (low) s.quant = {LowBit::int8, LowBit::int8};
        AttentionParams p;
        p.alpha = normal({2}, 4, type);
        const auto forward = [&] {
          const auto in = [&](uint64_t i) {
            return Var::parameter(normal({1, 2, 500, 24}, i, type));
          };
          return sla2_attention(in(1), in(2), in(3), s, p).o.value();
        };
        const Tensor recorded = [&] {
          const Tape tape;
          return forward();
        }();
        const NoGrad constant;
        CHECK(same_bits(forward(), recorded));
      }
  }

  TEST_CASE("scores that are spread widely, and rows without keys") {
    // Standard deviation of about 40 in base 2: the running maximum moves often.
    for (const DType type : {DType::f32, DType::bf16}) {
      const Tensor q = normal({1, 1, 70, 32}, 1, type), k = normal({1, 1, 300, 32}, 2, type),
                   v = normal({1, 1, 300, 32}, 3, type);
      const attn::FlashArgs args{.scale = 5.0};
      const attn::FlashResult a = attn::flash_forward(q, k, v, args),
                              b = attn::flash_forward(q.to(DType::f64), k.to(DType::f64),
                                                      v.to(DType::f64), args);
      CHECK(relative_l1(a.o, b.o) <= (type == DType::f32 ? 1e-4 : 0.01));
      CHECK(relative_l1(a.lse, b.lse) <= 1e-5);
    }
    const Tensor x = normal({1, 1, 8, 8}, 4, DType::bf16);
    const auto none = attn::block_lists(Tensor::zeros({1, 1, 2, 2}, DType::u8), 4, 4);
    attn::FlashArgs args{.scale = 1.0};
    args.lists = &none;
    const attn::FlashResult r = attn::flash_forward(x, x, x, args);
    for (const double o : r.o.values<double>()) CHECK(o == 0);
    for (const double l : r.lse.values<double>()) CHECK(l == -INFINITY);
  }
}
