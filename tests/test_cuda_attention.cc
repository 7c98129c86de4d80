// The attention kernels of the GPU, or of the emulated device, against the CPU in f64: tensor-core
// kernels (bf16, f16, f32) and the plain ones (f64), at odd sizes, over lists with empty and full
// rows, in blocks that are no multiples of a tile; every schedule and poison must give equal bits.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tenun/core/random.h"
#include "tenun/init.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/linear.h"
#include "tenun/tests/attention_util.h"
#include "tenun/tests/emulated_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

struct Case {
  const char* name;
  int64_t b, h, nq, nk, d, block_q, block_k;
  double spread = 1.5, offset = 0;  ///< of q and k
  bool lists = true;
};
// Blocks of 0 stand for "no lists".
const Case kCases[] = {
    {"tiles of the lists", 1, 2, 200, 333, 64, 128, 64},
    {"d 128", 2, 1, 150, 130, 128, 128, 64},
    {"blocks of 64", 1, 1, 190, 321, 64, 64, 64},
    {"small blocks", 1, 2, 70, 90, 32, 16, 8},
    {"odd blocks, d 72", 1, 1, 101, 77, 72, 48, 40},
    {"d 8", 1, 1, 33, 65, 8, 32, 16},
    {"blocks of several tiles", 1, 1, 420, 230, 64, 200, 100},
    {"d 37", 1, 2, 70, 90, 37, 64, 32},
    {"d 100", 1, 1, 129, 66, 100, 0, 0},
    {"very negative scores", 1, 1, 100, 70, 64, 128, 64, 1.5, 4},
    {"all keys", 1, 2, 131, 67, 64, 0, 0},
    {"one query", 1, 1, 1, 129, 64, 0, 0},
};

struct Data {
  Tensor q, k, v, dy, mask;
};
// In a layout (B, N, H, D), as models have it; values that `type` can hold.
Data data(const Case& c, DType type) {
  const auto make = [&](int64_t n, uint64_t seed, double spread, double offset) {
    return normal({c.b, n, c.h, c.d}, seed, DType::f64, spread, offset)
        .to(type)
        .permute({0, 2, 1, 3});
  };
  // q and k of opposite offsets: scores far below 0, where a key that is not there would win.
  Data x{make(c.nq, 1, c.spread, c.offset),
         make(c.nk, 2, c.spread, -c.offset),
         make(c.nk, 3, 1, 0),
         make(c.nq, 4, 1, 0),
         {}};
  if (c.block_q == 0) return x;
  const int64_t tm = attn::blocks(c.nq, c.block_q), tn = attn::blocks(c.nk, c.block_k);
  x.mask = Tensor({c.b, c.h, tm, tn}, DType::u8);
  const RandomKey key = RandomKey::derive(12, Purpose::test);
  for (int64_t i = 0; i < x.mask.numel(); ++i) {
    const int64_t row = i / tn;  // rows of every kind: empty, full, some
    x.mask.mutable_data<uint8_t>()[i] = row % 4 == 3 ? 0
                                        : row % 4 == 2
                                            ? 1
                                            : key.below(static_cast<uint64_t>(i), 2) == 0;
  }
  return x;
}

// Every odd token is the negative of the one before: a mean of 0, so that smoothing changes
// nothing, and 16 bits hold the smoothed keys, too.
Tensor without_mean(const Tensor& k) {
  Tensor out = k.contiguous();
  auto even = out.slice(2, 0, k.dim(2), 2).values<double>();
  for (double& v : even) v = -v;
  Tensor odd = out.slice(2, 1, k.dim(2), 2);
  odd.copy_(Tensor::from(even, odd.shape()));
  return out;
}

struct Results {
  Tensor o, lse, dq, dk, dv;
};
Results flash(const Data& x, const Case& c, Device where, DType type, attn::FlashArgs args = {}) {
  const auto at = [&](const Tensor& t) { return t.to(where).to(type); };
  const Tensor q = at(x.q), k = at(x.k), v = at(x.v), dy = at(x.dy);
  if (args.scale == 1) args.scale = 1 / std::sqrt(static_cast<double>(c.d));
  attn::BlockLists lists;
  if (x.mask.defined()) {
    lists = attn::block_lists(x.mask.to(where), c.block_q, c.block_k);
    args.lists = &lists;
  }
  attn::FlashResult r = attn::flash_forward(q, k, v, args);
  const DType wide = type == DType::f64 ? DType::f64 : DType::f32;
  const auto room = [&](const Tensor& t) { return Tensor(t.shape(), wide, where); };
  attn::FlashGrads g{room(q), room(k), room(v), {}};
  attn::kernel::flash_backward(where, g, dy, q, k, v, r.lse, attn::row_dot(dy, r.o), args);
  return {r.o, r.lse, g.dq, g.dk, g.dv};
}

