// The caching allocator on a device of its own, which counts what reaches the system and can be
// made to run out of memory.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tenun/core/allocator.h"
#include "tenun/core/tensor.h"

using namespace tenun;

namespace {

// Stands in for the CUDA backend while it lives; its memory goes with it.
class CountingDevice final : public DeviceOps {
 public:
  CountingDevice()
      : before_(has_device(DeviceType::cuda) ? &device_ops(DeviceType::cuda) : nullptr) {
    set_device_ops(DeviceType::cuda, this);
  }
  ~CountingDevice() override {
    set_device_ops(DeviceType::cuda, before_);
    for (void* p : blocks_) std::free(p);
  }
  CountingDevice(const CountingDevice&) = delete;
  CountingDevice& operator=(const CountingDevice&) = delete;

  void* allocate(size_t bytes) override {
    if (held + bytes > limit) return nullptr;
    ++allocations, held += bytes;
    const std::scoped_lock lock(mutex_);
    return *blocks_.insert(std::malloc(bytes)).first;
  }
  void release(void* p, size_t bytes) noexcept override {
    ++releases, held -= bytes;
    const std::scoped_lock lock(mutex_);
    blocks_.erase(p);
    std::free(p);
  }
  void copy_bytes(void*, Device, const void*, Device, size_t) override {}
  void copy(Span, Span) override {}
  void fill(Span, double) override {}
  void add_into(Span, Span) override {}
  bool all_finite(Span) override { return true; }
  void draw(Span, const Draws&) override {}
  void synchronize() override { ++synchronised; }

  std::atomic<size_t> held{0}, limit{size_t{1} << 40};
  std::atomic<int> allocations{0}, releases{0}, synchronised{0};

 private:
  DeviceOps* before_;
  std::mutex mutex_;
  std::set<void*> blocks_;
};

}  // namespace

