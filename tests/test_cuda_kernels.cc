// CUDA kernels at sizes that the table of op cases does not reach: matrix products over several
// tiles, in every order of axes, whole and element by element; rows that top-k sorts in pieces;
// sums of many chunks; heads of many channels, and more of them than a grid has blocks; rows whose
// addresses are no multiples of 16, and elementwise kernels of mixed types. On a GPU where there is
// one, else on the emulated device; against the CPU.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <array>
#include <cmath>

#include "tenun/core/random.h"
#include "tenun/init.h"
#include "tenun/ops/functors_norm.h"
#include "tenun/ops/index.h"
#include "tenun/ops/int8_matmul.h"
#include "tenun/ops/map.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/reduce.h"
#include "tenun/ops/swiglu.h"
#include "tenun/tests/emulated_util.h"
#include "tenun/tests/qkv_util.h"

using namespace tenun;

namespace {

Tensor noise(const Shape& shape, DType type, uint64_t index) {
  Tensor t(shape, type);
  fill_normal(t, RandomKey::derive(11, Purpose::test, index));
  return t;
}
std::vector<double> numbers(const Tensor& t) {
  const Tensor d = t.to(cpu()).to(DType::f64).contiguous();
  return {d.data<double>(), d.data<double>() + d.numel()};
}
// The largest distance, as a share of the largest value of `want`.
double distance(const Tensor& got, const Tensor& want) {
  REQUIRE(got.shape() == want.shape());
  const auto a = numbers(got), b = numbers(want);
  double size = 1e-30, worst = 0;
  for (const double v : b) size = std::max(size, std::abs(v));
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(a[i] - b[i]);
    worst = std::isfinite(d) ? std::max(worst, d) : HUGE_VAL;
  }
  return worst / size;
}
double allowed(DType type) {
  return type == DType::f64 ? 1e-12 : type == DType::f32 ? 2e-6 : epsilon_of(type);
}
// A view whose elements begin `by` elements after a multiple of 16 bytes.
Tensor shifted(const Tensor& t, int64_t by, Device where) {
  const int64_t n = t.numel();
  Tensor all({n + by}, t.dtype());
  all.slice(0, by, n + by).copy_(t.view({n}));
  return all.to(where).slice(0, by, n + by).view(t.shape());
}
// A matrix [batch, rows, columns] whose last two axes lie in memory in either order.
enum class Lies { rows, columns };
Tensor matrix(int64_t batch, int64_t rows, int64_t columns, Lies lies, DType type, uint64_t seed) {
  if (lies == Lies::rows) return noise({batch, rows, columns}, type, seed);
  return noise({batch, columns, rows}, type, seed).transpose(1, 2);
}

// qk_norm_rope of noise, with its gradients.
std::vector<Tensor> heads_of(const Shape& shape, const QkNormRopeOptions& o, DType type,
                             Device where, int64_t offset, const std::vector<int>& used) {
  const auto tensor = [&](const Shape& s, int stream) {
    return shifted(noise(s, type, static_cast<uint64_t>(stream)), offset, where);
  };
  const auto parameter = [&](const Shape& s, int stream) {
    return Var::parameter(tensor(s, stream));
  };
  const Shape weight{shape[2] / (3 * o.heads)};
  return test::qkv_results(qk_norm_rope,
                           {parameter(shape, 1), parameter(weight, 2), parameter(weight, 3)}, o,
                           used, [&](int part, const Shape& s) { return tensor(s, 4 + part); });
}

}  // namespace

