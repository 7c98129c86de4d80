// The general form of the attention kernels on the tensor cores (cuda/attention/general.h) on the
// GPU or the emulated device, against the CPU in f64: soft weights and their gradient, dropout,
// scales that are not positive; blocks that are no multiples of a tile, long columns in several
// parts.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tenun/core/random.h"
#include "tenun/init.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/tile.h"
#include "tenun/tests/attention_util.h"
#include "tenun/tests/emulated_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

struct Case {
  const char* name;
  int64_t b, h, nq, nk, d, block_q, block_k;
  bool weights = true;
  double dropout = 0, scale = 1;  ///< scale: times 1 / sqrt(d)
  bool lists = false;
};
const Case kCases[] = {
    {"blocks of a tile", 1, 2, 200, 333, 64, 128, 64},
    {"d 128", 2, 1, 150, 130, 128, 64, 64},
    {"d 72, odd blocks", 1, 1, 101, 177, 72, 48, 40},
    {"d 37, small blocks", 1, 2, 40, 70, 37, 16, 8},
    {"blocks of several tiles", 1, 1, 420, 230, 64, 200, 100},
    {"d 128, blocks of several tiles", 1, 1, 300, 140, 128, 160, 130},
    {"one block of queries", 1, 1, 33, 20, 32, 64, 16},
    {"single tokens", 1, 1, 9, 11, 16, 1, 1},
    {"long columns", 1, 1, 1200, 70, 64, 128, 48},
    {"one query", 1, 2, 1, 130, 40, 16, 32},
    {"two keys", 2, 1, 70, 2, 64, 16, 1},
    {"dropout", 1, 2, 131, 67, 64, 0, 0, false, 0.3},
    {"dropout, d 128", 2, 2, 70, 130, 128, 0, 0, false, 0.1},
    {"dropout over lists", 1, 2, 150, 200, 64, 64, 48, false, 0.5, 1, true},
    {"dropout of weighted probabilities", 1, 1, 140, 100, 48, 64, 32, true, 0.2},
    {"negative scale", 1, 1, 100, 70, 64, 0, 0, false, 0, -1},
    {"negative scale, weights", 1, 1, 100, 70, 40, 32, 32, true, 0, -1},
    {"scale 0", 1, 1, 70, 90, 64, 0, 0, false, 0, 0},
    {"negative scale over lists", 1, 2, 150, 200, 64, 64, 48, false, 0, -1, true},
};

struct Data {
  Tensor q, k, v, dy, weight, mask;
};
Data data(const Case& c, DType type) {
  const auto make = [&](int64_t n, uint64_t i) {  // in a layout (B, N, H, D), as models have it
    return normal({c.b, n, c.h, c.d}, i).to(type).permute({0, 2, 1, 3});
  };
  Data x{make(c.nq, 1), make(c.nk, 2), make(c.nk, 3), make(c.nq, 4), {}, {}};
  if (c.block_q == 0) return x;
  const Shape pairs{c.b, c.h, attn::blocks(c.nq, c.block_q), attn::blocks(c.nk, c.block_k)};
  if (c.weights) {
    // f32 numbers; from nothing to much, so that a weight may decide on a row alone.
    x.weight = Tensor(pairs, DType::f32);
    fill_uniform(x.weight, RandomKey::derive(31, Purpose::test), 1e-3, 1);
    for (int64_t i = 0; i < x.weight.numel(); i += 5) x.weight.mutable_data<float>()[i] = 1e-12f;
  }
  if (!c.lists) return x;
  x.mask = Tensor(pairs, DType::u8);
  for (int64_t i = 0; i < x.mask.numel(); ++i)  // an empty row, a full one, some
    x.mask.mutable_data<uint8_t>()[i] = i / pairs[3] % 3 == 1   ? 0
                                        : i / pairs[3] % 3 == 2 ? 1
                                                                : i % 2 == 0;
  return x;
}

struct Result {
  const char* name;
  Tensor value;
};
std::vector<Result> attention(const Data& x, const Case& c, Device where, DType type) {
  const auto at = [&](const Tensor& t) { return t.to(where).to(type); };
  const DType wide = attn::compute_dtype(type);
  const Tensor q = at(x.q), k = at(x.k), v = at(x.v), dy = at(x.dy);
  attn::FlashArgs args;
  args.scale = c.scale / std::sqrt(static_cast<double>(c.d));
  args.dropout = c.dropout, args.key = RandomKey::derive(32, Purpose::test);
  args.block_q = c.block_q, args.block_k = c.block_k;
  if (x.weight.defined()) args.weight = x.weight.to(where).to(wide);
  attn::BlockLists lists;
  if (x.mask.defined()) {
    lists = attn::block_lists(x.mask.to(where), c.block_q, c.block_k);
    args.lists = &lists;
  }
  const attn::FlashResult r = attn::flash_forward(q, k, v, args);
  const auto room = [&](const Tensor& t) {
    return t.defined() ? Tensor(t.shape(), wide, where) : Tensor();
  };
  attn::FlashGrads g{room(q), room(k), room(v), room(args.weight)};
  attn::kernel::flash_backward(where, g, dy, q, k, v, r.lse, attn::row_dot(dy, r.o), args);
  std::vector<Result> out{{"o", r.o}, {"lse", r.lse}, {"dq", g.dq}, {"dk", g.dk}, {"dv", g.dv}};
  if (args.weight.defined()) out.push_back({"dweight", g.dweight});
  return out;
}

}  // namespace

