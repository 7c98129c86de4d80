// The attention kernel for Hopper on the emulated device, against the CPU in f64 and against the
// kernel by mma.sync: odd sizes, empty and full rows, one block, under four schedules, which must
// give equal numbers.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tenun/core/random.h"
#include "tenun/init.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/tile.h"
#include "tenun/tests/attention_util.h"
#include "tenun/tests/emulated_util.h"

using namespace tenun;
using test::kEmulated, test::normal, test::relative_l1, test::schedules, test::Settings, test::With;

namespace {

struct Case {
  const char* name;
  int64_t b, h, nq, nk, d, block_q, block_k;
};
// Blocks of 0 stand for "no lists".
const Case kCases[] = {
    {"lists of 64 keys", 1, 2, 300, 333, 64, 128, 64},
    {"lists of 64 keys, d 128", 1, 1, 390, 450, 128, 128, 64},
    {"lists of 128 keys", 2, 1, 260, 517, 128, 128, 128},
    {"wide query blocks", 1, 1, 330, 200, 64, 192, 192},
    {"odd blocks of queries, d 72", 1, 1, 201, 177, 72, 80, 64},
    {"all keys", 1, 2, 131, 647, 64, 0, 0},
    {"all keys, d 128", 2, 2, 129, 390, 128, 0, 0},
    {"few keys, d 8", 1, 1, 70, 3, 8, 0, 0},
};
struct Inputs {
  Tensor q, k, v, mask;
};
Inputs inputs(const Case& c, DType type) {
  const auto make = [&](int64_t n, uint64_t seed, double spread) {
    return normal({c.b, n, c.h, c.d}, seed, DType::f64, spread).to(type).permute({0, 2, 1, 3});
  };
  Inputs x{make(c.nq, 1, 1.5), make(c.nk, 2, 1.5), make(c.nk, 3, 1), {}};
  if (c.block_q == 0) return x;
  const int64_t tm = attn::blocks(c.nq, c.block_q), tn = attn::blocks(c.nk, c.block_k);
  x.mask = Tensor({c.b, c.h, tm, tn}, DType::u8);
  const RandomKey key = RandomKey::derive(22, Purpose::test);
  for (int64_t i = 0; i < x.mask.numel(); ++i) {
    // Query blocks of every kind: some blocks, none, all, the last one alone.
    const int64_t kind = i / tn % 4;
    x.mask.mutable_data<uint8_t>()[i] = kind == 0   ? key.below(static_cast<uint64_t>(i), 2) == 0
                                        : kind == 1 ? 0
                                        : kind == 2 ? 1
                                                    : i % tn == tn - 1;
  }
  return x;
}
attn::FlashResult flash(const Inputs& x, const Case& c, Device where, DType type, DType o_type) {
  const auto at = [&](const Tensor& t) { return t.to(where).to(type); };
  attn::FlashArgs args;
  args.scale = 1 / std::sqrt(static_cast<double>(c.d));
  attn::BlockLists lists;
  if (x.mask.defined()) {
    lists = attn::block_lists(x.mask.to(where), c.block_q, c.block_k);
    args.lists = &lists;
  }
  const Tensor q = at(x.q);
  attn::FlashResult r{Tensor(q.shape(), o_type, where),
                      Tensor({c.b, c.h, c.nq}, attn::compute_dtype(type), where)};
  attn::kernel::flash_forward(where, r.o, r.lse, q, at(x.k), at(x.v), args);
  return r;
}
attn::FlashResult flash(const Inputs& x, const Case& c, Device where, DType type) {
  return flash(x, c, where, type, type);
}

}  // namespace

