#include "tenun/core/device_graph.h"

#include "tenun/core/allocator.h"
#include "tenun/core/check.h"

namespace tenun {
namespace {

std::unique_ptr<DeviceGraph> (*makers[kDeviceTypes])() = {};

bool& recording_on(DeviceType type) {
  static bool all[kDeviceTypes] = {};
  return all[static_cast<size_t>(type)];
}

// While it lives, the device's calls are recorded, and no memory goes back to the system that
// recorded work may use.
class Recording {
 public:
  explicit Recording(DeviceType type) : type_(type) {
    recording_on(type_) = true;
    allocator(type_).hold_released(true);
  }
  ~Recording() {
    allocator(type_).hold_released(false);
    recording_on(type_) = false;
  }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

 private:
  DeviceType type_;
};

}  // namespace

void DeviceGraph::run(const std::function<void()>& step) {
  check<DeviceError>(!detail::recording(type_), "graph", "a step is being recorded already");
  {
    const Recording recording(type_);
    begin();
    try {
      step();
    } catch (...) {
      abandon();
      throw;
    }
  }
  launch();
}

std::unique_ptr<DeviceGraph> make_device_graph(Device device) {
  (void)device_ops(device.type);  // is it there?
  const auto make = makers[static_cast<size_t>(device.type)];
  check<DeviceError>(make != nullptr, "graph",
                     "{} has none: it has done everything when a call returns", device);
  return make();
}
void set_graph_maker(DeviceType type, std::unique_ptr<DeviceGraph> (*make)()) {
  makers[static_cast<size_t>(type)] = make;
}

namespace detail {
bool recording(DeviceType type) { return recording_on(type); }
void refuse_while_recording(DeviceType type, const char* what) {
  if (recording(type)) [[unlikely]]
    fail<DeviceError>(device_call == nullptr ? "graph" : device_call,
                      "{}, in the middle of a step that is recorded as a graph: the device starts "
                      "it only when the step is whole",
                      what);
}
}  // namespace detail

}  // namespace tenun
