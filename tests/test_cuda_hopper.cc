// What Hopper adds, on the emulated device: the twins of TMA, mbarriers and wgmma against plain
// loops, and faults in their use.
#define TENUN_BACKEND emulated
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "tenun/cuda/hopper.h"
#include "tenun/init.h"
#include "tenun/tests/attention_util.h"
#include "tenun/tests/emulated_util.h"

using namespace tenun;
using namespace tenun::test;
using emulated::launch;
using emulated::TensorMap;
using emulated::TensorSource;

namespace {

// One box, brought by thread 0 and written out by row and column, whatever its place.
__global__ void read_box(uint16_t* out, const __grid_constant__ TensorMap map, int column, int row,
                         int head, int batch) {
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char* const tile = memory + (-emulated::shared_address(memory) & 1023u);
  auto* const full = reinterpret_cast<uint64_t*>(tile + emulated::kBoxBytes);
  if (threadIdx.x == 0) {
    emulated::barrier_init(full, 1);
    emulated::barriers_ready();
    emulated::barrier_expect(full, emulated::kBoxBytes);
    emulated::load_box(tile, map, full, column, row, head, batch);
  }
  __syncthreads();
  emulated::barrier_wait(full, 0);
  for (int i = static_cast<int>(threadIdx.x); i < 64 * 64; i += 32) {
    const int r = i / 64, c = i % 64;
    std::memcpy(out + i, tile + r * 128 + ((c / 8) ^ (r % 8)) * 16 + c % 8 * 2, 2);
  }
}

// D (+)= A B of one warpgroup, 64 x N and 32 deep: the operands as they would lie without a swizzle
// are given, and put where the swizzle has them. Layouts are written out by hand.
enum class Slip { none, stride, leading, no_wait, no_fence, one_warp, early_write };
template <bool wide, int N, Slip slip>
__global__ void multiply(float* out, const bf16* a, const bf16* b) {
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char* const tile = memory + (-emulated::shared_address(memory) & 1023u);
  unsigned char* const b_tile = tile + 8192;
  const int t = static_cast<int>(threadIdx.x), lane = t % 32, warp = t / 32;
  // (row, column) of a tile of rows of 64 elements = 128 bytes.
  const auto put = [](unsigned char* to, int row, int column, bf16 v) {
    std::memcpy(to + row * 128 + ((column / 8) ^ (row % 8)) * 16 + column % 8 * 2, &v, 2);
  };
  for (int i = t; i < 64 * 64; i += 128) put(tile, i / 64, i % 64, a[i / 64 * 32 + i % 64 % 32]);
  for (int i = t; i < N * 32; i += 128) {
    const int n = i / 32, k = i % 32;
    if (wide)
      put(b_tile + n / 64 * 4096, k, n % 64, b[i]);  // 32 rows of 128 bytes, for 64 columns of B
    else
      put(b_tile, n, k, b[i]);
  }
  __syncthreads();
  float d[N / 8][4];
  for (auto& x : d)
    for (float& y : x) y = 1;
  uint64_t ma = emulated::matrix(tile, 16), mb = emulated::matrix(b_tile, wide ? 4096 : 16);
  if (slip == Slip::stride) mb -= uint64_t{1} << 32;
  if (slip == Slip::leading) mb += uint64_t{1} << 16;
  if (slip != Slip::no_fence) emulated::wgmma_fence();
  unsigned w[2][4];
  for (int step = 0; step < 2; ++step) {
    if constexpr (wide) {
      for (int r = 0; r < 4; ++r) {
        const bf16* const from =
            a + (warp * 16 + lane / 4 + r % 2 * 8) * 32 + step * 16 + lane % 4 * 2 + r / 2 * 8;
        w[step][r] = from[0].bits | static_cast<unsigned>(from[1].bits) << 16;
      }
      emulated::wgmma_ab<bf16>(d, w[step], emulated::further(mb, step * 16 * 128));
    } else {
      if (slip != Slip::one_warp || warp > 0)
        emulated::wgmma_abt<bf16>(d, emulated::further(ma, step * 32),
                                  emulated::further(mb, step * 32), true);
    }
  }
  emulated::wgmma_commit();
  if (slip == Slip::early_write) w[1][0] = 0, d[0][0] = 5;
  if (slip != Slip::no_wait) emulated::wgmma_wait<0>();
  emulated::settle(d);
  for (int n = 0; n < N / 8; ++n)
    for (int e = 0; e < 4; ++e)
      out[(warp * 16 + lane / 4 + e / 2 * 8) * N + n * 8 + lane % 4 * 2 + e % 2] = d[n][e];
}
struct Operands {
  Tensor a, b;
  std::vector<float> want;
};
Operands operands(int n) {
  Operands x;
  x.a = normal({64, 32}, 1).to(DType::bf16), x.b = normal({n, 32}, 2).to(DType::bf16);
  const auto a = x.a.values<float>(), b = x.b.values<float>();
  for (size_t i = 0; i < 64; ++i)
    for (size_t j = 0; j < static_cast<size_t>(n); ++j) {
      float sum = 1;
      for (size_t k = 0; k < 32; ++k) sum += a[i * 32 + k] * b[j * 32 + k];
      x.want.push_back(sum);
    }
  x.a = x.a.to(kEmulated), x.b = x.b.to(kEmulated);
  return x;
}
template <bool wide, int N, Slip slip = Slip::none>
double product_error(Operands& x) {
  Tensor out({64, N}, DType::f32, kEmulated);
  launch(multiply<wide, N, slip>, 1, 128, 1024 + 8192 + 16384, pointer<float>(out),
         pointer<bf16>(x.a), pointer<bf16>(x.b));
  const auto got = out.values<float>();
  double most = 0;
  for (size_t i = 0; i < got.size(); ++i)
    most = std::isnan(got[i]) ? HUGE_VAL : std::fmax(most, std::abs(got[i] - x.want[i]));
  return most;
}

enum class Misuse { none, bytes, more_bytes, parity, unmade, overwritten, registers, unknown };
template <Misuse misuse>
__global__ void misuse_units(float* out, const __grid_constant__ TensorMap map) {
  TENUN_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char* const tile = memory + (-emulated::shared_address(memory) & 1023u);
  auto* const full = reinterpret_cast<uint64_t*>(tile + 2 * emulated::kBoxBytes);
  constexpr int kBytes = 2 * emulated::kBoxBytes;
  if (threadIdx.x == 0) {
    if (misuse != Misuse::unmade) emulated::barrier_init(full, 1);
    if (misuse != Misuse::unknown) emulated::barriers_ready();
    emulated::barrier_expect(full, misuse == Misuse::bytes        ? kBytes / 2
                                   : misuse == Misuse::more_bytes ? kBytes + 2
                                                                  : kBytes);
    emulated::load_box(tile, map, full, 0, 0, 0, 0);
    emulated::load_box(tile + kBytes / 2, map, full, 0, 0, 0, 0);
    if (misuse == Misuse::overwritten) *full = 0;
  }
  if (misuse != Misuse::registers || threadIdx.x < 32) emulated::fewer_registers<40>();
  __syncthreads();
  emulated::barrier_wait(full, misuse == Misuse::parity ? 1 : 0);
  unsigned last = 0;
  std::memcpy(&last, tile + kBytes - 4, 4);
  out[threadIdx.x] = static_cast<float>(last);
}

}  // namespace

