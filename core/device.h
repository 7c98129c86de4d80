// Devices, and the few operations on raw memory that core and autograd need by themselves. A
// backend (CPU here, CUDA in cuda/) implements DeviceOps and is set once at start.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tenun/core/dtype.h"
#include "tenun/core/layout.h"

namespace tenun {

enum class DeviceType : uint8_t { cpu, cuda };
inline constexpr int kDeviceTypes = 2;

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  constexpr bool operator==(const Device&) const = default;
  [[nodiscard]] std::string str() const;  ///< "cpu", "cuda:0"
};
[[nodiscard]] constexpr Device cpu() { return {}; }
/// "cpu", "cuda", "cuda:1"; ValueError otherwise.
[[nodiscard]] Device device_from_name(std::string_view name);

/// Typed memory with a layout: what DeviceOps work on.
struct Span {
  std::byte* data = nullptr;  ///< start of the storage; the layout adds its offset
  DType dtype = DType::f32;
  const Layout* layout = nullptr;
};

class DeviceOps {
 public:
  virtual ~DeviceOps() = default;
  virtual void* allocate(
      size_t bytes) = 0;  ///< raw memory, 64-byte aligned; nullptr when out of it
  virtual void release(void* p, size_t bytes) noexcept = 0;
  virtual void copy_bytes(void* to, Device to_device, const void* from, Device from_device,
                          size_t bytes) = 0;
  virtual void copy(Span to, Span from) = 0;  ///< equal shapes; converts the dtype
  virtual void fill(Span to, double value) = 0;
  virtual void add_into(Span to, Span from) = 0;  ///< to += from; equal shapes and dtypes
  virtual bool all_finite(Span x) = 0;
  virtual void synchronize() = 0;
};

/// DeviceError if no backend of that type is in this build or on this machine.
[[nodiscard]] DeviceOps& device_ops(DeviceType type);
void set_device_ops(DeviceType type, DeviceOps* ops);
[[nodiscard]] bool has_device(DeviceType type);

}  // namespace tenun