TEST_SUITE("cuda_kernels") {
  TEST_CASE("matmul: sizes around the tiles, every order of axes, every type") {
    const Device where = test::gpu();
    struct Size {
      int64_t batch, m, n, k;
    };
    // Whole packs and not; one tile and several; k of less than a stage, and of many; no k at all.
    const Size sizes[] = {{1, 64, 64, 32},   {1, 72, 136, 200}, {2, 65, 66, 67}, {1, 1, 1, 1},
                          {3, 128, 8, 40},   {1, 7, 200, 33},   {2, 5, 3, 0},    {1, 16, 16, 128},
                          {1, 130, 129, 96}, {4, 3, 70, 24}};
    uint64_t seed = 0;
    for (const DType type : {DType::f32, DType::f64, DType::bf16, DType::f16})
      for (const Size& s : sizes)
        for (const Lies la : {Lies::rows, Lies::columns})
          for (const Lies lb : {Lies::rows, Lies::columns}) {
            const Tensor a = matrix(s.batch, s.m, s.k, la, type, ++seed);
            const Tensor b = matrix(s.batch, s.k, s.n, lb, type, ++seed);
            INFO(fmt::format("{} {} x {} x {} x {}, a by {}, b by {}", name(type), s.batch, s.m,
                             s.n, s.k, la == Lies::rows ? "rows" : "columns",
                             lb == Lies::rows ? "rows" : "columns"));
            CHECK(distance(matmul(a.to(where), b.to(where)), matmul(a, b)) <= allowed(type));
          }
  }

  TEST_CASE("matmul: large tiles, one matrix for the whole batch, a bias, views with offsets") {
    const Device where = test::gpu();
    for (const DType type : {DType::bf16, DType::f16}) {
      const Tensor a = noise({64, 136, 72}, type, 1), b = noise({1, 136, 72}, type, 2);
      const Tensor want = matmul(a, b.transpose(1, 2));
      CHECK(distance(matmul(a.to(where), b.to(where).transpose(1, 2)), want) <= allowed(type));
      const Tensor odd = noise({64, 135, 71}, type, 3);
      CHECK(distance(matmul(odd.to(where), odd.to(where).transpose(1, 2)),
                     matmul(odd, odd.transpose(1, 2))) <= allowed(type));
    }
    for (const DType type : {DType::f32, DType::bf16}) {
      const Tensor x = noise({70, 48}, type, 4), w = noise({67, 48}, type, 5),
                   c = noise({67}, type, 6);
      const auto on = [&](const Tensor& t) { return Var(t.to(where)); };
      const Var want = linear(Var(x), Var(w), Var(c));
      CHECK(distance(linear(on(x), on(w), on(c)).value(), want.value()) <= allowed(type));
      // Views that start anywhere: 16 bytes cannot be read at once.
      const Tensor dx = x.to(where).slice(0, 3, 60).slice(1, 1, 42),
                   dw = w.to(where).slice(0, 1, 60).slice(1, 5, 46);
      CHECK(distance(matmul(dx, dw.transpose(0, 1)),
                     matmul(x.slice(0, 3, 60).slice(1, 1, 42),
                            w.slice(0, 1, 60).slice(1, 5, 46).transpose(0, 1))) <= allowed(type));
    }
  }

  TEST_CASE("matmul: operands of different types are refused") {
    const Device where = test::gpu();
    const Tensor a = noise({2, 3}, DType::f32, 1).to(where),
                 b = noise({3, 2}, DType::bf16, 1).to(where);
    CHECK_THROWS_AS((void)matmul(a, b), DTypeError);
  }

  TEST_CASE("int8_matmul: exact sums, both tile sizes") {
    const Device where = test::gpu();
    for (const auto& [batch, m, n, k] : {std::array<int64_t, 4>{1, 70, 130, 200},
                                         {2, 17, 5, 33},
                                         {130, 64, 64, 64},
                                         {1, 3, 3, 1}}) {
      const Tensor a = noise({batch, m, k}, DType::f32, 21),
                   b = noise({batch, k, n}, DType::f32, 22);
      INFO(batch, " x ", m, " x ", n, " x ", k);
      CHECK(distance(int8_matmul(Var(a.to(where)), Var(b.to(where))).value(),
                     int8_matmul(Var(a), Var(b)).value()) <= 3e-7);
    }
  }

  TEST_CASE("reductions: columns and rows in more chunks than a warp has lanes") {
    const Device where = test::gpu();
    for (const Shape& shape : {Shape{2, 2500, 5}, Shape{1, 4097, 3}, Shape{3, 140000, 1}})
      for (const DType type : {DType::f32, DType::bf16}) {
        const Tensor x = noise(shape, type, 51), dx = x.to(where);
        INFO(fmt::format("{} {}", name(type), shape.str()));
        CHECK(distance(sum(Var(dx), {1}).value(), sum(Var(x), {1}).value()) <= allowed(type));
        CHECK(distance(logsumexp(Var(dx), {1}).value(), logsumexp(Var(x), {1}).value()) <=
              allowed(type));
        const auto [most, at] = max(Var(x), 1);
        const auto [got, place] = max(Var(dx), 1);
        CHECK(distance(got.value(), most.value()) == 0);
        CHECK(distance(place.value(), at.value()) == 0);
      }
  }

  TEST_CASE("swiglu: halves of whole packs and not, at any address, one row and many") {
    const Device where = test::gpu();
    for (const DType type : {DType::f32, DType::f64, DType::bf16, DType::f16})
      for (const auto& [rows, h] : {std::array<int64_t, 2>{1, 4104}, {3, 264}, {70, 8}, {9, 33}})
        for (const int64_t by : {0, 1, 16}) {
          const Tensor x = noise({rows, 2 * h}, type, 31), dy = noise({rows, h}, type, 32);
          Tensor y({rows, h}, type), dx = empty_like(x);
          kernel::swiglu(cpu(), y, x), kernel::swiglu_backward(cpu(), dx, dy, x);
          Tensor got = shifted(y, by, where), got_dx = shifted(x, 0, where);
          kernel::swiglu(where, got, shifted(x, by, where));
          kernel::swiglu_backward(where, got_dx, shifted(dy, by, where), shifted(x, 0, where));
          INFO(fmt::format("{} {} x {}, {} elements further", name(type), rows, h, by));
          CHECK(distance(got, y) <= allowed(type));
          CHECK(distance(got_dx, dx) <= allowed(type));
        }
  }

  TEST_CASE("elementwise: rows of every mixture of types, with vectors, at any address") {
    const Device where = test::gpu();
    constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16};
    const auto compare = [&](DType type, const Tensor& a, const Tensor& b, const Tensor& c) {
      INFO(fmt::format("{} + {} * {} in {}", a.describe(), b.describe(), c.describe(), name(type)));
      CHECK(distance(map_to(type, fn::GatedSum{}, a.to(where), b.to(where), c.to(where)),
                     map_to(type, fn::GatedSum{}, a, b, c)) <= allowed(type));
    };
    for (const DType ta : kTypes)
      for (const DType tb : kTypes)
        for (const DType tc : kTypes)
          for (const DType type : kTypes) {
            const Tensor a = noise({3, 5, 264}, ta, 41), c = noise({3, 5, 264}, tc, 42);
            for (const Shape& vector : {Shape{3, 1, 264}, Shape{264}, Shape{3, 5, 264}, Shape{1}})
              compare(type, a, noise(vector, tb, 43), c);
          }
    // One row and many, axes of size 1, of odd size, and more than three that do not lie together.
    for (const Shape& s : {Shape{4104}, Shape{300, 2, 8}, Shape{1, 7, 40}, Shape{4, 1, 8},
                           Shape{2, 3, 33}, Shape{0, 3, 8}}) {
      Shape vector = s;
      if (s.size() == 3) vector[1] = 1;
      compare(DType::f32, noise(s, DType::f32, 44), noise(vector, DType::bf16, 45),
              noise(s, DType::bf16, 46));
    }
    compare(DType::f32, noise({2, 3, 4, 16}, DType::f32, 47), noise({2, 1, 4, 16}, DType::bf16, 48),
            noise({2, 3, 1, 16}, DType::bf16, 49));
    // Parts of rows, at multiples of 16 bytes and not, and columns.
    const Tensor h = noise({3, 5, 48}, DType::f32, 50), wide = noise({3, 5, 96}, DType::bf16, 51),
                 gate = noise({3, 1, 48}, DType::bf16, 52);
    const Tensor there = wide.to(where), columns = noise({3, 48, 5}, DType::f32, 53);
    for (const int64_t from : {0, 1, 4, 16, 48}) {
      const auto part = [&](const Tensor& t) { return t.slice(2, from, from + 48); };
      INFO("from column ", from);
      CHECK(distance(map(fn::GatedSum{}, h.to(where), gate.to(where), part(there)),
                     map(fn::GatedSum{}, h, gate, part(wide))) <= allowed(DType::f32));
    }
    CHECK(distance(
              map(fn::GatedSum{}, h.to(where), gate.to(where), columns.to(where).transpose(1, 2)),
              map(fn::GatedSum{}, h, gate, columns.transpose(1, 2))) <= allowed(DType::f32));
  }

  TEST_CASE("topk and sort of rows in several tiles") {
    const Device where = test::gpu();
    for (const int64_t n : {1, 2, 31, 1000, 1024, 1025, 3000, 5000})
      for (const DType type : {DType::f32, DType::i64, DType::bf16}) {
        // Few different values: ties must keep the order of their indices.
        Tensor x({3, n}, DType::f32);
        fill_normal(x, RandomKey::derive(5, Purpose::test, static_cast<uint64_t>(n)));
        if (type == DType::i64)
          for (int64_t i = 0; i < 3 * n; ++i)
            x.mutable_data<float>()[i] = std::floor(x.data<float>()[i] * 3);
        if (n > 4) x.mutable_data<float>()[3] = type == DType::i64 ? 0.0f : NAN;
        const Tensor v = x.to(type), d = v.to(where);
        for (const int64_t k : {n, std::min<int64_t>(n, 7), std::min<int64_t>(n, 1500)})
          for (const bool largest : {true, false})
            for (const bool sorted : {true, false}) {
              const TopKOptions o{.largest = largest, .sorted = sorted};
              const Ranked got = topk(Var(d), k, -1, o), want = topk(Var(v), k, -1, o);
              INFO(fmt::format("{} {}, k = {}{}{}", name(type), n, k,
                               largest ? ", largest" : ", least", sorted ? ", sorted" : ""));
              CHECK(numbers(got.indices.value()) == numbers(want.indices.value()));
            }
      }
  }

  TEST_CASE("qk_norm_rope: long heads, more heads than blocks, views with offsets, parts unused") {
    const Device where = test::gpu();
    const auto check = [&](const Shape& shape, const QkNormRopeOptions& o, DType type,
                           int64_t offset = 0, const std::vector<int>& used = {0, 1, 2}) {
      const auto got = heads_of(shape, o, type, where, offset, used),
                 want = heads_of(shape, o, type, cpu(), offset, used);
      for (size_t k = 0; k < got.size(); ++k) {
        INFO(fmt::format("{} {}, {} heads, from {}: result {}", name(type), shape.str(), o.heads,
                         offset, k));
        CHECK(distance(got[k], want[k]) <= 4 * allowed(type));
      }
    };
    for (const DType type : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      for (const int64_t d : {4, 64, 72, 132, 256, 300, 520})
        check({2, 11, 6 * d}, {.heads = 2, .rope = {.grid = 3, .prefix = 2}}, type);
      const QkNormRopeOptions jit{.heads = 3, .rope = {.grid = 6, .prefix = 1}};
      for (const int64_t offset : {1, 4, 8}) check({2, 37, 3 * 3 * 64}, jit, type, offset);
      for (const auto& used : std::vector<std::vector<int>>{{0}, {1}, {2}, {0, 1}, {1, 2}})
        check({2, 37, 3 * 3 * 64}, jit, type, 0, used);
    }
    // The same bits in every order.
    for (const int64_t d : {64, 300}) {
      std::vector<std::vector<Tensor>> runs;
      for (const test::Settings& settings : test::schedules()) {
        const test::With with(settings);
        runs.push_back(heads_of({2, 37, 9 * d}, {.heads = 3, .rope = {.grid = 6, .prefix = 1}},
                                DType::f32, where, 0, {0, 1, 2}));
        for (size_t k = 0; k < runs[0].size(); ++k)
          CHECK(test::equal_bits(runs.back()[k], runs[0][k]));
      }
    }
    // A loop over samples, over heads, over tokens.
    check({1100, 1, 24}, {.heads = 2, .rope = {.grid = 1}}, DType::f32);
    check({2, 1, 12 * 2100}, {.heads = 2100, .rope = {.grid = 1}}, DType::f32);
    check({1, 9, 3 * 68 * 1100}, {.heads = 1100, .rope = {.grid = 3}}, DType::f64);
  }

  TEST_CASE("rope_2d: views with offsets and any strides") {
    const Device where = test::gpu();
    for (const DType type : {DType::f64, DType::f32, DType::bf16, DType::f16})
      for (const int64_t d : {64, 300})
        for (const int64_t offset : {0, 1, 8}) {
          // [B, N, H, D] in rows with room to spare, taken as [B, H, N, D].
          const Tensor x = noise({2, 37, 3, d + 12}, type, 1), y = x.to(where);
          const auto turned = [&](const Tensor& t) {
            return rope_2d(Var(t.slice(3, offset, offset + d).transpose(1, 2)),
                           {.grid = 6, .prefix = 1})
                .value();
          };
          CHECK(distance(turned(y), turned(x)) <= 4 * allowed(type));
        }
  }
}
