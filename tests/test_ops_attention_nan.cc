// NaN and infinity in operands: what depends on them shows it, in every precision, and what does
// not depend on them stays clean.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tenun/core/random.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/sparse_linear.h"

using namespace tenun;

namespace {

constexpr int64_t kKeys = 40, kChannels = 16;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN(),
                 kInf = std::numeric_limits<double>::infinity();

// (1, 1, n, kChannels) with x at one place.
Tensor with(int64_t n, uint64_t i, DType dtype, int64_t row, int64_t channel, double x) {
  Tensor t({1, 1, n, kChannels}, DType::f64);
  fill_normal(t, RandomKey::derive(29, Purpose::test, i));
  if (row >= 0) t.mutable_data<double>()[row * kChannels + channel] = x;
  return t.to(dtype);
}
Tensor plain(int64_t n, uint64_t i, DType dtype) { return with(n, i, dtype, -1, 0, 0); }

bool finite_rows(const Tensor& o, int64_t first, int64_t end) {
  return o.slice(2, first, end).contiguous().all_finite();
}

}  // namespace

TEST_SUITE("ops_attention_nan") {
  TEST_CASE("low-bit products keep NaN and infinity of q, k and v") {
    for (const DType type : {DType::f32, DType::bf16, DType::f64})
      for (const attn::Quant quant :
           {attn::Quant{LowBit::int8, LowBit::none}, attn::Quant{LowBit::int8, LowBit::int8},
            attn::Quant{LowBit::none, LowBit::int8}, attn::Quant{LowBit::none, LowBit::fp8},
            attn::Quant{LowBit::int8, LowBit::fp8}})
        for (const double bad : {kNan, kInf}) {
          CAPTURE(static_cast<int>(type));
          CAPTURE(static_cast<int>(quant.qk));
          CAPTURE(static_cast<int>(quant.pv));
          CAPTURE(bad);
          const auto run = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
            return int8_attention(q, k, v, {}, 8, 8, quant).value().to(DType::f64);
          };
          const Tensor q = plain(20, 1, type), k = plain(kKeys, 2, type), v = plain(kKeys, 3, type);
          CHECK(run(q, k, v).all_finite());
          // The row of a query: all of it.
          const auto a = run(with(20, 1, type, 10, 3, bad), k, v).values<double>();
          for (int64_t c = 0; c < kChannels; ++c)
            CHECK_FALSE(std::isfinite(a[static_cast<size_t>(10 * kChannels + c)]));
          // A key: every row (the mean that is taken off all keys has it, too).
          for (const double x : run(q, with(kKeys, 2, type, 33, 3, bad), v).values<double>())
            CHECK_FALSE(std::isfinite(x));
          // A value: its channel in every row.
          const auto b = run(q, k, with(kKeys, 3, type, 33, 3, bad)).values<double>();
          for (int64_t i = 0; i < 20; ++i)
            CHECK_FALSE(std::isfinite(b[static_cast<size_t>(i * kChannels + 3)]));
        }
  }

  TEST_CASE("what the linear branch does not read does not reach it") {
    // 10 key blocks; query block 0 leaves out key block 4, block 1 leaves out none.
    for (const FeatureMap map : {FeatureMap::softmax, FeatureMap::elu, FeatureMap::relu})
      for (const DType type : {DType::f32, DType::bf16, DType::f64})
        for (const double bad : {kNan, kInf})
          for (const bool in_key : {true, false}) {
            CAPTURE(static_cast<int>(map));
            CAPTURE(static_cast<int>(type));
            CAPTURE(bad);
            Tensor mask = Tensor::zeros({1, 1, 2, 10}, DType::u8);
            mask.mutable_data<uint8_t>()[4] = 1;
            const Tensor k = in_key ? with(kKeys, 2, type, 17, 3, bad) : plain(kKeys, 2, type),
                         v = in_key ? plain(kKeys, 3, type) : with(kKeys, 3, type, 17, 3, bad);
            const Tensor o = linear_attention(plain(16, 1, type), k, v, mask, map, 0, 8, 4).value();
            CHECK(finite_rows(o, 0, 8));
            CHECK_FALSE(finite_rows(o, 8, 16));
          }
  }

  TEST_CASE("an infinite value that both branches know stays infinite in the mix") {
    for (const DType type : {DType::f32, DType::f64}) {
      Tensor mask = Tensor::zeros({1, 1, 2, 10}, DType::u8);
      mask.mutable_data<uint8_t>()[4] = 1, mask.mutable_data<uint8_t>()[10 + 1] = 1;
      const Tensor q = plain(16, 1, type), k = plain(kKeys, 2, type),
                   v = with(kKeys, 3, type, 17, 3, kInf);
      const auto o =
          attn::sparse_linear(q, k, v, Tensor::zeros({1}, type), {.scale = 0.25},
                              {.block_q = 8, .block_k = 4}, attn::block_lists(mask, 8, 4), true)
              .o.value()
              .values<double>();
      for (int64_t i = 0; i < 16; ++i)  // exact in the first block, by the linear branch behind it
        for (int64_t c = 0; c < kChannels; ++c) {
          CAPTURE(i);
          const double x = o[static_cast<size_t>(i * kChannels + c)];
          if (c == 3)
            CHECK(x == kInf);
          else
            CHECK(std::isfinite(x));
        }
    }
  }
}
