// The matrix product: every type and instruction set level against plain loops, exact with small
// integers; strides, batches, bias, chunks of k; the same bits for any number of threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tenun/core/error.h"
#include "tenun/core/parallel.h"
#include "tenun/core/random.h"
#include "tenun/ops/gemm.h"
#include "tenun/ops/int8_matmul.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/simd/gemm_kernels.h"
#include "tenun/ops/simd/isa.h"

using namespace tenun;

namespace {

// Integers in -3..3, so that sums are exact in f32, and in bf16 where K is small.
Tensor integers(const Shape& shape, DType dtype, uint64_t stream) {
  Tensor t(shape, DType::f32);
  float* const p = t.mutable_data<float>();
  uint32_t state = static_cast<uint32_t>(stream) * 7919u + 17u;
  for (int64_t i = 0; i < t.numel(); ++i) {
    state = state * 1664525u + 1013904223u;
    p[i] = static_cast<float>(static_cast<int>(state >> 16) % 7 - 3);
  }
  return t.to(dtype);
}

std::vector<double> values(const Tensor& t) {
  const Tensor d = t.contiguous().to(DType::f64);
  return {d.data<double>(), d.data<double>() + d.numel()};
}

std::vector<double> plain(const Tensor& a, const Tensor& b, const Tensor& bias) {
  const int64_t batch = a.dim(0), m = a.dim(1), k = a.dim(2), n = b.dim(2);
  const auto x = values(a), y = values(b);
  const auto side = bias.defined() ? values(bias) : std::vector<double>(static_cast<size_t>(n));
  std::vector<double> z(static_cast<size_t>(batch * m * n));
  for (int64_t i = 0; i < batch * m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double s = side[static_cast<size_t>(j)];
      for (int64_t q = 0; q < k; ++q)
        s += x[static_cast<size_t>(i * k + q)] * y[static_cast<size_t>((i / m * k + q) * n + j)];
      z[static_cast<size_t>(i * n + j)] = s;
    }
  return z;
}

struct Size {
  int64_t batch, m, n, k;
};

int64_t differences(const Tensor& c, const std::vector<double>& want, DType dtype) {
  const auto got = values(c);
  const Tensor w = Tensor::from(want, {static_cast<int64_t>(want.size())}).to(dtype);
  const auto rounded = values(w);
  int64_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) wrong += got[i] != rounded[i] ? 1 : 0;
  return wrong;
}

struct Threads {
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(0); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
};

}  // namespace