struct Bound {
  DType type;
  double o, lse, gradient;
};
// 16 bits: what the rounding of P and dS costs (measured in bf16: at most 1.8e-3 of o, 4e-3 of a
// gradient); scores far below 0 lose more in dq, since the rows of the rounded dS no longer sum
// to 0.
constexpr Bound kBounds[] = {{DType::bf16, 3e-3, 1e-5, 6e-3},
                             {DType::f16, 6e-4, 1e-5, 1e-3},
                             {DType::f32, 2e-6, 2e-6, 4e-6},
                             {DType::f64, 1e-14, 1e-14, 1e-13}};

}  // namespace

TEST_SUITE("cuda_attention") {
  TEST_CASE("flash forward and backward agree with f64") {
    init();
    for (const Case& c : kCases)
      for (const Bound& bound : kBounds) {
        CAPTURE(std::string(c.name) + " " + name(bound.type));
        const Data x = data(c, bound.type);
        const Results want = flash(x, c, cpu(), DType::f64), got = flash(x, c, gpu(), bound.type);
        const double more = c.offset != 0 ? 8 : 1;
        CHECK(relative_l1(got.o, want.o) <= bound.o * more);
        CHECK(relative_l1(got.lse, want.lse) <= bound.lse);
        CHECK(relative_l1(got.dq, want.dq) <= bound.gradient * more);
        CHECK(relative_l1(got.dk, want.dk) <= bound.gradient * more);
        CHECK(relative_l1(got.dv, want.dv) <= bound.gradient * more);
      }
  }

  TEST_CASE("every schedule and poison gives the same bits") {
    init();
    for (const Case& c : kCases)
      for (const DType type : {DType::bf16, DType::f32}) {
        CAPTURE(std::string(c.name) + " " + name(type));
        const Data x = data(c, type);
        const Results want = flash(x, c, gpu(), type);
        for (const Settings& s : schedules()) {
          const With with(s);
          const Results got = flash(x, c, gpu(), type);
          CHECK(equal_bits(got.o, want.o));
          CHECK(equal_bits(got.lse, want.lse));
          CHECK(equal_bits(got.dq, want.dq));
          CHECK(equal_bits(got.dk, want.dk));
          CHECK(equal_bits(got.dv, want.dv));
        }
      }
  }

  TEST_CASE("soft weights, dropout, low bits in f64 and f32") {
    init();
    const Case c{"", 1, 2, 50, 70, 24, 0, 0};
    for (const auto& [type, bound] : {std::pair{DType::f64, 1e-12}, {DType::f32, 2e-5}}) {
      const Data x = data(c, type);
      attn::FlashArgs soft;
      soft.block_q = 16, soft.block_k = 32;
      Tensor weight = Tensor({1, 2, 4, 3}, type);
      fill_uniform(weight, RandomKey::derive(5, Purpose::test), 0, 1);
      soft.weight = weight;
      attn::FlashArgs dropped;
      dropped.dropout = 0.3, dropped.key = RandomKey::derive(6, Purpose::test);
      attn::FlashArgs low;
      low.block_q = 16, low.block_k = 32, low.quant = {attn::LowBit::int8, attn::LowBit::int8};
      attn::FlashArgs fp8 = low;
      fp8.quant = {attn::LowBit::none, attn::LowBit::fp8};
      for (const attn::FlashArgs& args : {soft, dropped, low, fp8}) {
        attn::FlashArgs there = args;
        if (args.weight.defined()) there.weight = args.weight.to(gpu());
        const Results want = flash(x, c, cpu(), type, args), got = flash(x, c, gpu(), type, there);
        // Rounding to low bits may fall to the other side of a half.
        const double more = args.quant.any() && type == DType::f32 ? 100 : 1;
        CHECK(relative_l1(got.o, want.o) <= bound * more);
        CHECK(relative_l1(got.lse, want.lse) <= bound * more);
        CHECK(relative_l1(got.dq, want.dq) <= bound * more);
        CHECK(relative_l1(got.dk, want.dk) <= bound * more);
        CHECK(relative_l1(got.dv, want.dv) <= bound * more);
      }
    }
  }

  TEST_CASE("low-bit products on the tensor cores") {
    init();
    using attn::LowBit;
    // Blocks that are no multiples of a tile of 64, of several tiles, and without lists.
    struct LowCase : Case {
      int64_t unit_q = 0, unit_k = 0;
    };
    for (const LowCase& c : {LowCase{{"d 64", 1, 2, 200, 334, 64, 128, 64}},
                             {{"d 128", 1, 1, 150, 330, 128, 128, 128}},
                             {{"d 48, blocks of 64", 2, 1, 70, 70, 48, 64, 64}},
                             {{"d 72, odd blocks", 1, 1, 101, 178, 72, 48, 100}},
                             {{"d 37, small blocks", 1, 2, 40, 70, 37, 16, 8}},
                             {{"d 128, all keys", 1, 1, 70, 134, 128, 0, 0}, 128, 70},
                             {{"d 64, all keys", 1, 1, 131, 66, 64, 0, 0}, 48, 64}})
      for (const auto& [type, bound] :
           {std::pair{DType::bf16, 4e-3}, {DType::f16, 8e-4}, {DType::f32, 8e-5}})
        for (const auto& [qk, pv] : {std::pair{LowBit::int8, LowBit::none},
                                     {LowBit::int8, LowBit::int8},
                                     {LowBit::int8, LowBit::fp8},
                                     {LowBit::none, LowBit::int8},
                                     {LowBit::none, LowBit::fp8}}) {
          CAPTURE(std::string(c.name) + " " + name(type));
          CAPTURE(static_cast<int>(qk));
          CAPTURE(static_cast<int>(pv));
          attn::FlashArgs args;
          args.quant = {qk, pv};
          args.block_q = c.unit_q, args.block_k = c.unit_k;
          Data x = data(c, type);
          if (qk == LowBit::none) x.k = without_mean(x.k);
          const Results want = flash(x, c, cpu(), DType::f64, args),
                        got = flash(x, c, gpu(), type, args);
          CHECK(relative_l1(got.o, want.o) <= bound);
          // The units are f32 here: a value may fall to the other side of a half.
          CHECK(relative_l1(got.lse, want.lse) <= 1e-4);
          if (type == DType::f32) continue;  // the same kernels; three products for one take long
          for (const Settings& s : schedules()) {
            const With with(s);
            CHECK(equal_bits(flash(x, c, gpu(), type, args).o, got.o));
          }
        }
  }

  // A unit of 0, where keys are missing in the tile; the second and the last are all of a block.
  TEST_CASE("low-bit products of a block of zeros") {
    struct Zeros : Case {
      int64_t block;
      bool queries;
    };
    for (const Zeros& c : {Zeros{{"one key: k less its mean is 0", 1, 1, 70, 1, 64, 0, 0}, 0, true},
                           {{"all queries", 1, 1, 40, 70, 64, 0, 0}, 0, true},
                           {{"a block of queries", 1, 1, 130, 70, 128, 128, 64}, 128, true},
                           {{"a short block of keys", 1, 1, 70, 70, 64, 64, 64}, 64, false}})
      for (const attn::LowBit pv : {attn::LowBit::none, attn::LowBit::int8, attn::LowBit::fp8}) {
        CAPTURE(std::string(c.name));
        CAPTURE(static_cast<int>(pv));
        Data x = data(c, DType::bf16);
        const Tensor& zeros = c.queries ? x.q : x.k;
        zeros.slice(2, c.queries ? 0 : c.block, c.queries && c.block > 0 ? c.block : zeros.dim(2))
            .fill_(0);
        attn::FlashArgs args;
        args.quant = {attn::LowBit::int8, pv};
        args.block_q = args.block_k = 64;
        const Results want = flash(x, c, cpu(), DType::f64, args),
                      got = flash(x, c, gpu(), DType::bf16, args);
        CHECK(relative_l1(got.o, want.o) <= 4e-3);
        // Of a single key it is 0; a number at a half may be rounded to the other side.
        const auto a = got.lse.values<double>(), b = want.lse.values<double>();
        for (size_t n = 0; n < a.size(); ++n)  // of an empty row -inf
          CHECK((a[n] == b[n] || std::abs(a[n] - b[n]) <= 1e-2));
      }
  }

  TEST_CASE("more heads than a grid has rows are refused") {
    const Tensor x = Tensor::zeros({1, 65536, 1, 8}, DType::bf16, gpu());
    CHECK_THROWS_WITH_AS(attn::flash_forward(x, x, x, {.scale = 1}),
                         doctest::Contains("B H = 65536 is more than 65535"), ValueError);
    CHECK_THROWS_WITH_AS(attn::linear_forward(x, x, x, {}),
                         doctest::Contains("B H = 65536 is more than 65535"), ValueError);
  }

  TEST_CASE("a NaN or an infinity comes through low-bit products as on the CPU") {
    init();
    const Case c{"", 1, 1, 70, 66, 64, 64, 64};
    for (const double odd : {static_cast<double>(NAN), HUGE_VAL})
      for (const int which : {0, 1, 2})
        for (const attn::LowBit pv : {attn::LowBit::int8, attn::LowBit::fp8}) {
          attn::FlashArgs args;
          args.quant = {attn::LowBit::int8, pv};
          Data x = data(c, DType::bf16);
          (which == 0 ? x.q : which == 1 ? x.k : x.v).slice(2, 3, 4).slice(3, 5, 6).fill_(odd);
          const auto want = flash(x, c, cpu(), DType::f64, args).o.values<double>(),
                     got = flash(x, c, gpu(), DType::bf16, args).o.values<double>();
          int apart = 0;
          for (size_t i = 0; i < want.size(); ++i)
            apart += std::isfinite(want[i]) != std::isfinite(got[i]);
          CAPTURE(which);
          CHECK(apart == 0);
        }
  }

  TEST_CASE("the linear branch over lists, weights and all keys") {
    init();
    struct LinearCase {
      DType type;
      double bound;
      int64_t d;
    };
    // bf16 in another head size and f16: products in TF32.
    for (const auto& [type, bound, d] : {LinearCase{DType::f64, 1e-12, 24},
                                         {DType::f32, 2e-5, 24},
                                         {DType::f32, 2e-6, 68},
                                         {DType::bf16, 1e-2, 24},
                                         {DType::bf16, 3e-3, 21},
                                         {DType::f16, 1e-3, 24},
                                         {DType::f16, 1e-3, 68}})
      for (const attn::FeatureMap map :
           {attn::FeatureMap::softmax, attn::FeatureMap::elu, attn::FeatureMap::relu})
        for (const int way : {0, 1, 2}) {
          const Case c{"", 1, 2, 150, 141, d, 32, 16};
          const Data x = data(c, type);
          const DType wide = type == DType::f64 ? DType::f64 : DType::f32;
          Tensor weight({1, 2, 5, 9}, wide), gate({1, 2, 5}, wide);
          fill_uniform(weight, RandomKey::derive(7, Purpose::test), 0, 1);
          fill_uniform(gate, RandomKey::derive(8, Purpose::test), 0, 1);
          gate.slice(2, 1, 2).fill_(1);
          const auto run = [&](Device where, DType as) {
            const auto at = [&](const Tensor& t) { return t.to(where).to(as); };
            const DType compute = as == DType::f64 ? DType::f64 : DType::f32;
            const Tensor q = at(x.q), k = at(x.k), v = at(x.v), dy = at(x.dy);
            attn::BlockLists lists = attn::block_lists(x.mask.to(where), 32, 16);
            attn::LinearArgs a{.feature_map = map, .eps = 1e-5, .block_q = 32, .block_k = 16};
            if (way == 1) a.lists = &lists, a.gate = gate.to(where).to(compute);
            if (way == 2) a.weight = weight.to(where).to(compute);
            Tensor o = v.slice(2, 0, 1).expand(q.shape()).contiguous();
            attn::kernel::linear_forward(where, o, q, k, v, a);
            const auto room = [&](const Tensor& t) { return Tensor(t.shape(), compute, where); };
            attn::LinearGrads g{room(q), room(k), room(v), {}};
            if (way == 2) g.dweight = room(weight);
            g.dot = Tensor({1, 2, 150}, compute, where);
            attn::kernel::linear_backward(where, g, dy, q, k, v, a);
            std::vector<Tensor> all{o, g.dq, g.dk, g.dv, g.dot};
            if (way == 2) all.push_back(g.dweight);
            return all;
          };
          const auto want = run(cpu(), DType::f64), got = run(gpu(), type);
          for (size_t i = 0; i < want.size(); ++i) {
            CAPTURE(i);
            CAPTURE(way);
            CHECK(relative_l1(got[i], want[i]) <= bound);
          }
        }
  }
}