TEST_SUITE("cuda_attention_general") {
  TEST_CASE("soft weights, dropout and any scale agree with f64") {
    init();
    // As without them (test_cuda_attention.cc): what the rounding of P and dS costs.
    struct Bound {
      DType type;
      double o, lse, gradient, weight;
    };
    for (const Case& c : kCases)
      for (const Bound& bound :
           {Bound{DType::bf16, 4e-3, 1e-5, 6e-3, 6e-3}, Bound{DType::f16, 6e-4, 1e-5, 1e-3, 1e-3},
            Bound{DType::f32, 2e-6, 2e-6, 4e-6, 4e-5}}) {
        CAPTURE(std::string(c.name) + " " + name(bound.type));
        const Data x = data(c, bound.type);
        const auto want = attention(x, c, cpu(), DType::f64),
                   got = attention(x, c, gpu(), bound.type);
        for (size_t i = 0; i < want.size(); ++i) {
          CAPTURE(std::string(want[i].name));
          const double error = relative_l1(got[i].value, want[i].value);
          if (i < 5) {
            CHECK(error <= (i == 0 ? bound.o : i == 1 ? bound.lse : bound.gradient));
          } else {  // sums that may cancel: then what o lost by rounding is large beside them
            const auto same_type = attention(x, c, cpu(), bound.type);
            CHECK(error <= std::max(bound.weight, std::min(0.05, 2 * relative_l1(same_type[i].value,
                                                                                 want[i].value))));
          }
        }
      }
  }

  TEST_CASE("every schedule and poison gives the same bits of the general form") {
    init();
    for (const Case& c : kCases) {
      CAPTURE(c.name);
      const Data x = data(c, DType::bf16);
      const auto want = attention(x, c, gpu(), DType::bf16);
      for (const Settings& s : schedules()) {
        const With with(s);
        const auto got = attention(x, c, gpu(), DType::bf16);
        for (size_t i = 0; i < want.size(); ++i) {
          CAPTURE(std::string(want[i].name));
          CHECK(equal_bits(got[i].value, want[i].value));
        }
      }
    }
  }

  // As on an RTX card: 128 queries and a head size of 128 are too much for the dq pass there.
  TEST_CASE("with less shared memory for a block the results are the same") {
    init();
    const Case c{"", 1, 1, 200, 150, 128, 0, 0, false};
    for (const DType type : {DType::bf16, DType::f32}) {
      const Data x = data(c, type);
      const auto want = attention(x, c, kEmulated, type);
      Settings small = emulation::settings();
      small.shared_limit = 99 * 1024;
      const With with(small);
      const auto got = attention(x, c, kEmulated, type);
      for (size_t i = 0; i < want.size(); ++i) CHECK(equal_bits(got[i].value, want[i].value));
    }
  }

  TEST_CASE("the gradient of the weights alone, and the others without it") {
    init();
    const Case& c = kCases[2];
    const Data x = data(c, DType::bf16);
    const auto all = attention(x, c, gpu(), DType::bf16);
    const auto at = [&](const Tensor& t) { return t.to(gpu()); };
    attn::FlashArgs args;
    args.scale = 1 / std::sqrt(static_cast<double>(c.d));
    args.block_q = c.block_q, args.block_k = c.block_k, args.weight = at(x.weight);
    const Tensor q = at(x.q), k = at(x.k), v = at(x.v), dy = at(x.dy);
    const Tensor delta = attn::row_dot(dy, all[0].value);
    for (const bool weight : {false, true}) {
      attn::FlashGrads g;
      Tensor& wanted = weight ? g.dweight : g.dq;
      wanted = Tensor(weight ? x.weight.shape() : q.shape(), DType::f32, gpu());
      attn::kernel::flash_backward(gpu(), g, dy, q, k, v, all[1].value, delta, args);
      CHECK(equal_bits(wanted, all[weight ? 5 : 2].value));
    }
  }
}
