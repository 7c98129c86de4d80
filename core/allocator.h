// A caching allocator, one for each type of device: freed blocks are kept and handed out again, so
// a training step that repeats its sizes makes no raw allocation. When the device is out of memory
// the cache is flushed and the request tried once more; then OutOfMemory tells the counters.
// A device that does not want that (DeviceOps::caches) gets every block back at once.
// Thread-safe. On CUDA a freed block is reused at once: one stream for each device is the rule.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "tenun/core/device.h"

namespace tenun {

struct MemoryStats {
  size_t live = 0;               ///< bytes in use by tensors
  size_t cached = 0;             ///< bytes kept for reuse
  size_t peak = 0;               ///< largest `live` so far
  size_t peak_total = 0;         ///< largest `live + cached` so far
  uint64_t raw_allocations = 0;  ///< requests that reached the system
  uint64_t requests = 0;
};

class CachingAllocator {
 public:
  explicit CachingAllocator(DeviceType type) : type_(type) {}
  [[nodiscard]] void* allocate(size_t bytes);
  void release(void* p) noexcept;
  void flush() noexcept;  ///< gives all cached blocks back to the system
  [[nodiscard]] MemoryStats stats() const;
  void reset_peak();
  /// While a graph is recorded (core/device_graph.h): blocks released from now on may be handed out
  /// again, since recorded work keeps its order, but do not go back to the system before it ends.
  void hold_released(bool on);

 private:
  void flush_locked() noexcept;
  DeviceType type_;
  mutable std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  std::unordered_map<void*, size_t> live_;
  bool holding_ = false;
  std::unordered_set<void*> held_;  ///< released while holding_
  MemoryStats stats_;
};

[[nodiscard]] CachingAllocator& allocator(DeviceType type);
[[nodiscard]] inline MemoryStats memory_stats(DeviceType type = DeviceType::cpu) {
  return allocator(type).stats();
}

}  // namespace tenun
