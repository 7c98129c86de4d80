#include "tenun/tests/cuda_emulation/graph.h"

#include <utility>

#include "tenun/core/device_graph.h"
#include "tenun/cuda/runtime.h"

namespace tenun::emulation {

extern constexpr char kCopy = 0, kRelease = 0;
std::vector<Task>* recorded = nullptr;

void record(const void* kind, std::function<void()> work) {
  recorded->push_back({detail::device_call, kind, std::move(work)});
}

namespace {

// Counts as a new executable graph what does not have the same tasks in the same order.
class Graph final : public DeviceGraph {
 public:
  Graph() : DeviceGraph(emulated::kDevice) {}
  [[nodiscard]] int64_t instantiations() const override { return instantiations_; }

 private:
  void begin() override { recorded = &tasks_; }
  void launch() override {
    recorded = nullptr;
    const std::vector<Task> all = std::exchange(tasks_, {});
    std::vector<const void*> kinds;
    for (const Task& t : all)
      if (t.kind != &kRelease) kinds.push_back(t.kind);
    if (kinds != kinds_ || instantiations_ == 0) ++instantiations_, kinds_ = std::move(kinds);
    for (auto it = all.begin(); it != all.end(); ++it) try {
        const detail::DeviceCall call(it->op == nullptr ? "graph" : it->op);
        it->work();
      } catch (...) {
        release(it + 1, all.end());
        throw;
      }
  }
  void abandon() noexcept override {
    recorded = nullptr;
    release(tasks_.begin(), tasks_.end());
    tasks_.clear();
  }
  template <class It>
  static void release(It from, It to) {
    for (; from != to; ++from)
      if (from->kind == &kRelease) from->work();
  }

  std::vector<Task> tasks_;
  std::vector<const void*> kinds_;
  int64_t instantiations_ = 0;
};

}  // namespace
}  // namespace tenun::emulation

namespace tenun::emulated {
std::unique_ptr<DeviceGraph> make_graph() { return std::make_unique<emulation::Graph>(); }
}  // namespace tenun::emulated
