// The micro-kernel of every instruction set level that this processor has, against plain loops:
// small integers, so that every sum is exact in every type.
#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "tenun/core/error.h"
#include "tenun/ops/simd/isa.h"
#include "tenun/ops/simd/product_kernels.h"

using namespace tenun;
using namespace tenun::simd;

namespace {

// Small integers from a counter.
struct Numbers {
  uint32_t state = 1;
  int next(int low, int high) {
    state = state * 1664525u + 1013904223u;
    return low + static_cast<int>(state >> 16) % (high - low + 1);
  }
};

struct Size {
  int64_t m, n, k;
};
// Every number of vectors beside each other, every remainder of the strips.
const Size kSizes[] = {{1, 16, 1},  {2, 32, 7},  {3, 48, 5},   {4, 64, 64}, {5, 80, 3},
                       {7, 64, 11}, {13, 16, 9}, {19, 112, 2}, {31, 32, 4}, {64, 128, 33}};

// A value of the operand and of the sum, for any kind: kGroup numbers along k in one element.
template <class Element, class Out, int kGroup>
struct Case {
  std::vector<Element> a, b;
  std::vector<Out> c, want;
  int64_t row, col, ldb, ldc;

  template <class Pack>
  Case(const Size& s, bool columns, Into into, int low, int high, Pack&& pack) {
    Numbers numbers;
    row = columns ? 1 : s.k + 3, col = columns ? s.m + 2 : 1;
    ldb = s.n + 16, ldc = s.n + 32;
    a.resize(static_cast<size_t>(s.m * s.k + 3 * s.m + 2 * s.k + 8));
    b.resize(static_cast<size_t>(s.k * ldb));
    c.resize(static_cast<size_t>(s.m * ldc));
    std::vector<int> av(static_cast<size_t>(s.m * s.k * kGroup)),
        bv(static_cast<size_t>(s.n * s.k * kGroup));
    for (int& x : av) x = numbers.next(-5, 5);
    for (int& x : bv) x = numbers.next(low, high);
    for (Out& x : c) x = static_cast<Out>(numbers.next(-9, 9));
    want = c;
    for (int64_t m = 0; m < s.m; ++m)
      for (int64_t n = 0; n < s.n; ++n) {
        Out sum = into == Into::add ? c[static_cast<size_t>(m * ldc + n)] : Out(0);
        for (int64_t k = 0; k < s.k * kGroup; ++k)
          sum += static_cast<Out>(av[static_cast<size_t>(m * s.k * kGroup + k)] *
                                  bv[static_cast<size_t>(n * s.k * kGroup + k)]);
        want[static_cast<size_t>(m * ldc + n)] = sum;
      }
    for (int64_t m = 0; m < s.m; ++m)
      for (int64_t k = 0; k < s.k; ++k)
        a[static_cast<size_t>(m * row + k * col)] =
            pack(&av[static_cast<size_t>((m * s.k + k) * kGroup)]);
    for (int64_t n = 0; n < s.n; ++n)
      for (int64_t k = 0; k < s.k; ++k)
        b[static_cast<size_t>(k * ldb + n)] =
            pack(&bv[static_cast<size_t>((n * s.k + k) * kGroup)]);
  }
};

template <class Element, class Out, int kGroup, class Kernel, class Pack>
void compare(Kernel kernel, int low, int high, const Pack& pack) {
  for (const Size& s : kSizes)
    for (const bool columns : {false, true})
      for (const Into into : {Into::set, Into::add}) {
        CAPTURE(s.m);
        CAPTURE(s.n);
        CAPTURE(s.k);
        Case<Element, Out, kGroup> t(s, columns, into, low, high, pack);
        Strided<Element> a{t.a.data(), t.row, t.col};
        kernel(s.m, s.n, s.k, a, t.b.data(), t.ldb, t.c.data(), t.ldc, into);
        CHECK(t.c == t.want);
      }
}

uint32_t bf16_bits(int x) {
  const auto f = static_cast<float>(x);
  uint32_t u = 0;
  std::memcpy(&u, &f, 4);
  return u >> 16;
}
uint32_t byte(int x) { return static_cast<uint8_t>(x); }

template <class T, class Kernel>
void compare_transpose(Kernel kernel) {
  for (const auto& [rows, cols] : {std::pair{1, 1}, {16, 16}, {8, 40}, {33, 17}, {64, 5}}) {
    const int64_t ldx = cols + 3, ldy = rows + 5;
    std::vector<T> x(static_cast<size_t>(rows * ldx)), y(static_cast<size_t>(cols * ldy), T(-1));
    for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(i);
    kernel(x.data(), ldx, rows, cols, y.data(), ldy);
    int wrong = 0;
    for (int64_t c = 0; c < cols; ++c)
      for (int64_t r = 0; r < ldy; ++r)
        wrong += y[static_cast<size_t>(c * ldy + r)] !=
                 (r < rows ? x[static_cast<size_t>(r * ldx + c)] : T(-1));
    CHECK(wrong == 0);
  }
}

}  // namespace

TEST_SUITE("ops_simd") {
  TEST_CASE("products and transposes of every level equal plain loops") {
    int levels = 0;
    for (const Isa isa : kLevels) {
      if (!supported(isa)) continue;
      ++levels;
      INFO("level ", std::string(name(isa)));
      const ProductKernels& p = product_kernels(isa);
      compare<float, float, 1>(p.f32, -4, 4, [](const int* x) { return static_cast<float>(*x); });
      compare<double, double, 1>(p.f64, -4, 4,
                                 [](const int* x) { return static_cast<double>(*x); });
      compare<Group, float, 2>(p.bf16, -4, 4, [](const int* x) -> Group {
        return {bf16_bits(x[0]) | bf16_bits(x[1]) << 16};
      });
      // The largest operands: 4 * 255 * 5 fits 16 bits no more once it is summed.
      compare<Group, int32_t, 4>(p.s8u8, 200, 255, [](const int* x) -> Group {
        return {byte(x[0]) | byte(x[1]) << 8 | byte(x[2]) << 16 | byte(x[3]) << 24};
      });
      compare_transpose<float>(p.transpose_f32);
      compare_transpose<double>(p.transpose_f64);
    }
    CHECK(levels >= 1);
  }

  TEST_CASE("TENUN_CPU_ISA names a level or is an error") {
    CHECK(isa_from("avx2") == Isa::avx2);
    CHECK(supported(isa_from("")));
    for (const Isa isa : kLevels)
      if (supported(isa)) CHECK(isa_from(name(isa)) == isa);
    CHECK_THROWS_AS((void)isa_from("sse2"), ConfigError);
    for (const Isa isa : kLevels)
      if (!supported(isa)) CHECK_THROWS_AS((void)isa_from(name(isa)), ConfigError);
  }
}
