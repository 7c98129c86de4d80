// Long columns of the dk, dv pass in several parts (cuda/attention/columns.h), on the emulated
// device: the plan against a plain one made here, the gradients against the CPU in f64 and against
// sums over stretches of queries that are too short to be cut.
#define TENUN_BACKEND emulated
#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "tenun/cuda/attention/columns.h"
#include "tenun/init.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/tests/attention_util.h"
#include "tenun/tests/emulated_util.h"

using namespace tenun;
namespace device = tenun::emulated::attention;
using test::equal_bits, test::gpu, test::kEmulated, test::normal, test::relative_l1,
    test::schedules, test::Settings, test::With;

namespace {

template <class T>
std::vector<T> on_host(const T* p, int n) {
  std::vector<T> v(static_cast<size_t>(n));
  emulated::copy_raw(v.data(), p, v.size() * sizeof(T), emulated::Way::to_host);
  return v;
}

// A problem whose columns have the given lengths in blocks of queries. Without q, k, v.
struct Lengths {
  int64_t heads, nq, nk, block_q, block_k;
  std::vector<int64_t> of;  ///< (heads, T_n)
};
struct Planned {
  std::vector<device::ColumnPart> plan;
  std::vector<device::ColumnSplit> splits;
};
Planned planned(const Lengths& l) {
  std::vector<int64_t> start(l.of.size() + 1, 0);
  std::partial_sum(l.of.begin(), l.of.end(), start.begin() + 1);
  Tensor starts({std::ssize(start)}, DType::i64);
  std::copy(start.begin(), start.end(), starts.mutable_data<int64_t>());
  starts = starts.to(kEmulated);
  const detail::DeviceCall call("plan");  // may have addresses
  device::FlashBackward a;
  a.in.heads = l.heads, a.in.nq = l.nq, a.in.nk = l.nk, a.in.d = 8;
  a.in.block_q = l.block_q, a.in.block_k = l.block_k;
  a.in.columns = {starts.data<int64_t>(), nullptr, start.back()};
  const device::ColumnWork work(a);
  return {on_host(work.parts().plan, work.room()), on_host(work.parts().splits, work.slots())};
}

// The same by plain loops, up to unused entries at the ends.
Planned plain_plan(const Lengths& l) {
  const int64_t tn = attn::blocks(l.nk, l.block_k),
                per = attn::blocks(std::min(l.block_k, l.nk), 64);
  struct Tile {
    int64_t pieces, parts;
  };
  std::vector<Tile> tiles;
  int64_t total = 0;
  for (int64_t list = 0; list < l.heads * tn; ++list)
    for (int64_t x = 0; x < per; ++x) {
      const bool keys = list % tn * l.block_k + x * 64 < l.nk;
      const int64_t tokens = l.of[static_cast<size_t>(list)] * l.block_q;
      tiles.push_back({keys ? attn::blocks(tokens, 64) : 0, 1});
      total += tiles.back().pieces;
    }
  const int64_t limit = std::max<int64_t>(16, attn::blocks(total, 1024));
  Planned p;
  std::vector<std::pair<int, device::ColumnPart>> parts;  // by class
  for (int t = 0; t < std::ssize(tiles); ++t) {
    Tile& tile = tiles[static_cast<size_t>(t)];
    tile.parts = std::max<int64_t>(1, attn::blocks(tile.pieces, limit));
    const int64_t longest = attn::blocks(tile.pieces, tile.parts);
    int order = 0;
    while (order < 7 && longest * (int64_t{2} << order) <= limit) ++order;
    for (int i = 0; i < tile.parts; ++i) {
      const int slot = i == 0 ? -1 : static_cast<int>(p.splits.size());
      parts.push_back({order, {t, i, static_cast<int>(tile.parts), slot}});
      if (i > 0) p.splits.push_back({t, i == 1 ? static_cast<int>(tile.parts) - 1 : 0});
    }
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [order, part] : parts) p.plan.push_back(part);
  return p;
}

// Gradients of attention of bf16 or f16 numbers over lists; nothing else is cut than long columns.
struct Case {
  const char* name;
  int64_t h, nq, nk, d, block_q, block_k;
  bool lists;
};
// Pieces of 64 queries: more than 16 make two parts.
const Case kCases[] = {{"sink columns, an empty one", 2, 2250, 200, 64, 128, 64, true},
                       {"d 72, odd blocks", 1, 1501, 90, 72, 48, 40, true},
                       {"two tiles in a column", 1, 1100, 130, 128, 64, 128, true},
                       {"single keys", 2, 2100, 3, 64, 64, 1, true},
                       {"all queries, one block of keys", 2, 2200, 33, 64, 0, 0, false},
                       {"all queries, d 128", 1, 1409, 70, 128, 0, 0, false}};
struct Data {
  Tensor q, k, v, dy, mask;
};
Data data(const Case& c, DType type) {
  Data x{normal({1, c.h, c.nq, c.d}, 1).to(type),
         normal({1, c.h, c.nk, c.d}, 2).to(type),
         normal({1, c.h, c.nk, c.d}, 3).to(type),
         normal({1, c.h, c.nq, c.d}, 4).to(type),
         {}};
  if (!c.lists) return x;
  const int64_t tm = attn::blocks(c.nq, c.block_q), tn = attn::blocks(c.nk, c.block_k);
  x.mask = Tensor({1, c.h, tm, tn}, DType::u8);
  for (int64_t i = 0; i < x.mask.numel(); ++i) {  // all rows choose the first block, none the third
    const int64_t row = i / tn % tm, column = i % tn;
    x.mask.mutable_data<uint8_t>()[i] = column == 0 || (column != 2 && row % (column + 2) == 1);
  }
  return x;
}
attn::BlockLists lists_of(const Tensor& mask, const Case& c, Device where) {
  return mask.defined() ? attn::block_lists(mask.contiguous().to(where), c.block_q, c.block_k)
                        : attn::BlockLists{};
}
struct Gradients {
  Tensor dk, dv;
};
enum class Wanted { both, dk, dv };
// dk, dv of the queries [from, to), which are whole blocks; lse and delta are given.
Gradients gradients(const Data& x, const Case& c, DType type, const Tensor& lse,
                    const Tensor& delta, int64_t from, int64_t to, Wanted wanted = Wanted::both) {
  const Device where = lse.device();
  const auto queries = [&](const Tensor& t) { return t.slice(2, from, to).contiguous(); };
  const auto at = [&](const Tensor& t) { return t.to(where).to(type); };
  attn::FlashArgs args;
  args.scale = 1 / std::sqrt(static_cast<double>(c.d));
  const attn::BlockLists lists =
      lists_of(c.lists ? x.mask.slice(2, from / c.block_q, attn::blocks(to, c.block_q)) : Tensor(),
               c, where);
  if (c.lists) args.lists = &lists;
  const DType wide = type == DType::f64 ? DType::f64 : DType::f32;
  attn::FlashGrads g;
  if (wanted != Wanted::dv) g.dk = Tensor(x.k.shape(), wide, where);
  if (wanted != Wanted::dk) g.dv = Tensor(x.v.shape(), wide, where);
  attn::kernel::flash_backward(where, g, at(queries(x.dy)), at(queries(x.q)), at(x.k), at(x.v),
                               queries(lse), queries(delta), args);
  return {g.dk, g.dv};
}
struct Forward {
  Tensor lse, delta;
};
Forward forward(const Data& x, const Case& c, Device where, DType type) {
  const auto at = [&](const Tensor& t) { return t.to(where).to(type); };
  attn::FlashArgs args;
  args.scale = 1 / std::sqrt(static_cast<double>(c.d));
  const attn::BlockLists lists = lists_of(x.mask, c, where);
  if (c.lists) args.lists = &lists;
  const attn::FlashResult r = attn::flash_forward(at(x.q), at(x.k), at(x.v), args);
  return {r.lse, attn::row_dot(at(x.dy), r.o)};
}
// Does the plan cut columns of these lists?
bool cut(const Data& x, const Case& c) {
  const attn::BlockLists lists = lists_of(x.mask, c, kEmulated);
  const detail::DeviceCall call("plan");
  device::FlashBackward a;
  a.in.heads = c.h, a.in.nq = c.nq, a.in.nk = c.nk, a.in.d = c.d;
  a.in.block_q = c.block_q, a.in.block_k = c.block_k;
  if (c.lists)
    a.in.columns = {lists.col_start.data<int64_t>(), lists.col_index.data<int32_t>(),
                    lists.col_index.numel()};
  const device::ColumnWork work(a);
  if (!c.lists) return work.parts().each > 1;
  const auto splits = on_host(work.parts().splits, work.slots());
  return std::any_of(splits.begin(), splits.end(), [](const auto& s) { return s.more > 0; });
}

}  // namespace

