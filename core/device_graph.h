// A step of a device's work as one piece: what the host asks for while `step` runs is recorded, and
// started behind it with one launch (on CUDA a task graph). The host is free as soon as that is
// asked for, so it records a step while the device works on the one before.
//
//   const auto graph = make_device_graph(device);
//   for (...) graph->run([&] { forward(); backward(); optimizer.step(); });
//   loss.item();                                    // behind it: waits
//
// Every step is recorded anew, so numbers, addresses and random keys may change; as long as the
// same kernels follow each other, the executable graph is only brought up to date.
// Inside of `step` the host cannot see what the device computes: a copy to the host, synchronize(),
// an Event are a DeviceError that names the op. After an error nothing of the step has run.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "tenun/core/device.h"

namespace tenun {

class DeviceGraph {
 public:
  explicit DeviceGraph(DeviceType type) : type_(type) {}
  virtual ~DeviceGraph() = default;
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;

  /// Records what `step` asks of the device, and starts it. One at a time; other threads leave the
  /// device alone meanwhile.
  void run(const std::function<void()>& step);
  /// How often an executable graph was made: 1 while all steps are alike.
  [[nodiscard]] virtual int64_t instantiations() const = 0;

 protected:
  virtual void begin() = 0;
  virtual void launch() = 0;            ///< ends the recording, whatever happens
  virtual void abandon() noexcept = 0;  ///< ends it; nothing runs

 private:
  DeviceType type_;
};

/// DeviceError if the device has no graphs: the CPU has done everything when a call returns.
[[nodiscard]] std::unique_ptr<DeviceGraph> make_device_graph(Device device);
/// A backend's own, set once at start.
void set_graph_maker(DeviceType type, std::unique_ptr<DeviceGraph> (*make)());

namespace detail {
/// Does a graph record what is asked of such a device?
[[nodiscard]] bool recording(DeviceType type);
/// For backends: DeviceError that names the op if a graph records. `what`: "it waits for ...".
void refuse_while_recording(DeviceType type, const char* what);
}  // namespace detail

}  // namespace tenun
