// Device memory for the duration of a call, from the device's allocator.
#pragma once
#include "tenun/core/allocator.h"
#include "tenun/cuda/runtime.h"

namespace tenun::TENUN_BACKEND {

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : p_(static_cast<T*>(allocator(kDevice).allocate(static_cast<size_t>(count) * sizeof(T)))) {}
  ~Scratch() { allocator(kDevice).release(p_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] T* get() const { return p_; }

 private:
  T* p_;
};

/// One number that a kernel leaves for the host.
template <class T>
[[nodiscard]] T read_one(const T* p) {
  T v{};
  copy_raw(&v, p, sizeof(T), Way::to_host);
  return v;
}
template <class T>
void write_one(T* p, T v) {
  copy_raw(p, &v, sizeof(T), Way::to_device);
}

}  // namespace tenun::TENUN_BACKEND
