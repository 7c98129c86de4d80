// Devices, and the few operations on raw memory that core and autograd need by themselves. A
// backend (CPU here, CUDA in cuda/) implements DeviceOps and is set once at start. The device
// `emulated` runs the CUDA kernels on the CPU (tests/cuda_emulation), for tests.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tenun/core/dtype.h"
#include "tenun/core/layout.h"

namespace tenun {

enum class DeviceType : uint8_t { cpu, cuda, emulated };
inline constexpr int kDeviceTypes = 3;

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  constexpr bool operator==(const Device&) const = default;
  [[nodiscard]] std::string str() const;  ///< "cpu", "cuda:0", "emulated"
};
[[nodiscard]] constexpr Device cpu() { return {}; }
/// "cpu", "cuda", "cuda:1", "emulated"; ValueError otherwise.
[[nodiscard]] Device device_from_name(std::string_view name);

/// Typed memory with a layout: what DeviceOps work on.
struct Span {
  std::byte* data = nullptr;  ///< start of the storage; the layout adds its offset
  DType dtype = DType::f32;
  const Layout* layout = nullptr;
};

/// Random numbers (core/random.h): a + b u or a + b z, u uniform in [0, 1), z normal.
enum class Distribution : uint8_t { uniform, normal };
struct Draws {
  Distribution distribution = Distribution::uniform;
  uint64_t key = 0;
  float a = 0, b = 1;
};

class DeviceOps {
 public:
  virtual ~DeviceOps() = default;
  virtual void* allocate(
      size_t bytes) = 0;  ///< raw memory, 64-byte aligned; nullptr when out of it
  virtual void release(void* p, size_t bytes) noexcept = 0;
  /// May freed blocks be kept and handed out again? If not, every request comes with its own size:
  /// for devices that watch the bounds of each block.
  [[nodiscard]] virtual bool caches() const { return true; }
  virtual void copy_bytes(void* to, Device to_device, const void* from, Device from_device,
                          size_t bytes) = 0;
  virtual void copy(Span to, Span from) = 0;  ///< equal shapes; converts the dtype
  virtual void fill(Span to, double value) = 0;
  virtual void add_into(Span to, Span from) = 0;  ///< to += from; equal shapes and dtypes
  virtual bool all_finite(Span x) = 0;
  virtual void draw(Span to, const Draws& draws) = 0;  ///< a contiguous floating tensor
  virtual void synchronize() = 0;

  /// Marks in the order of the device's work; here for a device that has done everything when a
  /// call returns. Event below is what to use.
  virtual void* make_event();
  virtual void release_event(void* event) noexcept;
  virtual void record_event(void* event);
  virtual double ms_between(void* from, void* to);  ///< waits until both have happened
};

/// A moment in a device's work, for timing what it does without what the host does meanwhile.
class Event {
 public:
  explicit Event(Device device);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  /// Behind everything that was asked for so far; again: a new moment.
  void record();
  /// Milliseconds since an earlier one of the same device; waits for both.
  [[nodiscard]] double ms_since(const Event& earlier) const;

 private:
  DeviceOps& ops_;
  void* event_;
};

/// DeviceError if no backend of that type is in this build or on this machine.
[[nodiscard]] DeviceOps& device_ops(DeviceType type);
void set_device_ops(DeviceType type, DeviceOps* ops);
[[nodiscard]] bool has_device(DeviceType type);

namespace detail {
/// The kernel slot that runs on this thread for a device other than the CPU; nullptr outside of
/// one. Errors name it, and only inside may memory of such a device be asked for.
extern constinit thread_local const char* device_call;
/// What a backend wants to know of every such call, for a profiler's timeline; nullptr: nothing.
struct CallRanges {
  void (*begin)(const char* kernel) = nullptr;
  void (*end)() = nullptr;
};
extern constinit CallRanges call_ranges;
class DeviceCall {
 public:
  explicit DeviceCall(const char* kernel) : outer_(device_call) {
    device_call = kernel;
    if (call_ranges.begin != nullptr) call_ranges.begin(kernel);
  }
  ~DeviceCall() {
    if (call_ranges.end != nullptr) call_ranges.end();
    device_call = outer_;
  }
  DeviceCall(const DeviceCall&) = delete;
  DeviceCall& operator=(const DeviceCall&) = delete;

 private:
  const char* outer_;
};
}  // namespace detail

}  // namespace tenun
