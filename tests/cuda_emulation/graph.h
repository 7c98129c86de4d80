// Work of the emulated device that is recorded as a graph (core/device_graph.h) and runs when that
// is started. Memory that is released meanwhile stays until then: an earlier kernel may use it.
#pragma once
#include <functional>
#include <vector>

namespace tenun::emulation {

struct Task {
  const char* op;    ///< the kernel slot that asked for it
  const void* kind;  ///< the kernel; of copies and releases an address of their own
  std::function<void()> work;
};
extern const char kCopy, kRelease;  ///< their addresses are kinds

/// Where tasks go; nullptr: they run at once.
extern std::vector<Task>* recorded;
void record(const void* kind, std::function<void()> work);

}  // namespace tenun::emulation
