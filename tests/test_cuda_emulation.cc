// The emulated device itself: small kernels, right and wrong ones. Every fault that it promises to
// find is planted here, and found.
#define TENUN_BACKEND emulated
#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "tenun/cuda/device_code.h"
#include "tenun/cuda/e4m3.h"
#include "tenun/init.h"
#include "tenun/tests/emulated_util.h"

using namespace tenun;
using namespace tenun::test;
using emulated::launch;

namespace {

Tensor counting(int n) {
  std::vector<float> v(static_cast<size_t>(n));
  std::iota(v.begin(), v.end(), 0.0f);
  return Tensor::from(v, {n}).to(kEmulated);
}

// Numbers of lanes whose two products differ, for two sets of operands.
__global__ void compare_e4m3(float* different) {
  const unsigned lane = threadIdx.x;
  for (unsigned set = 0; set < 2; ++set) {
    unsigned a[4], b[2];
    for (unsigned r = 0; r < 4; ++r)
      for (unsigned i = 0; i < 4; ++i) {
        const unsigned code = (lane * 16 + r * 4 + i + set * 77) % 254;
        a[r] = (i == 0 ? 0 : a[r]) | (code < 127 ? code : code + 1) << 8 * i;
        if (r < 2) b[r] = (i == 0 ? 0 : b[r]) | (0x30u + (lane + 3 * r + i) % 16) << 8 * i;
      }
    float x[4] = {1, 2, 3, 4}, y[4] = {1, 2, 3, 4};
    emulated::mma_e4m3(x, a, b[0], b[1]);
    emulated::mma_widened_e4m3(y, a, b[0], b[1]);
    bool apart = false;
    for (int e = 0; e < 4; ++e) apart |= std::abs(x[e] - y[e]) > 1e-6f * 448 * 32;
    const unsigned all = __ballot_sync(~0u, apart);
    if (lane == 0) different[set] = static_cast<float>(__popc(all));
  }
}

enum class Fault { none, no_barrier, divergent, wrong_mask, shared_end, shared_start };

// The sum of a block's 128 values in shared memory, by halves.
template <Fault fault>
__global__ void sum_block(float* out, const float* x) {
  TENUN_SHARED(float, part, 128);
  const int t = static_cast<int>(threadIdx.x);
  part[t] = x[blockIdx.x * 128 + threadIdx.x];
  if constexpr (fault == Fault::divergent) {
    if (t < 64) __syncthreads();
    if (t >= 64) __syncthreads();
  } else if constexpr (fault != Fault::no_barrier) {
    __syncthreads();
  }
  for (int half = 64; half > 0; half /= 2) {
    if (t < half) part[t] += part[t + half];
    __syncthreads();
  }
  if constexpr (fault == Fault::shared_end) part[t + 1] = part[t];
  if constexpr (fault == Fault::shared_start) part[t - 1] = part[t];
  if (t == 0) out[blockIdx.x] = part[0];
}
template <Fault fault>
__global__ void sum_warp(float* out, const float* x) {
  float v = x[threadIdx.x];
  if (fault == Fault::wrong_mask && threadIdx.x >= 16) return;  // they will be missed
  for (int bits = 16; bits > 0; bits /= 2) v += __shfl_xor_sync(0xffffffffu, v, bits);
  if (threadIdx.x == 0) out[0] = v;
}
__global__ void write_at(float* out, int i) {
  if (threadIdx.x == 0) out[i] = 1;
}
__global__ void read_shared(float* out, bool dynamic) {
  TENUN_SHARED(float, fixed, 32);
  TENUN_DYNAMIC_SHARED(float, sized);
  out[threadIdx.x] = dynamic ? sized[threadIdx.x] : fixed[threadIdx.x];
}
// Two stages of copies; `wait` is what a kernel might forget.
template <bool wait>
__global__ void copy_async(float* out, const float* x) {
  TENUN_SHARED(float4, stage, 32);
  const int t = static_cast<int>(threadIdx.x);
  emulated::cp_async16(stage + t, x + 4 * t);
  emulated::cp_commit();
  if constexpr (wait) emulated::cp_wait<0>();
  __syncthreads();
  out[t] = stage[31 - t].y;
}
// C = start + A B with B's columns given as rows, 16 x 16 times 16 x 8, the fragments loaded by
// ldmatrix.
__global__ void multiply(float* c, const bf16* a, const bf16* b, int swapped, float start) {
  TENUN_SHARED(bf16, tile, 16 * 16 + 8 * 16);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * 16; i += 32) tile[i] = a[i];
  for (int i = lane; i < 8 * 16; i += 32) tile[16 * 16 + i] = b[i];
  __syncwarp();
  unsigned fa[4], fb[4];
  emulated::ldmatrix_x4(fa, tile + (lane % 16) * 16 + lane / 16 * 8);
  emulated::ldmatrix_x4(fb, tile + 16 * 16 + lane % 8 * 16 + lane / 8 % 2 * 8);
  float d[4] = {start, start, start, start};
  emulated::mma_bf16(d, fa, fb[swapped], fb[1 - swapped]);
  const int g = lane / 4, t = lane % 4;
  for (int e = 0; e < 4; ++e) c[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = d[e];
}

}  // namespace

