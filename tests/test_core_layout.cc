// Layouts and strided loops against loops over indices, for random layouts.
#include <doctest/doctest.h>

#include <limits>
#include <vector>

#include "tenun/core/layout.h"
#include "tenun/core/random.h"
#include "tenun/core/strided.h"

using namespace tenun;

namespace {

// Draws from a fixed stream.
struct Draw {
  RandomKey key;
  uint64_t at = 0;
  explicit Draw(uint64_t seed) : key(RandomKey::derive(seed, Purpose::test)) {}
  int64_t below(int64_t n) {
    return static_cast<int64_t>(key.below(at++, static_cast<uint64_t>(n)));
  }
  bool coin() { return below(2) == 1; }
};

// The storage position of every element in row-major order, by definition.
std::vector<int64_t> positions(const Layout& l) {
  std::vector<int64_t> out;
  const int64_t n = l.shape.numel();
  for (int64_t flat = 0; flat < n; ++flat) {
    int64_t rest = flat, at = l.offset;
    for (int d = l.rank() - 1; d >= 0; --d) {
      at += rest % l.shape[d] * l.strides[d];
      rest /= l.shape[d];
    }
    out.push_back(at);
  }
  return out;
}

// A contiguous layout that was sliced, permuted and expanded.
Layout random_layout(Draw& draw) {
  Shape shape;
  const int64_t rank = draw.below(6);
  for (int64_t i = 0; i < rank; ++i) shape.push_back(1 + draw.below(4));
  Layout l(shape);
  for (int d = 0; d < l.rank(); ++d)
    if (draw.coin()) {
      const int64_t from = draw.below(l.shape[d]);
      l = l.slice(d, from, from + 1 + draw.below(l.shape[d] - from), 1 + draw.below(3));
    }
  Dims axes;
  for (int d = 0; d < l.rank(); ++d) axes.insert(static_cast<int>(draw.below(d + 1)), d);
  if (draw.coin()) l = l.permute(axes);
  if (draw.coin()) {
    Shape to = l.shape;
    for (int d = 0; d < to.size(); ++d)
      if (to[d] == 1 && draw.coin()) to[d] = 1 + draw.below(3);
    if (to.size() < kMaxRank && draw.coin()) to.insert(0, 1 + draw.below(3));
    l = l.expand(to);
  }
  return l;
}

// Some layout of a given shape.
Layout random_strides(const Shape& shape, Draw& draw) {
  Dims axes, back = Dims::filled(shape.size(), 0);
  for (int d = 0; d < shape.size(); ++d) axes.insert(static_cast<int>(draw.below(d + 1)), d);
  Shape inner;
  for (int64_t a : axes) inner.push_back(shape[static_cast<int>(a)] + draw.below(2));
  Layout l(inner);
  for (int d = 0; d < shape.size(); ++d) back[static_cast<int>(axes[d])] = d;
  l = l.permute(back);
  for (int d = 0; d < shape.size(); ++d) {
    const int64_t spare = l.shape[d] - shape[d], from = spare > 0 ? draw.below(2) : 0;
    l = l.slice(d, from, from + shape[d], 1);
    if (shape[d] > 1 && draw.below(4) == 0) l.strides[d] = 0;  // broadcast
  }
  return l;
}

// Another grouping of the same number of elements.
Shape regrouped(int64_t numel, Draw& draw) {
  Shape out;
  while (out.size() < kMaxRank - 1) {
    int64_t f = 1 + draw.below(6);
    if (numel % f != 0) f = 1;
    out.push_back(f);
    numel /= f;
    if (numel == 1 && draw.coin()) break;
  }
  if (numel != 1) out.push_back(numel);
  return out;
}

}  // namespace