TEST_SUITE("cuda_hopper") {
  TEST_CASE("a box is a part of the tensor, with zeros outside of it") {
    init();
    const int64_t kBatches = 2, kHeads = 3, kRows = 70, kColumns = 72;
    // Rows, then heads: strides as models have them.
    Tensor x = normal({kBatches, kRows, kHeads, kColumns}, 3).to(DType::bf16).to(kEmulated);
    const auto values = x.to(cpu()).values<float>();
    const TensorMap map =
        emulated::tensor_map({pointer<bf16>(x), DType::bf16, kColumns, kRows, kHeads, kBatches,
                              kHeads * kColumns, kColumns, kRows * kHeads * kColumns});
    for (const Settings& s : schedules())
      for (const auto& [column, row] : {std::pair{0, 0}, {64, 64}, {0, 40}, {64, 0}, {0, 1000}}) {
        const With with(s);
        Tensor out({64, 64}, DType::bf16, kEmulated);
        launch(read_box, 1, 32, 1024 + emulated::kBoxBytes + 8,
               reinterpret_cast<uint16_t*>(pointer<bf16>(out)), map, column, row, 2, 1);
        const auto got = out.values<float>();
        int wrong = 0;
        for (int64_t r = 0; r < 64; ++r)
          for (int64_t c = 0; c < 64; ++c) {
            const bool inside = row + r < kRows && column + c < kColumns;
            const auto at = ((kRows + row + r) * kHeads + 2) * kColumns + column + c;
            wrong += got[static_cast<size_t>(r * 64 + c)] !=
                     (inside ? values[static_cast<size_t>(at)] : 0.0f);
          }
        CHECK(wrong == 0);
      }
  }

  TEST_CASE("strides that TMA cannot read are not taken") {
    TensorSource x{nullptr, DType::bf16, 64, 10, 2, 1, 64, 640, 0};
    CHECK(emulated::tensor_map_takes(x));
    x.row = 68;
    CHECK_FALSE(emulated::tensor_map_takes(x));
    x.row = 64, x.head = 0;  // one head for all
    CHECK_FALSE(emulated::tensor_map_takes(x));
    x.heads = 1;
    CHECK(emulated::tensor_map_takes(x));
    x.p = reinterpret_cast<const void*>(uintptr_t{8});
    CHECK_FALSE(emulated::tensor_map_takes(x));
  }

  TEST_CASE("products of a warpgroup are matrix products; descriptors mean something") {
    init();
    Operands narrow = operands(64), broad = operands(128);
    for (const Settings& s : schedules()) {
      const With with(s);
      CHECK(product_error<false, 128>(broad) < 1e-4);
      CHECK(product_error<true, 128>(broad) < 1e-4);
      CHECK(product_error<true, 64>(narrow) < 1e-4);
      CHECK(product_error<false, 128, Slip::stride>(broad) > 0.1);
      CHECK(product_error<true, 128, Slip::stride>(broad) > 0.1);
      CHECK(product_error<true, 128, Slip::leading>(broad) > 0.1);
      CHECK(product_error<true, 64, Slip::leading>(narrow) < 1e-4);  // it has no next 64 columns
      CHECK_THROWS_WITH_AS((product_error<true, 64, Slip::no_wait>(narrow)),
                           doctest::Contains("products that nobody waited for"), DeviceError);
      CHECK_THROWS_WITH_AS((product_error<true, 64, Slip::no_fence>(narrow)),
                           doctest::Contains("no fence"), DeviceError);
      CHECK_THROWS_WITH_AS((product_error<false, 128, Slip::one_warp>(broad)),
                           doctest::Contains("four warps of a warpgroup"), DeviceError);
      if (!s.eager_copies) CHECK(product_error<true, 64, Slip::early_write>(narrow) > 0.1);
    }
  }

  TEST_CASE("misused barriers and registers are faults, or other results") {
    init();
    Tensor x = normal({64, 64}, 5).to(DType::bf16).to(kEmulated);
    const TensorMap map =
        emulated::tensor_map({pointer<bf16>(x), DType::bf16, 64, 64, 1, 1, 64, 0, 0});
    const auto run = [&]<Misuse misuse>() {
      Tensor out = Tensor::zeros({128}, DType::f32, kEmulated);
      launch(misuse_units<misuse>, 1, 128, 1024 + 2 * emulated::kBoxBytes + 8, pointer<float>(out),
             map);
      return out.values<float>()[7];
    };
    for (const Settings& s : schedules()) {
      const With with(s);
      const float want = run.operator()<Misuse::none>();
      CHECK_THROWS_WITH_AS(run.operator()<Misuse::unmade>(), doctest::Contains("nobody made"),
                           DeviceError);
      CHECK_THROWS_WITH_AS(run.operator()<Misuse::unknown>(), doctest::Contains("does not know"),
                           DeviceError);
      CHECK_THROWS_WITH_AS(run.operator()<Misuse::overwritten>(), doctest::Contains("overwritten"),
                           DeviceError);
      CHECK_THROWS_WITH_AS(run.operator()<Misuse::registers>(), doctest::Contains("setmaxnreg"),
                           DeviceError);
      // Every thread waits for ever: the message has the state of each.
      CHECK_THROWS_WITH_AS(run.operator()<Misuse::more_bytes>(),
                           doctest::Contains(std::string(128, 'M').c_str()), DeviceError);
      if (s.eager_copies) continue;
      CHECK_THROWS_WITH_AS(run.operator()<Misuse::parity>(), doctest::Contains("nobody waited for"),
                           DeviceError);
      if (s.order == Order::forward) {
        CHECK_THROWS_WITH_AS(run.operator()<Misuse::bytes>(),
                             doctest::Contains("nobody waited for"), DeviceError);
        CHECK(run.operator()<Misuse::none>() == want);
      }
    }
  }
}
