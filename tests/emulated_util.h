// What the tests of the CUDA kernels share: the device, the emulated device's settings for a while,
// schedules, comparison of bits, addresses of tensors.
#pragma once
#include <cstdlib>
#include <cstring>
#include <vector>

#include "tenun/core/tensor.h"
#include "tenun/init.h"
#include "tenun/tests/cuda_emulation/block.h"

namespace tenun::test {

inline constexpr Device kEmulated{DeviceType::emulated, 0};
/// The first GPU; the emulated device where there is none. TENUN_TEST_DEVICE=cuda|emulated insists
/// on one of them: DeviceError if it is not there.
inline Device gpu() {
  init();
  const char* const wanted = std::getenv("TENUN_TEST_DEVICE");
  const Device device = wanted != nullptr              ? device_from_name(wanted)
                        : has_device(DeviceType::cuda) ? Device{DeviceType::cuda}
                                                       : kEmulated;
  (void)device_ops(device.type);
  return device;
}
using Settings = emulation::Settings;
using Order = Settings::Order;

/// Changes the settings while it lives.
class With {
 public:
  explicit With(const Settings& s) : before_(emulation::settings()) { emulation::settings() = s; }
  ~With() { emulation::settings() = before_; }
  With(const With&) = delete;
  With& operator=(const With&) = delete;

 private:
  Settings before_;
};

/// Four orders, two poisons (NaN and a large number), copies that land late and early.
inline std::vector<Settings> schedules(bool hopper = emulation::settings().hopper) {
  return {{Order::forward, 0, 0xff, false, hopper},
          {Order::reverse, 0, 0x7b, true, hopper},
          {Order::shuffled, 1, 0xff, true, hopper},
          {Order::shuffled, 7, 0x7b, false, hopper}};
}

inline bool equal_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.to(cpu()).contiguous(), y = b.to(cpu()).contiguous();
  return x.nbytes() == y.nbytes() && std::memcmp(x.raw(), y.raw(), x.nbytes()) == 0;
}

/// The address of a tensor's elements, as a kernel slot gets it.
template <class T>
T* pointer(Tensor& t) {
  const detail::DeviceCall call("test");
  return t.mutable_data<T>();
}

}  // namespace tenun::test