TEST_SUITE("core_layout") {
  TEST_CASE("slice, permute and expand move positions as indices say") {
    Draw draw(11);
    for (int round = 0; round < 300; ++round) {
      const Layout l = random_layout(draw);
      const auto at = positions(l);
      int64_t last = -1;
      for (const int64_t p : at) last = std::max(last, p - l.offset);
      CHECK(l.extent() == last + 1);
      bool dense = true;
      for (size_t i = 0; i < at.size(); ++i)
        dense = dense && at[i] == l.offset + static_cast<int64_t>(i);
      CHECK(l.contiguous() == dense);
    }
  }

  TEST_CASE("a view keeps the order of the elements, and is found wherever one exists") {
    Draw draw(12);
    int views = 0, refused = 0;
    for (int round = 0; round < 2000; ++round) {
      const Layout l = random_layout(draw);
      const Shape to = regrouped(l.shape.numel(), draw);
      Layout out;
      if (l.view(to, out)) {
        ++views;
        REQUIRE(out.shape == to);
        CHECK(positions(out) == positions(l));
        continue;
      }
      ++refused;
      // Then no strides would do: position i of the target is fixed by the first step along each
      // axis, so the only candidate is known.
      const auto at = positions(l);
      Layout only(to);
      only.offset = l.offset;
      for (int d = 0; d < to.size(); ++d) {
        int64_t step = 1;
        for (int k = d + 1; k < to.size(); ++k) step *= to[k];
        only.strides[d] = to[d] > 1 ? at[static_cast<size_t>(step)] - at[0] : 0;
      }
      CHECK(positions(only) != at);
    }
    CHECK(views > 200);
    CHECK(refused > 200);
  }

  TEST_CASE("views of permuted, sliced and expanded layouts") {
    Layout out;
    const Layout a = Layout({4, 6}).permute({1, 0});
    CHECK_FALSE(a.view({24}, out));
    CHECK(a.view({2, 3, 4}, out));  // splitting an axis is always possible
    CHECK(out.strides == Shape{3, 1, 6});
    CHECK(a.view({1, 6, 1, 4, 1}, out));
    const Layout s = Layout({4, 6}).slice(1, 0, 6, 2);
    CHECK(s.view({12}, out));  // steps of 2 run on through the rows
    CHECK(out.strides == Shape{2});
    CHECK_FALSE(Layout({4, 6}).slice(1, 0, 4, 1).view({16}, out));
    CHECK(Layout({4, 6}).slice(0, 1, 3, 1).view({12}, out));
    CHECK(out.offset == 6);
    const Layout e = Layout({1, 3}).expand({5, 3});
    CHECK_FALSE(e.view({15}, out));
    CHECK(Layout(Shape{1}).expand({5, 3}).view({15}, out));
    CHECK(out.strides == Shape{0});
    // Zero elements can be viewed as anything, whatever the strides.
    CHECK(Layout({2, 0, 3}).permute({2, 1, 0}).view({0, 7}, out));
    CHECK(Layout({3, 4}).slice(0, 2, 2, 1).permute({1, 0}).view({4, 5, 0}, out));
  }

  TEST_CASE("StridedLoop visits what index loops visit") {
    Draw draw(13);
    for (int round = 0; round < 300; ++round) {
      Shape shape;
      const int64_t rank = draw.below(7);
      for (int64_t i = 0; i < rank; ++i)
        shape.push_back(draw.below(12) == 0 ? 0 : 1 + draw.below(4));
      const Layout a = random_strides(shape, draw), b = random_strides(shape, draw), c(shape);
      const StridedLoop<3> loop({&a, &b, &c});
      const int64_t n = shape.numel();
      REQUIRE(loop.numel() == n);
      // In pieces with random bounds, as threads take them.
      std::vector<int64_t> at_a, at_b, at_c;
      for (int64_t from = 0; from < n;) {
        const int64_t to = std::min(n, from + 1 + draw.below(n));
        int64_t expected = from;
        loop.run(from, to, [&](const int64_t* off, const int64_t* s, int64_t first, int64_t count) {
          CHECK(first == expected);
          expected += count;
          for (int64_t i = 0; i < count; ++i) {
            at_a.push_back(off[0] + i * s[0]);
            at_b.push_back(off[1] + i * s[1]);
            at_c.push_back(off[2] + i * s[2]);
          }
        });
        CHECK(expected == to);
        from = to;
      }
      CHECK(at_a == positions(a));
      CHECK(at_b == positions(b));
      CHECK(at_c == positions(c));
    }
  }

  TEST_CASE("StridedLoop is flat exactly for dense operands") {
    const Layout dense({3, 4}), turned = Layout({4, 3}).permute({1, 0}), one(Shape{}), ones({1, 1});
    CHECK(StridedLoop<2>({&dense, &dense}).flat());
    CHECK_FALSE(StridedLoop<2>({&dense, &turned}).flat());
    CHECK(StridedLoop<1>({&one}).flat());
    CHECK(StridedLoop<1>({&ones}).flat());
    CHECK(StridedLoop<1>({&one}).numel() == 1);
  }

  TEST_CASE("shapes: products, text, limits") {
    CHECK(Shape{}.numel() == 1);
    CHECK(Shape{2, 3, 4}.numel() == 24);
    CHECK(Shape{2, 0, 4}.numel() == 0);
    CHECK(Shape{2, 3}.str() == "[2, 3]");
    CHECK(Shape{}.str() == "[]");
    constexpr int64_t kBig = int64_t{1} << 32;
    CHECK_THROWS_AS((void)Shape({kBig, kBig}).numel(), ShapeError);
    CHECK_THROWS_AS(Layout({kBig, kBig}), ShapeError);
    CHECK_THROWS_AS(Layout({0, kBig, kBig}), ShapeError);
    CHECK_THROWS_AS(Layout({2, -1}), ShapeError);
    Shape s{1, 2, 3, 4, 5, 6};
    CHECK_THROWS_WITH_AS(s.push_back(7), "shape: more than 6 dimensions", ShapeError);
    s.erase(2);
    CHECK(s == Shape{1, 2, 4, 5, 6});
    s.insert(0, 9);
    CHECK(s == Shape{9, 1, 2, 4, 5, 6});
    CHECK(s.back() == 6);
  }

  TEST_CASE("axes and broadcasting") {
    CHECK(normalize_axis(-1, 3, "op") == 2);
    CHECK_THROWS_WITH_AS((void)normalize_axis(3, 3, "op"),
                         "op: axis 3 is outside a tensor of rank 3", ValueError);
    CHECK_THROWS_AS((void)normalize_axis(-4, 3, "op"), ValueError);
    CHECK_THROWS_AS((void)normalize_axis(0, 0, "op"), ValueError);
    CHECK(broadcast_shapes({2, 1, 4}, {3, 1}, "op") == Shape{2, 3, 4});
    CHECK(broadcast_shapes({}, {5}, "op") == Shape{5});
    CHECK(broadcast_shapes({0}, {1}, "op") == Shape{0});
    CHECK_THROWS_WITH_AS((void)broadcast_shapes({2, 3}, {4}, "add"),
                         "add: cannot broadcast [2, 3] with [4]", ShapeError);
  }

  TEST_CASE("errors of permute, slice and expand") {
    const Layout l({4, 6});
    CHECK_THROWS_AS((void)l.permute({0}), ShapeError);
    CHECK_THROWS_AS((void)l.permute({0, 0}), ShapeError);
    CHECK_THROWS_AS((void)l.permute({0, 2}), ValueError);
    CHECK_THROWS_AS((void)l.slice(1, 0, 7, 1), ValueError);
    CHECK_THROWS_AS((void)l.slice(1, 4, 3, 1), ValueError);
    CHECK_THROWS_AS((void)l.slice(1, -7, 3, 1), ValueError);
    CHECK_THROWS_AS((void)l.slice(1, 0, 3, 0), ValueError);
    CHECK_THROWS_AS((void)l.slice(2, 0, 1, 1), ValueError);
    constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
    CHECK(l.slice(1, 2, 6, kMax).shape == Shape{4, 1});
    CHECK(l.slice(1, -6, -1, 2).shape == Shape{4, 3});
    CHECK_THROWS_AS((void)l.expand({6}), ShapeError);
    CHECK_THROWS_AS((void)l.expand({4, 5}), ShapeError);
    CHECK_THROWS_AS((void)Layout({1, 3}).expand({-5, 3}), ShapeError);
    CHECK_THROWS_AS((void)Layout({3}).expand({-1, 3}), ShapeError);
    CHECK(Layout({1, 3}).expand({4, -1}).shape == Shape{4, 3});
  }
}
