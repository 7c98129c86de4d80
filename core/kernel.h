// A kernel slot: one typed function pointer for each type of device. The CPU function is the
// constructor argument (a constant expression, so there is no question of static order); a backend
// fills its own in one explicit list (cuda/register.cu). A missing kernel is an error that names
// it (MissingKernel). A call is a section of a Profile (core/profile.h) under the kernel's name.
//
//   constinit Kernel<void(Tensor&, const Tensor&)> kernel::softmax{"softmax", softmax_cpu};
//   kernel::softmax(x.device(), y, x);
#pragma once
#include "tenun/core/device.h"
#include "tenun/core/profile.h"

namespace tenun {

namespace detail {
[[noreturn]] void throw_no_kernel(const char* name, Device device);
}

template <class Sig>
class Kernel;

template <class R, class... A>
class Kernel<R(A...)> {
 public:
  using Function = R (*)(A...);
  constexpr Kernel(const char* name, Function cpu) : name_(name), functions_{cpu} {}
  R operator()(Device device, A... a) const {
    const Function f = functions_[static_cast<int>(device.type)];
    if (f == nullptr) [[unlikely]]
      detail::throw_no_kernel(name_, device);
    const Section section(name_);
    if (device.type == DeviceType::cpu) return f(static_cast<A>(a)...);
    const detail::DeviceCall call(name_);
    return f(static_cast<A>(a)...);
  }
  void set(DeviceType type, Function f) { functions_[static_cast<int>(type)] = f; }
  [[nodiscard]] bool has(DeviceType type) const {
    return functions_[static_cast<int>(type)] != nullptr;
  }
  [[nodiscard]] const char* name() const { return name_; }

 private:
  const char* name_;
  Function functions_[kDeviceTypes];
};

}  // namespace tenun
