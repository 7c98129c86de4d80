// Device memory of the emulation: every block of memory lies between two red zones and starts full
// of poison, so that a write beyond it is found and a read of what nobody wrote shows in the
// result.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "tenun/core/check.h"
#include "tenun/core/device.h"
#include "tenun/tests/cuda_emulation/block.h"

namespace tenun::emulation {
namespace {

constexpr size_t kZone = 256;
constexpr std::byte kRed{0x5c};

struct Memory {
  std::mutex mutex;
  std::unordered_map<void*, size_t> live;
  std::string damage;  ///< found where nothing can be thrown; the next check tells
};
Memory& memory() {
  static auto* const m = new Memory;  // tensors in statics may outlive it otherwise
  return *m;
}

// "a write behind a tensor of 12 bytes, at byte 12", or "". Every launch looks at every tensor.
std::string damage_of(void* p, size_t bytes) {
  static const auto red = [] {
    std::array<std::byte, kZone> zone;
    zone.fill(kRed);
    return zone;
  }();
  const auto* const data = static_cast<const std::byte*>(p);
  if (std::memcmp(data - kZone, red.data(), kZone) == 0 &&
      std::memcmp(data + bytes, red.data(), kZone) == 0)
    return "";
  const auto* const before = std::find_if_not(data - kZone, data, [](auto b) { return b == kRed; });
  if (before != data)
    return fmt::format("a write before a tensor of {} bytes, at byte {}", bytes, before - data);
  const auto* const end = data + bytes;
  const auto* const after = std::find_if_not(end, end + kZone, [](auto b) { return b == kRed; });
  if (after != end + kZone)
    return fmt::format("a write behind a tensor of {} bytes, at byte {}", bytes, after - data);
  return "";
}

}  // namespace

void* allocate(size_t bytes) {
  const size_t all = (bytes + 2 * kZone + 255) / 256 * 256;
  auto* const start = static_cast<std::byte*>(std::aligned_alloc(256, all));
  if (start == nullptr) return nullptr;
  std::memset(start, static_cast<int>(kRed), kZone);
  std::memset(start + kZone, settings().poison, bytes);
  std::memset(start + kZone + bytes, static_cast<int>(kRed), all - kZone - bytes);
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  m.live.emplace(start + kZone, bytes);
  return start + kZone;
}

void release(void* p) noexcept {
  if (p == nullptr) return;
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  const auto it = m.live.find(p);
  if (it == m.live.end()) return;
  if (std::string d = damage_of(p, it->second); !d.empty() && m.damage.empty())
    m.damage = std::move(d);
  // Whoever reads it later is to see that.
  std::memset(p, settings().poison, it->second);
  m.live.erase(it);
  std::free(static_cast<std::byte*>(p) - kZone);
}

void check_red_zones() {
  Memory& m = memory();
  const std::lock_guard lock(m.mutex);
  std::string damage = std::exchange(m.damage, {});
  for (const auto& [p, bytes] : m.live) {
    if (std::string d = damage_of(p, bytes); !d.empty()) {
      // Told once: the zones are made whole again.
      std::memset(static_cast<std::byte*>(p) - kZone, static_cast<int>(kRed), kZone);
      std::memset(static_cast<std::byte*>(p) + bytes, static_cast<int>(kRed), kZone);
      if (damage.empty()) damage = std::move(d);
    }
  }
  const char* const op = detail::device_call == nullptr ? "emulation" : detail::device_call;
  check<DeviceError>(damage.empty(), op, "emulated kernel: {}", damage);
}

}  // namespace tenun::emulation