TEST_SUITE("core_allocator") {
  TEST_CASE("freed blocks are handed out again") {
    CountingDevice device;
    CachingAllocator a(DeviceType::cuda);
    void* const p = a.allocate(1000);
    a.release(p);
    CHECK(a.allocate(900) == p);  // the same block of 1024 bytes
    CHECK(a.stats().live == 1024);
    void* const q = a.allocate(1000);
    CHECK(q != p);
    a.release(p);
    a.release(q);
    CHECK(device.allocations == 2);
    CHECK(a.stats().raw_allocations == 2);
    CHECK(a.stats().requests == 3);
    CHECK(a.stats().cached == 2048);
    a.flush();
    CHECK(device.releases == 2);
    CHECK(device.held == 0);
  }

  TEST_CASE("the best fit is taken, and a block that is far too large is not") {
    CountingDevice device;
    CachingAllocator a(DeviceType::cuda);
    void* const large = a.allocate(size_t{8} << 20);
    void* const fit = a.allocate((size_t{4} << 20) + (size_t{256} << 10));
    a.release(large);
    a.release(fit);
    CHECK(a.allocate(size_t{4} << 20) == fit);    // a sixteenth too large
    CHECK(a.allocate(size_t{5} << 20) != large);  // three fifths too large
    CHECK(device.allocations == 3);
    CHECK(a.allocate(size_t{8} << 20) == large);
  }

  TEST_CASE("counters: live, cached, peaks") {
    CountingDevice device;
    CachingAllocator a(DeviceType::cuda);
    void* const p = a.allocate(512);
    void* const q = a.allocate(1024);
    CHECK(a.stats().peak == 1536);
    a.release(p);
    CHECK(a.stats().live == 1024);
    CHECK(a.stats().cached == 512);
    CHECK(a.stats().peak == 1536);
    a.reset_peak();
    CHECK(a.stats().peak == 1024);
    CHECK(a.stats().peak_total == 1536);
    a.release(q);
    a.release(q);  // what is not live is left alone
    int other = 0;
    a.release(&other);
    CHECK(a.stats().live == 0);
    CHECK(a.stats().cached == 1536);
    a.flush();
    CHECK(a.stats().cached == 0);
  }

  TEST_CASE("zero bytes are a block like any other") {
    CountingDevice device;
    CachingAllocator a(DeviceType::cuda);
    void* const p = a.allocate(0);
    CHECK(p != nullptr);
    CHECK(a.allocate(0) != p);
    a.release(p);
  }

  TEST_CASE("what is released while a graph is recorded stays, what was idle before may go") {
    CountingDevice device;
    CachingAllocator a(DeviceType::cuda);
    constexpr size_t kMiB = size_t{1} << 20;
    device.limit = 8 * kMiB;
    void* const used = a.allocate(3 * kMiB);
    a.release(a.allocate(4 * kMiB));  // idle
    a.hold_released(true);
    a.release(used);
    CHECK(a.allocate(3 * kMiB) == used);  // recorded work keeps its order
    a.release(used);
    CHECK(a.allocate(2 * kMiB) != nullptr);  // makes room by the idle block alone
    CHECK(device.releases == 1);
    CHECK(device.synchronised == 0);
    CHECK(a.stats().cached == 3 * kMiB);
    CHECK_THROWS_AS((void)a.allocate(6 * kMiB), OutOfMemory);
    CHECK(device.releases == 1);
    a.hold_released(false);
    CHECK(a.allocate(6 * kMiB) != nullptr);
    CHECK(device.releases == 2);
  }

  TEST_CASE(
      "out of memory: the cache is flushed and the request tried again, then it is an error") {
    CountingDevice device;
    CachingAllocator a(DeviceType::cuda);
    device.limit = size_t{4} << 20;
    a.release(a.allocate(size_t{3} << 20));
    void* const p = a.allocate(size_t{2} << 20);  // fits after the flush only
    CHECK(p != nullptr);
    CHECK(device.synchronised == 1);
    CHECK(device.releases == 1);
    const MemoryStats before = a.stats();
    CHECK_THROWS_AS((void)a.allocate(size_t{3} << 20), OutOfMemory);
    CHECK(a.stats().live == before.live);
    CHECK_THROWS_WITH_AS((void)a.allocate(size_t{8} << 20),
                         doctest::Contains("8388608 bytes on cuda:0: 2097152 in use"), OutOfMemory);
    CHECK_THROWS_AS((void)a.allocate(~size_t{0}), OutOfMemory);  // must not wrap around
    a.release(p);
    CHECK(a.allocate(size_t{2} << 20) == p);  // still in order
  }

  TEST_CASE("a repeated loop of tensors reaches the system no more") {
    const auto step = [] {
      const Tensor x = Tensor::zeros({100, 333});
      const Tensor y = x.transpose(0, 1).contiguous();
      const Tensor z = y.to(DType::bf16).to(DType::f64);
      return z.numel();
    };
    (void)step();
    const MemoryStats before = memory_stats();
    for (int i = 0; i < 50; ++i) CHECK(step() == 33300);
    const MemoryStats after = memory_stats();
    CHECK(after.raw_allocations == before.raw_allocations);
    CHECK(after.requests > before.requests);
    CHECK(after.live == before.live);
    CHECK(after.peak_total == before.peak_total);
  }

  TEST_CASE("tensor memory is aligned to 64 bytes") {
    for (const int64_t n : {1, 100, 5000, 3000000}) {
      const Tensor x({n}, DType::f32);
      CHECK(reinterpret_cast<uintptr_t>(x.data<float>()) % 64 == 0);
    }
  }

  TEST_CASE("threads never share a block") {
    CountingDevice device;
    CachingAllocator a(DeviceType::cuda);
    std::atomic<int> torn{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) {
          const size_t n = 512 * static_cast<size_t>(1 + (i * 7 + t) % 5);
          void* const p = a.allocate(n);
          void* const q = a.allocate(n);
          std::memset(p, t, n);
          std::memset(q, t + 8, n);
          const auto* c = static_cast<const unsigned char*>(p);
          for (size_t k = 0; k < n; k += 64)
            if (c[k] != t) ++torn;
          a.release(p);
          a.release(q);
        }
      });
    for (std::thread& t : threads) t.join();
    CHECK(torn == 0);
    CHECK(a.stats().live == 0);
    CHECK(a.stats().requests == 4000);
    CHECK(a.stats().cached == device.held);
    a.flush();
    CHECK(device.held == 0);
  }
}