TEST_SUITE("cuda_attention_columns") {
  TEST_CASE("the plan: every part once, the longest first, places in the workspace") {
    init();
    const RandomKey key = RandomKey::derive(21, Purpose::test);
    const auto random = [&](int64_t lists, int64_t most, int64_t tm, int64_t sinks) {
      std::vector<int64_t> of(static_cast<size_t>(lists));
      for (int64_t i = 0; i < lists; ++i)
        of[static_cast<size_t>(i)] =
            i % sinks == sinks - 1 ? tm
                                   : static_cast<int64_t>(key.below(static_cast<uint64_t>(i),
                                                                    static_cast<uint64_t>(most)));
      return of;
    };
    const Lengths cases[] = {
        {2, 40 * 128, 20 * 64, 128, 64, random(40, 9, 40, 20)},
        {3, 700 * 16 - 5, 11 * 128 - 100, 16, 128, random(33, 600, 700, 11)},
        {8, 4096 * 128, 300 * 64, 128, 64, random(2400, 30, 4096, 300)},  // above kLeastPieces
        {9, 50, 500, 16, 1, random(4500, 4, 4, 7)},                       // nothing to cut
        {1, 100 * 64, 64, 64, 64, {100}},
        {2, 64, 500, 64, 64, std::vector<int64_t>(16, 0)},
    };
    int cut_lists = 0;
    for (const Lengths& l : cases) {
      CAPTURE(&l - cases);
      const Planned want = plain_plan(l);
      for (const Settings& s : schedules()) {
        const With with(s);
        const Planned got = planned(l);
        REQUIRE(got.plan.size() >= want.plan.size());
        REQUIRE(got.splits.size() >= want.splits.size());
        REQUIRE(std::ssize(got.splits) <= 1024);
        bool same = true;
        for (size_t i = 0; i < got.plan.size(); ++i) {
          const device::ColumnPart &a = got.plan[i], b = i < want.plan.size()
                                                             ? want.plan[i]
                                                             : device::ColumnPart{0, 0, 0, -1};
          same = same && a.tile == b.tile && a.part == b.part && a.parts == b.parts &&
                 a.slot == b.slot;
        }
        CHECK(same);
        for (size_t i = 0; i < got.splits.size(); ++i) {
          const device::ColumnSplit& a = got.splits[i];
          const int more = i < want.splits.size() ? want.splits[i].more : 0;
          same = same && a.more == more && (more == 0 || a.tile == want.splits[i].tile);
        }
        CHECK(same);
      }
      cut_lists += want.splits.empty() ? 0 : 1;
    }
    CHECK(cut_lists == 4);
  }

  TEST_CASE("without lists all tiles are cut alike, if they are few") {
    init();
    device::FlashBackward a;
    a.in.d = 8;
    const auto each = [&](int64_t heads, int64_t nq, int64_t nk) {
      a.in.heads = heads, a.in.nq = nq, a.in.nk = nk;
      const device::ColumnWork work(a);
      const int parts = work.parts().each, tiles = work.parts().tiles * static_cast<int>(heads);
      CHECK(work.room() == tiles * parts);
      CHECK(work.slots() == tiles * (parts - 1));
      CHECK(work.slots() <= 1024);
      return parts;
    };
    CHECK(each(1, 1024, 64) == 1);      // 16 pieces are few
    CHECK(each(1, 1025, 64) == 2);      // 17 are not
    CHECK(each(16, 32768, 77) == 32);   // 32 tiles of 512 pieces: 16 a part
    CHECK(each(16, 32768, 8192) == 1);  // 2048 tiles are enough
    CHECK(each(3, 32768, 6400) == 4);   // 300: 150 pieces a part
  }

  TEST_CASE("gradients of long columns agree with f64") {
    init();
    for (const Case& c : kCases)
      for (const auto& [type, bound] :
           {std::pair{DType::bf16, 6e-3}, {DType::f16, 1e-3}, {DType::f32, 4e-6}}) {
        CAPTURE(std::string(c.name) + " " + name(type));
        if (type == DType::f16 && &c != kCases) continue;
        const Data x = data(c, type);
        CHECK(cut(x, c));
        const Forward exact = forward(x, c, cpu(), DType::f64);
        const Gradients want = gradients(x, c, DType::f64, exact.lse, exact.delta, 0, c.nq);
        const Forward f = forward(x, c, gpu(), type);
        const Gradients got = gradients(x, c, type, f.lse, f.delta, 0, c.nq);
        CHECK(relative_l1(got.dk, want.dk) <= bound);
        CHECK(relative_l1(got.dv, want.dv) <= bound);
      }
  }

  TEST_CASE("parts give what stretches of queries give together, but for the order of the sum") {
    init();
    for (const Case& c : kCases) {
      CAPTURE(c.name);
      const Data x = data(c, DType::bf16);
      const Forward f = forward(x, c, gpu(), DType::bf16);
      const Gradients got = gradients(x, c, DType::bf16, f.lse, f.delta, 0, c.nq);
      // At most 15 pieces, of whole blocks: not cut.
      const int64_t step = c.lists ? 15 * 64 / c.block_q * c.block_q : 15 * 64;
      Gradients sum{Tensor::zeros(x.k.shape(), DType::f64), Tensor::zeros(x.v.shape(), DType::f64)};
      for (int64_t from = 0; from < c.nq; from += step) {
        const Gradients g =
            gradients(x, c, DType::bf16, f.lse, f.delta, from, std::min(from + step, c.nq));
        sum.dk.add_(g.dk.to(cpu()).to(DType::f64)), sum.dv.add_(g.dv.to(cpu()).to(DType::f64));
      }
      CHECK(relative_l1(got.dk, sum.dk) <= 2e-6);
      CHECK(relative_l1(got.dv, sum.dv) <= 2e-6);
    }
  }

  TEST_CASE("dk or dv alone") {
    init();
    for (const Case* c : {kCases, kCases + 4}) {
      const Data x = data(*c, DType::bf16);
      const Forward f = forward(x, *c, gpu(), DType::bf16);
      const auto run = [&](Wanted w) {
        return gradients(x, *c, DType::bf16, f.lse, f.delta, 0, c->nq, w);
      };
      const Gradients both = run(Wanted::both);
      CHECK(equal_bits(run(Wanted::dk).dk, both.dk));
      CHECK(equal_bits(run(Wanted::dv).dv, both.dv));
    }
  }

  TEST_CASE("every schedule and poison gives the same bits of long columns") {
    init();
    for (const Case& c : kCases) {
      CAPTURE(c.name);
      const Data x = data(c, DType::bf16);
      const Forward f = forward(x, c, gpu(), DType::bf16);
      const Gradients want = gradients(x, c, DType::bf16, f.lse, f.delta, 0, c.nq);
      for (const Settings& s : schedules()) {
        const With with(s);
        const Gradients got = gradients(x, c, DType::bf16, f.lse, f.delta, 0, c.nq);
        CHECK(equal_bits(got.dk, want.dk));
        CHECK(equal_bits(got.dv, want.dv));
      }
    }
  }
}
