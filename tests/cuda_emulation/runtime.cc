// cuda/runtime.h for the emulated device: memory with red zones, kernels that have finished when
// their launch returns.
#include "tenun/cuda/runtime.h"

#include <cstring>
#include <vector>

#include "tenun/cuda/matmul.h"
#include "tenun/tests/cuda_emulation/block.h"
#include "tenun/tests/cuda_emulation/graph.h"

namespace tenun::emulated {

Found look_for_device() { return {true, "CUDA kernels on the CPU"}; }
void* allocate_raw(size_t bytes) { return emulation::allocate(bytes); }
void release_raw(void* p) noexcept {
  if (emulation::recorded == nullptr) return emulation::release(p);
  emulation::record(&emulation::kRelease, [p] { emulation::release(p); });
}
void copy_raw(void* to, const void* from, size_t bytes, Way way) {
  if (way == Way::to_host)
    detail::refuse_while_recording(kDevice, "the host reads memory of the device");
  if (emulation::recorded == nullptr) {
    std::memcpy(to, from, bytes);
  } else if (way == Way::on_device) {
    emulation::record(&emulation::kCopy, [=] { std::memcpy(to, from, bytes); });
  } else {  // the caller's memory may change before it runs
    const auto* const start = static_cast<const std::byte*>(from);
    emulation::record(&emulation::kCopy, [to, kept = std::vector(start, start + bytes)] {
      std::memcpy(to, kept.data(), kept.size());
    });
  }
}
void synchronize() {
  detail::refuse_while_recording(kDevice, "the host waits for the device");
  emulation::check_red_zones();
}
size_t shared_limit() { return emulation::settings().shared_limit; }
/// Nor is there a library of matrix products: our own kernels are what is to be tested.
bool blas_product(const MatrixProduct&) { return false; }

}  // namespace tenun::emulated