TEST_SUITE("ops_gemm") {
  TEST_CASE("all types, sizes around the tiles, both axis orders of both operands, bias") {
    const Size sizes[] = {{1, 1, 1, 1},     {1, 5, 3, 2},      {2, 6, 64, 8},   {1, 7, 65, 9},
                          {3, 13, 130, 33}, {1, 97, 16, 7},    {1, 100, 48, 5}, {1, 4, 200, 1100},
                          {9, 20, 20, 12},  {1, 200, 150, 131}};
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16})
      for (const Size& s : sizes)
        for (const int order : {0, 1, 2, 3}) {
          CAPTURE(std::string(name(dtype)));
          CAPTURE(s.m);
          CAPTURE(s.n);
          CAPTURE(s.k);
          CAPTURE(order);
          const Tensor a = (order & 1) != 0
                               ? integers({s.batch, s.k, s.m}, dtype, 1).transpose(1, 2)
                               : integers({s.batch, s.m, s.k}, dtype, 1);
          const Tensor b = (order & 2) != 0
                               ? integers({s.batch, s.n, s.k}, dtype, 2).transpose(1, 2)
                               : integers({s.batch, s.k, s.n}, dtype, 2);
          const Tensor bias = order == 1 ? Tensor() : integers({s.n}, dtype, 3);
          Tensor c({s.batch, s.m, s.n}, dtype);
          gemm_cpu(c, a, b, bias);
          CHECK(differences(c, plain(a, b, bias), dtype) == 0);
        }
  }

  TEST_CASE("views with gaps, a broadcast operand, an empty k") {
    const Tensor wide = integers({2, 40, 90}, DType::f32, 4);
    const Tensor a = wide.slice(2, 11, 48).slice(1, 3, 20),
                 b = integers({1, 37, 21}, DType::f32, 5);
    const Tensor spread = b.expand({2, 37, 21});
    Tensor c({2, 17, 21}, DType::f32);
    gemm_cpu(c, a, spread, {});
    CHECK(differences(c, plain(a, spread.contiguous(), {}), DType::f32) == 0);
    const Tensor none({1, 3, 0}, DType::f32), bias = integers({4}, DType::f32, 6);
    Tensor d({1, 3, 4}, DType::f32);
    gemm_cpu(d, none, Tensor({1, 0, 4}, DType::f32), bias);
    CHECK(differences(d, plain(none, Tensor({1, 0, 4}, DType::f32), bias), DType::f32) == 0);
  }

  TEST_CASE("packed operands larger than what is packed at a time") {
    const Tensor a = integers({1, 40, 30000}, DType::f32, 7),
                 b = integers({1, 30000, 400}, DType::f32, 8);
    Tensor c({1, 40, 400}, DType::f32);
    gemm_cpu(c, a, b, {});
    const auto x = values(a), y = values(b);
    for (const auto& [i, j] : {std::pair{0, 0}, std::pair{39, 399}, std::pair{17, 128}}) {
      double s = 0;
      for (int64_t q = 0; q < 30000; ++q)
        s += x[static_cast<size_t>(i * 30000 + q)] * y[static_cast<size_t>(q * 400 + j)];
      CHECK(c.data<float>()[i * 400 + j] == s);
    }
  }

  TEST_CASE("the same bits for any number of threads and any cut of the rows") {
    Tensor a({300, 700}, DType::f32), b({700, 260}, DType::f32);
    fill_normal(a, RandomKey::derive(1, Purpose::test, 1));
    fill_normal(b, RandomKey::derive(1, Purpose::test, 2));
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const Tensor x = a.to(dtype), y = b.to(dtype);
      Tensor want;
      {
        const Threads one(1);
        want = matmul(x, y);
      }
      const auto w = values(want);
      for (const int n : {2, 3, 8}) {
        const Threads more(n);
        CHECK(values(matmul(x, y)) == w);
      }
      // Rows 100..150 alone: other tiles, the same sums.
      const auto part = values(matmul(x.slice(0, 100, 150), y));
      CHECK(std::equal(part.begin(), part.end(), w.begin() + 100 * 260));
    }
  }

  TEST_CASE("bytes: exact sums, scaled; extremes do not saturate") {
    for (const Size& s : {Size{1, 1, 1, 1}, Size{2, 7, 70, 13}, Size{1, 110, 130, 300}})
      for (const int order : {0, 1, 2, 3}) {
        Tensor a = integers({s.batch, s.m, s.k}, DType::f32, 9);
        Tensor b = integers({s.batch, s.k, s.n}, DType::f32, 10);
        float *const pa = a.mutable_data<float>(), *const pb = b.mutable_data<float>();
        for (int64_t i = 0; i < a.numel(); ++i) pa[i] = pa[i] == 3 ? 127.0f : pa[i] * 42;
        for (int64_t i = 0; i < b.numel(); ++i) pb[i] = pb[i] == -3 ? -127.0f : pb[i] * 42;
        const Tensor qa = (order & 1) != 0
                              ? a.to(DType::i8).transpose(1, 2).contiguous().transpose(1, 2)
                              : a.to(DType::i8);
        const Tensor qb = (order & 2) != 0
                              ? b.to(DType::i8).transpose(1, 2).contiguous().transpose(1, 2)
                              : b.to(DType::i8);
        const Tensor sa = Tensor::full({s.batch, s.m}, 0.5), sb = Tensor::full({s.batch, s.n}, 4.0);
        Tensor c({s.batch, s.m, s.n}, DType::f32);
        gemm_int8_cpu(c, qa, qb, sa, sb);
        auto want = plain(a, b, {});
        for (double& w : want) w *= 2;
        CHECK(differences(c, want, DType::f32) == 0);
      }
  }

  TEST_CASE("every level of this processor: blocks of every type") {
    for (const simd::Isa isa : simd::kLevels) {
      if (!simd::supported(isa)) continue;
      CAPTURE(simd::name(isa));
      const simd::GemmKernels& all = simd::gemm_kernels(isa);
      struct Type {
        const simd::GemmKernel* kernel;
        DType dtype;
      };
      for (const Type& t :
           {Type{&all.f32, DType::f32}, Type{&all.f64, DType::f64}, Type{&all.bf16, DType::bf16},
            Type{&all.f16, DType::f16}, Type{&all.s8, DType::i8}}) {
        CAPTURE(std::string(name(t.dtype)));
        const simd::GemmKernel& kernel = *t.kernel;
        const int64_t m = 41, n = kernel.lanes * 2 + 5, k = 1031;
        const Tensor a = integers({1, m, k}, t.dtype, 11), b = integers({1, k, n}, t.dtype, 12);
        const DType out = t.dtype == DType::i8 ? DType::f32 : t.dtype;
        const int64_t groups = (k + kernel.group - 1) / kernel.group;
        const int64_t a_panel = groups * kernel.group_bytes * kernel.rows,
                      b_panel = groups * kernel.group_bytes * kernel.lanes;
        Tensor pa({(m / kernel.rows + 1) * a_panel}, DType::u8), pb({3 * b_panel}, DType::u8);
        kernel.pack_a({a.raw(), m, k, k, 1}, pa.raw(), a_panel);
        kernel.pack_b({b.raw(), n, k, 1, n}, pb.raw(), b_panel);
        std::vector<int32_t> sums;
        const auto av = values(a);
        for (int64_t i = 0; i < m; ++i) {
          double s = 0;
          for (int64_t q = 0; q < k; ++q) s += av[static_cast<size_t>(i * k + q)];
          sums.push_back(static_cast<int32_t>(s));
        }
        const std::vector<float> ones(static_cast<size_t>(std::max(m, n)), 1.0f);
        Tensor c({1, m, n}, out);
        kernel.block({pa.raw(), pb.raw(), a_panel, b_panel, m, n, k, c.raw(), n, nullptr,
                      sums.data(), ones.data(), ones.data()});
        CHECK(differences(c, plain(a, b, {}), out) == 0);
      }
    }
  }

  TEST_CASE("int8_matmul: near the product, exact where the codes are") {
    Tensor a({33, 64}, DType::f32), b({64, 40}, DType::f32);
    fill_normal(a, RandomKey::derive(1, Purpose::test, 3));
    fill_normal(b, RandomKey::derive(1, Purpose::test, 4));
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
      const auto got = values(int8_matmul(Var(a.to(dtype)), Var(b.to(dtype))).value());
      const auto want = plain(a.view({1, 33, 64}), b.view({1, 64, 40}), {});
      double error = 0, size = 0;
      for (size_t i = 0; i < got.size(); ++i)
        error += std::abs(got[i] - want[i]), size += std::abs(want[i]);
      CHECK(error < 0.02 * size);
      CHECK(error > 1e-4 * size);  // it did go through 8 bits
    }
    CHECK_THROWS_AS((void)int8_matmul(Var(a), Var(a)), ShapeError);
    CHECK_THROWS_AS(
        (void)int8_matmul(Var(Tensor::zeros({1, 140000})), Var(Tensor::zeros({140000, 1}))),
        ValueError);
    CHECK_THROWS_AS((void)matmul(a.to(DType::i32), b.to(DType::i32)), DTypeError);
  }
}