TEST_SUITE("cuda_emulation") {
  TEST_CASE("blocks sum by barriers and by shuffles under every schedule") {
    init();
    REQUIRE(has_device(DeviceType::emulated));
    Tensor x = counting(512);
    for (const Settings& s : schedules()) {
      const With with(s);
      Tensor y = Tensor::zeros({4}, DType::f32, kEmulated);
      launch(sum_block<Fault::none>, 4, 128, 0, pointer<float>(y), pointer<float>(x));
      for (int b = 0; b < 4; ++b)
        CHECK(y.values<float>()[static_cast<size_t>(b)] == 8128 + b * 16384);
      launch(sum_warp<Fault::none>, 1, 32, 0, pointer<float>(y), pointer<float>(x));
      CHECK(y.values<float>()[0] == 496);
    }
  }

  TEST_CASE("a missing barrier shows under some schedule") {
    init();
    Tensor x = counting(128);
    int wrong = 0;
    for (const Settings& s : schedules()) {
      const With with(s);
      Tensor y = Tensor::zeros({1}, DType::f32, kEmulated);
      launch(sum_block<Fault::no_barrier>, 1, 128, 0, pointer<float>(y), pointer<float>(x));
      if (y.item() != 8128) ++wrong;
    }
    CHECK(wrong > 0);
  }

  TEST_CASE("barriers and warp operations that not all reach are faults that name the op") {
    init();
    Tensor x = counting(128), y = Tensor::zeros({1}, DType::f32, kEmulated);
    float* const out = pointer<float>(y);
    const float* const in = pointer<float>(x);
    const detail::DeviceCall call("my op");
    CHECK_THROWS_WITH_AS(launch(sum_block<Fault::divergent>, 1, 128, 0, out, in),
                         doctest::Contains("my op: emulated kernel: threads of a block wait at"),
                         DeviceError);
    CHECK_THROWS_WITH_AS(launch(sum_warp<Fault::wrong_mask>, 1, 32, 0, out, in),
                         doctest::Contains("not all of its threads reach"), DeviceError);
    CHECK_NOTHROW(launch(sum_warp<Fault::none>, 1, 32, 0, out, in));  // it recovers
  }

  TEST_CASE("writes beyond shared arrays and beyond tensors are faults") {
    init();
    Tensor x = counting(128), y = Tensor::zeros({3}, DType::f32, kEmulated);
    float* const out = pointer<float>(y);
    const float* const in = pointer<float>(x);
    CHECK_THROWS_WITH_AS(launch(sum_block<Fault::shared_end>, 1, 128, 0, out, in),
                         doctest::Contains("beyond a shared array"), DeviceError);
    CHECK_THROWS_WITH_AS(launch(sum_block<Fault::shared_start>, 1, 128, 0, out, in),
                         doctest::Contains("beyond a shared array"), DeviceError);
    CHECK_THROWS_WITH_AS(launch(write_at, 1, 32, 0, out, 3),
                         doctest::Contains("behind a tensor of 12 bytes, at byte 12"), DeviceError);
    CHECK_THROWS_WITH_AS(launch(write_at, 1, 32, 0, out, -1),
                         doctest::Contains("before a tensor of 12 bytes, at byte -4"), DeviceError);
    CHECK_NOTHROW(launch(write_at, 1, 32, 0, out, 2));
  }

  TEST_CASE("what nobody wrote is poison: other bits under the other pattern") {
    init();
    for (const uint8_t poison : {0xff, 0x7b}) {
      const With with({.poison = poison});
      uint32_t word = poison;
      word *= 0x01010101u;
      Tensor fresh({8}, DType::f32, kEmulated);
      for (const float v : fresh.values<float>()) CHECK(std::bit_cast<uint32_t>(v) == word);
      for (const bool dynamic : {false, true}) {
        Tensor y = Tensor::zeros({32}, DType::f32, kEmulated);
        launch(read_shared, 1, 32, 128, pointer<float>(y), dynamic);
        for (const float v : y.values<float>()) CHECK(std::bit_cast<uint32_t>(v) == word);
      }
    }
  }

  TEST_CASE("copies land at the wait; a forgotten wait is a fault") {
    init();
    Tensor x = counting(128), y = Tensor::zeros({32}, DType::f32, kEmulated);
    for (const bool eager : {false, true}) {
      const With with({.eager_copies = eager});
      launch(copy_async<true>, 1, 32, 0, pointer<float>(y), pointer<float>(x));
      for (int t = 0; t < 32; ++t)
        CHECK(y.values<float>()[static_cast<size_t>(t)] == static_cast<float>(4 * (31 - t) + 1));
    }
    const With lazy({.eager_copies = false});
    CHECK_THROWS_WITH_AS(launch(copy_async<false>, 1, 32, 0, pointer<float>(y), pointer<float>(x)),
                         doctest::Contains("nobody waited for"), DeviceError);
    CHECK(std::isnan(y.values<float>()[0]));
  }

  TEST_CASE(
      "a product of fragments is the matrix product, rounded towards zero; swapped halves are "
      "not") {
    init();
    std::vector<float> a(256), b(128);
    for (size_t i = 0; i < a.size(); ++i)
      a[i] = static_cast<float>(static_cast<int>(i * 7 % 13) - 6);
    for (size_t i = 0; i < b.size(); ++i)
      b[i] = static_cast<float>(static_cast<int>(i * 5 % 11) - 5);
    Tensor ta = Tensor::from(a, {16, 16}).to(DType::bf16).to(kEmulated);
    Tensor tb = Tensor::from(b, {8, 16}).to(DType::bf16).to(kEmulated);
    Tensor c({16, 8}, DType::f32, kEmulated);
    const auto wrong = [&](int swapped, float start) {
      launch(multiply, 1, 32, 0, pointer<float>(c), pointer<bf16>(ta), pointer<bf16>(tb), swapped,
             start);
      const auto got = c.values<float>();
      int n = 0;
      for (size_t i = 0; i < 16; ++i)
        for (size_t j = 0; j < 8; ++j) {
          double exact = start;
          for (size_t k = 0; k < 16; ++k) exact += a[i * 16 + k] * b[j * 16 + k];
          auto want = static_cast<float>(exact);
          if (std::abs(want) > std::abs(exact)) want = std::nextafter(want, 0.0f);
          n += got[i * 8 + j] != want;
        }
      return n;
    };
    // Beyond 2^24 floats are 2 apart, and 4 beyond 2^25.
    for (const float start : {0.0f, 0x1p24f, -0x1p24f, 0x1p25f, -0x1p25f})
      CHECK(wrong(0, start) == 0);
    CHECK(wrong(1, 0) > 0);
  }

  TEST_CASE("E4M3: codes, and products widened to f16 as the hardware would do them") {
    init();
    // By the definition: the nearest of all values, of two equally near ones the even code.
    const auto value = [](unsigned code) {
      const int e = static_cast<int>(code >> 3), m = static_cast<int>(code & 7);
      return e == 0 ? std::ldexp(m, -9) : std::ldexp(8 + m, e - 10);
    };
    const auto nearest = [&](double x) {
      unsigned best = 0;
      for (unsigned c = 1; c <= 0x7e; ++c) {
        const double gain = std::abs(value(best) - x) - std::abs(value(c) - x);
        if (gain > 0 || (gain == 0 && c % 2 == 0)) best = c;
      }
      return best;
    };
    for (unsigned c = 0; c <= 0x7e; ++c) {
      const auto at = static_cast<float>(value(c)),
                 next = static_cast<float>(value(c < 0x7e ? c + 1 : c));
      for (const float x : {at, (at + next) / 2, std::nextafter((at + next) / 2, 0.0f),
                            std::nextafter((at + next) / 2, 500.0f), at + (next - at) / 3}) {
        CAPTURE(x);
        CHECK(emulated::e4m3_of(x) == nearest(x));
        CHECK(emulated::e4m3_of(-x) == (nearest(x) | 0x80u));
        CHECK(emulated::pack_positive_e4m3(x, at, 0, 448) == (nearest(x) | c << 8 | 0x7eu << 24));
      }
    }
    CHECK(emulated::e4m3_of(1e9f) == 0x7e);
    CHECK(emulated::e4m3_of(NAN) == 0x7f);
    // Every code once in A, against a matrix of small numbers.
    Tensor different({2}, DType::f32, kEmulated);
    launch(compare_e4m3, 1, 32, 0, pointer<float>(different));
    for (const float d : different.values<float>()) CHECK(d == 0);
  }

  TEST_CASE("the host cannot reach device memory, and is told so") {
    init();
    const Tensor x = counting(4);
    CHECK_THROWS_WITH_AS((void)x.data<float>(), doctest::Contains("use to(cpu())"), DeviceError);
    CHECK_THROWS_WITH_AS((void)x.raw(), doctest::Contains("emulated"), DeviceError);
    CHECK(x.values<float>()[3] == 3);
  }

  TEST_CASE("launches that no GPU would take are refused") {
    init();
    Tensor y = Tensor::zeros({3}, DType::f32, kEmulated);
    float* const out = pointer<float>(y);
    CHECK_THROWS_AS(launch(write_at, 1, 2048, 0, out, 0), DeviceError);
    CHECK_THROWS_AS(launch(write_at, dim3(1, 70000), 32, 0, out, 0), DeviceError);
    CHECK_THROWS_AS(launch(write_at, 0, 32, 0, out, 0), DeviceError);
    CHECK_THROWS_AS(launch(write_at, 1, 32, 300000, out, 0), DeviceError);
  }
}
