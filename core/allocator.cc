#include "tenun/core/allocator.h"

#include "tenun/core/check.h"

namespace tenun {
namespace {

constexpr size_t kSmall = size_t{1} << 20;
constexpr size_t kLargest = ~size_t{0} / 4;  // beyond, rounding up could overflow
// Small blocks come in steps of 512 bytes, large ones of 64 KiB: few sizes, little waste.
size_t round_up(size_t bytes) {
  const size_t step = bytes < kSmall ? 512 : size_t{64} << 10;
  return (std::max<size_t>(bytes, 1) + step - 1) / step * step;
}

}  // namespace

void* CachingAllocator::allocate(size_t bytes) {
  check<OutOfMemory>(bytes <= kLargest, "allocate", "{} bytes on {}", bytes,
                     Device{type_, 0}.str());
  DeviceOps& ops = device_ops(type_);
  const size_t want = ops.caches() ? round_up(bytes) : std::max<size_t>(bytes, 1);
  std::lock_guard lock(mutex_);
  ++stats_.requests;
  void* p = nullptr;
  size_t size = want;
  // Best fit, but never a block more than an eighth too large: that would waste it.
  if (auto it = free_.lower_bound(want); it != free_.end() && it->first <= want + want / 8) {
    p = it->second;
    size = it->first;
    free_.erase(it);
    stats_.cached -= size;
  } else {
    ++stats_.raw_allocations;
    p = ops.allocate(want);
    if (p == nullptr) {
      if (!holding_) ops.synchronize();  // what is given back then was idle before the recording
      flush_locked();
      p = ops.allocate(want);
    }
    if (p == nullptr)
      fail<OutOfMemory>("allocate",
                        "{} bytes on {}: {} in use, peak {}, nothing cached; use a smaller batch, "
                        "gradient checkpointing or accumulation",
                        bytes, Device{type_, 0}.str(), stats_.live, stats_.peak);
  }
  live_.emplace(p, size);
  stats_.live += size;
  stats_.peak = std::max(stats_.peak, stats_.live);
  stats_.peak_total = std::max(stats_.peak_total, stats_.live + stats_.cached);
  return p;
}

void CachingAllocator::release(void* p) noexcept {
  std::lock_guard lock(mutex_);
  const auto it = live_.find(p);
  if (it == live_.end()) return;
  const size_t size = it->second;
  live_.erase(it);
  stats_.live -= size;
  DeviceOps& ops = device_ops(type_);
  if (!ops.caches()) return ops.release(p, size);
  stats_.cached += size;
  free_.emplace(size, p);
  if (holding_) held_.insert(p);
}

void CachingAllocator::flush_locked() noexcept {
  for (auto it = free_.begin(); it != free_.end();) {
    const auto [size, p] = *it;
    if (held_.contains(p)) {
      ++it;
      continue;
    }
    device_ops(type_).release(p, size);
    stats_.cached -= size;
    it = free_.erase(it);
  }
}

void CachingAllocator::hold_released(bool on) {
  std::lock_guard lock(mutex_);
  holding_ = on;
  held_.clear();
}

void CachingAllocator::flush() noexcept {
  std::lock_guard lock(mutex_);
  flush_locked();
}

MemoryStats CachingAllocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak = stats_.live;
  stats_.peak_total = stats_.live + stats_.cached;
}

CachingAllocator& allocator(DeviceType type) {
  // Never destroyed: tensors in statics may outlive any order of destruction.
  static auto* const all = new CachingAllocator[kDeviceTypes]{
      CachingAllocator(DeviceType::cpu), CachingAllocator(DeviceType::cuda),
      CachingAllocator(DeviceType::emulated)};
  return all[static_cast<int>(type)];
}

}  // namespace tenun