TEST_SUITE("cuda_flash_hopper") {
  TEST_CASE("flash attention by wgmma agrees with f64 and with mma.sync under every schedule") {
    init();
    for (const Case& c : kCases)
      for (const auto& [type, bound] : {std::pair{DType::bf16, 3e-3}, {DType::f16, 6e-4}}) {
        CAPTURE(std::string(c.name) + " " + name(type));
        const Inputs x = inputs(c, type);
        const attn::FlashResult want = flash(x, c, cpu(), DType::f64);
        const attn::FlashResult twin = [&] {
          const With with(schedules(false)[0]);
          return flash(x, c, kEmulated, type);
        }();
        attn::FlashResult first;
        for (const Settings& s : schedules(true)) {
          const With with(s);
          const attn::FlashResult got = flash(x, c, kEmulated, type);
          if (!first.o.defined()) {
            first = got;
            CHECK(relative_l1(got.o, want.o) <= bound);
            CHECK(relative_l1(got.lse, want.lse) <= 1e-5);
            CHECK(relative_l1(got.o, twin.o) <= bound);
            CHECK(relative_l1(got.lse, twin.lse) <= 1e-5);
          }
          CHECK(got.o.values<float>() == first.o.values<float>());
          CHECK(got.lse.values<float>() == first.lse.values<float>());
        }
      }
  }

  TEST_CASE("o in f32 is what is rounded to 16 bits") {
    init();
    for (const Case& c : {kCases[1], kCases[5]}) {
      const Inputs x = inputs(c, DType::bf16);
      const With with(schedules(true)[3]);
      const attn::FlashResult wide = flash(x, c, kEmulated, DType::bf16, DType::f32),
                              low = flash(x, c, kEmulated, DType::bf16);
      CHECK(relative_l1(wide.o, flash(x, c, cpu(), DType::f64).o) <= 3e-3);
      CHECK(wide.o.to(DType::bf16).values<float>() == low.o.values<float>());
      CHECK(wide.lse.values<float>() == low.lse.values<float>());
    }
  }

  // The first GPU: TENUN_CUDA_HOPPER=1 takes the kernel there, without it mma.sync.
  TEST_CASE("on a GPU, where there is one") {
    if (test::gpu() == kEmulated) return;
    const Case large{"many tiles", 2, 4, 2000, 3001, 128, 0, 0};
    std::vector<Case> cases(std::begin(kCases), std::end(kCases));
    cases.push_back(large);
    for (const Case& c : cases)
      for (const auto& [type, bound] : {std::pair{DType::bf16, 3e-3}, {DType::f16, 6e-4}}) {
        CAPTURE(std::string(c.name) + " " + name(type));
        const Inputs x = inputs(c, type);
        const attn::FlashResult want = flash(x, c, cpu(), DType::f64),
                                got = flash(x, c, {DeviceType::cuda, 0}, type);
        CHECK(relative_l1(got.o, want.o) <= bound);
        CHECK(relative_l1(got.lse, want.lse) <= 1e-5);
      }
  }

  TEST_CASE("what these kernels do not take goes to the others, with the same bits") {
    init();
    // Small query blocks, key blocks that are no multiples of a box, few queries, one head for all.
    const Case cases[] = {{"", 1, 1, 150, 200, 64, 64, 64},
                          {"", 1, 1, 150, 200, 64, 128, 32},
                          {"", 1, 1, 64, 200, 64, 0, 0},
                          {"", 1, 2, 150, 200, 64, 0, 0}};
    for (const Case& c : cases) {
      Inputs x = inputs(c, DType::bf16);
      const bool shared = c.h == 2;
      const auto run = [&](bool hopper) {
        const With with(schedules(hopper)[0]);
        if (!shared) return flash(x, c, kEmulated, DType::bf16).o.values<float>();
        const auto at = [](const Tensor& t) { return t.to(kEmulated); };
        const Tensor k = at(x.k.slice(1, 0, 1)).expand(x.k.shape());
        return attn::flash_forward(at(x.q), k, at(x.v), {.scale = 0.125}).o.values<float>();
      };
      CHECK(run(true) == run(false));
    }
    // Only lse.
    const Inputs x = inputs(kCases[6], DType::bf16);
    const auto lse = [&](bool hopper) {
      const With with(schedules(hopper)[0]);
      const auto at = [](const Tensor& t) { return t.to(kEmulated); };
      Tensor none, l({2, 2, 129}, DType::f32, kEmulated);
      attn::kernel::flash_forward(kEmulated, none, l, at(x.q), at(x.k), at(x.v), {.scale = 0.1});
      return l.values<float>();
    };
    CHECK(lse(true) == lse(false));
  }
}
