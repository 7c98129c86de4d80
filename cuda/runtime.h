// Private to cuda/: what the backend needs of the machine. cuda/runtime.cu has it for a GPU,
// tests/cuda_emulation/runtime.cc for the emulated device. One stream for each device: everything
// happens in the order in which it was asked for. Errors: DeviceError names the op; a fault inside
// a kernel is found later, at a copy to the host or at synchronize(), and the message lists the ops
// that were started last (TENUN_CUDA_SYNC=1 waits after every launch, so that the op is the one at
// fault).
//
// TENUN_BACKEND is `cuda` or `emulated`: the namespace that holds the backend, and the name of its
// DeviceType. The sources of cuda/ are compiled once for each, by nvcc and by the C++ compiler.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>

#include "tenun/core/device_graph.h"

namespace tenun::TENUN_BACKEND {

inline constexpr DeviceType kDevice = DeviceType::TENUN_BACKEND;

struct Found {
  bool usable = false;
  std::string words;  ///< what there is, or why there is nothing
};
[[nodiscard]] Found look_for_device();

[[nodiscard]] void* allocate_raw(size_t bytes);  ///< nullptr when out of memory
void release_raw(void* p) noexcept;
enum class Way { to_device, to_host, on_device };
/// In the order of the stream; to_host has happened when it returns.
void copy_raw(void* to, const void* from, size_t bytes, Way way);
void synchronize();
/// Bytes of shared memory that a block of threads may have.
[[nodiscard]] size_t shared_limit();
/// What is asked for between DeviceGraph::run's begin and launch becomes a part of the graph.
[[nodiscard]] std::unique_ptr<DeviceGraph> make_graph();

/// Events on the stream; while it lives, every call is a range in a profiler's timeline (NVTX). The
/// emulated device has done everything when a call returns.
class StreamTimeline : public DeviceOps {
 public:
  StreamTimeline();
  void* make_event() override;
  void release_event(void* event) noexcept override;
  void record_event(void* event) override;
  double ms_between(void* from, void* to) override;
};
using Timeline = std::conditional_t<kDevice == DeviceType::cuda, StreamTimeline, DeviceOps>;

}  // namespace tenun::TENUN_BACKEND
