// cuda/runtime.h for a GPU. The runtime library is linked in and looks for the driver by itself, so
// a program with this file starts on a machine that has none.
#include "tenun/cuda/runtime.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include <nvtx3/nvToolsExt.h>

#include "tenun/core/error.h"
#include "tenun/cuda/hopper.h"

namespace tenun::TENUN_BACKEND {
namespace {

// The ops whose kernels were started last: where a fault that shows later may come from.
constexpr size_t kRecent = 8;
std::array<std::atomic<const char*>, kRecent> recent{};
std::atomic<size_t> launches{0};

std::string recent_ops() {
  std::string text;
  const size_t n = launches;
  for (size_t i = n > kRecent ? n - kRecent : 0; i < n; ++i)
    if (const char* op = recent[i % kRecent]) text += (text.empty() ? "" : ", ") + std::string(op);
  return text.empty() ? "none" : text;
}

const char* op_name() { return detail::device_call == nullptr ? "cuda" : detail::device_call; }

void check_cuda(cudaError_t error) {
  if (error == cudaSuccess) return;
  throw DeviceError(std::string(op_name()) + ": CUDA: " + cudaGetErrorString(error) +
                    "; the ops started last: " + recent_ops() +
                    " (TENUN_CUDA_SYNC=1 names the one)");
}

// Pinned memory through which copies go to the device, in pieces: the caller's memory is free again
// at once, and nobody waits for the stream unless it is as many pieces behind as there are slots.
class Staging {
 public:
  static constexpr size_t kBytes = size_t{1} << 20;  ///< of a piece

  Staging() {
    for (Slot& s : slots_) {
      check_cuda(cudaMallocHost(&s.memory, kBytes));
      check_cuda(cudaEventCreateWithFlags(&s.read, cudaEventDisableTiming));
    }
  }
  void copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    for (size_t done = 0; done < bytes; done += kBytes) {
      const size_t n = std::min(kBytes, bytes - done);
      Slot& s = slots_[next_++ % slots_.size()];
      check_cuda(cudaEventSynchronize(s.read));  // at once if it was never recorded
      std::memcpy(s.memory, static_cast<const char*>(from) + done, n);
      check_cuda(cudaMemcpyAsync(static_cast<char*>(to) + done, s.memory, n, cudaMemcpyHostToDevice,
                                 stream));
      check_cuda(cudaEventRecord(s.read, stream));
    }
  }

 private:
  struct Slot {
    void* memory = nullptr;
    cudaEvent_t read = nullptr;
  };
  std::mutex mutex_;
  std::array<Slot, 16> slots_;
  size_t next_ = 0;
};
Staging& staging() {
  static Staging* const s = new Staging;  // the driver may be gone before static destructors run
  return *s;
}

// Pinned copies of what goes to the device in a recorded step. The step reads them when it runs, so
// none is overwritten before it has: `read` happens behind it.
class StepStaging {
 public:
  StepStaging() { check_cuda(cudaEventCreateWithFlags(&read_, cudaEventDisableTiming)); }
  ~StepStaging() {
    for (const Chunk& c : chunks_) (void)cudaFreeHost(c.memory);
    (void)cudaEventDestroy(read_);
  }
  StepStaging(const StepStaging&) = delete;
  StepStaging& operator=(const StepStaging&) = delete;

  void start() {
    check_cuda(cudaEventSynchronize(read_));  // at once if it was never recorded
    for (Chunk& c : chunks_) c.used = 0;
  }
  const void* keep(const void* from, size_t bytes) {
    auto it = std::find_if(chunks_.begin(), chunks_.end(),
                           [&](const Chunk& c) { return c.size - c.used >= bytes; });
    if (it == chunks_.end()) {
      Chunk c{.size = std::max(kChunk, (bytes + kAlign - 1) / kAlign * kAlign)};
      check_cuda(cudaMallocHost(&c.memory, c.size));
      it = chunks_.insert(chunks_.end(), c);
    }
    auto* const at = static_cast<char*>(it->memory) + it->used;
    it->used = std::min(it->size, it->used + (bytes + kAlign - 1) / kAlign * kAlign);
    std::memcpy(at, from, bytes);
    return at;
  }
  void launched() { check_cuda(cudaEventRecord(read_, stream())); }

 private:
  static constexpr size_t kChunk = size_t{4} << 20, kAlign = 256;
  struct Chunk {
    void* memory = nullptr;
    size_t size = 0, used = 0;
  };
  std::vector<Chunk> chunks_;
  cudaEvent_t read_ = nullptr;
};

// A capture of the stream. Relaxed, so that the allocator may ask for memory meanwhile.
class StreamGraph final : public DeviceGraph {
 public:
  StreamGraph() : DeviceGraph(kDevice) {
    check_cuda(cudaEventCreateWithFlags(&before_, cudaEventDisableTiming));
  }
  ~StreamGraph() override {
    (void)cudaStreamSynchronize(stream());  // it may run, and read what staging holds
    if (ready_ != nullptr) (void)cudaGraphExecDestroy(ready_);
    (void)cudaEventDestroy(before_);
  }
  StreamGraph(const StreamGraph&) = delete;
  StreamGraph& operator=(const StreamGraph&) = delete;

  [[nodiscard]] int64_t instantiations() const override { return instantiations_; }
  const void* keep(const void* from, size_t bytes) { return staging_->keep(from, bytes); }
  /// For whoever gives memory back meanwhile: what came before the recording has happened.
  void wait_before() const { (void)cudaEventSynchronize(before_); }

 private:
  void begin() override;
  void launch() override;
  void abandon() noexcept override;
  void make_ready(cudaGraph_t graph);

  std::array<StepStaging, 2> stagings_;  // one step runs, one is recorded
  StepStaging* staging_ = nullptr;
  cudaEvent_t before_ = nullptr;
  cudaGraphExec_t ready_ = nullptr;
  int64_t instantiations_ = 0;
};
StreamGraph* recorder = nullptr;  // the one that records

__global__ void probe() {}  // asked about, never started

bool wait_after_launch() {
  static const bool wait = [] {
    const char* e = std::getenv("TENUN_CUDA_SYNC");
    return e != nullptr && e[0] == '1';
  }();
  return wait;
}

}  // namespace

Found look_for_device() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return {false, "no NVIDIA driver on this machine"};
  int gpus = 0;
  const cudaError_t error = cudaGetDeviceCount(&gpus);
  if (error != cudaSuccess) return {false, cudaGetErrorString(error)};
  if (gpus == 0) return {false, "the driver lists no GPU"};
  cudaDeviceProp p{};
  if (const cudaError_t e = cudaGetDeviceProperties(&p, 0); e != cudaSuccess)
    return {false, cudaGetErrorString(e)};
  const std::string arch = std::to_string(p.major) + std::to_string(p.minor);
  // Machine code for another architecture, and no PTX that the driver could translate.
  cudaFuncAttributes attributes{};
  if (const cudaError_t e = cudaFuncGetAttributes(&attributes, probe); e != cudaSuccess) {
    const bool other = e == cudaErrorInvalidDeviceFunction || e == cudaErrorNoKernelImageForDevice;
    return {false, std::string(p.name) + ", sm_" + arch + ": " +
                       (other ? "this build has no kernels for it (-Dgpu_archs; at least 80)"
                              : cudaGetErrorString(e))};
  }
  return {true, std::to_string(gpus) + (gpus == 1 ? " GPU" : " GPUs") +
                    " found (the first: " + p.name + ", sm_" + arch + ")" +
                    (!hopper_asked_for() ? ""
                     : use_hopper()      ? "; kernels for Hopper are used"
                                         : "; TENUN_CUDA_HOPPER=1 has no effect: no sm_90, a "
                                           "build without 90a, or a driver without TMA")};
}

size_t shared_limit() {
  static const int limit = [] {
    int device = 0, bytes = 0;
    check_cuda(cudaGetDevice(&device));
    check_cuda(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    return bytes;
  }();
  return static_cast<size_t>(limit);
}

cudaStream_t stream() {
  static const cudaStream_t s = [] {
    cudaStream_t made = nullptr;
    check_cuda(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
    return made;
  }();
  return s;
}

void allow_shared(const void* kernel, size_t bytes) {
  static std::mutex mutex;
  static std::unordered_map<const void*, size_t> allowed;
  const std::lock_guard lock(mutex);
  size_t& most = allowed[kernel];
  if (bytes <= most) return;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)));
  most = bytes;
}

void launched(cudaError_t error) {
  recent[launches++ % kRecent] = op_name();
  check_cuda(error);
  if (wait_after_launch() && recorder == nullptr) synchronize();
}

void* allocate_raw(size_t bytes) {
  void* p = nullptr;
  const cudaError_t error = cudaMalloc(&p, bytes);
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // it is dealt with
    return nullptr;
  }
  check_cuda(error);
  return p;
}
void release_raw(void* p) noexcept {
  if (recorder != nullptr) recorder->wait_before();
  (void)cudaFree(p);
}

void copy_raw(void* to, const void* from, size_t bytes, Way way) {
  if (way == Way::to_host)
    detail::refuse_while_recording(kDevice, "the host reads memory of the device");
  if (way == Way::to_device && recorder != nullptr)
    return check_cuda(
        cudaMemcpyAsync(to, recorder->keep(from, bytes), bytes, cudaMemcpyHostToDevice, stream()));
  if (way == Way::to_device) return staging().copy(to, from, bytes, stream());
  const cudaMemcpyKind kind =
      way == Way::to_host ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice;
  check_cuda(cudaMemcpyAsync(to, from, bytes, kind, stream()));
  if (way == Way::to_host) synchronize();  // what was copied is read as soon as this returns
}

void synchronize() {
  detail::refuse_while_recording(kDevice, "the host waits for the device");
  check_cuda(cudaStreamSynchronize(stream()));
}

std::unique_ptr<DeviceGraph> make_graph() { return std::make_unique<StreamGraph>(); }

namespace {

void StreamGraph::begin() {
  staging_ = staging_ == &stagings_[0] ? &stagings_[1] : &stagings_[0];
  staging_->start();
  check_cuda(cudaEventRecord(before_, stream()));
  check_cuda(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeRelaxed));
  recorder = this;
}

void StreamGraph::launch() {
  recorder = nullptr;
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamEndCapture(stream(), &graph));
  try {
    make_ready(graph);
  } catch (...) {
    (void)cudaGraphDestroy(graph);
    throw;
  }
  check_cuda(cudaGraphDestroy(graph));
  check_cuda(cudaGraphLaunch(ready_, stream()));
  staging_->launched();
  if (wait_after_launch()) synchronize();
}

// The launches of `ready_` that were asked for keep what they had.
void StreamGraph::make_ready(cudaGraph_t graph) {
  if (ready_ != nullptr) {
    cudaGraphExecUpdateResultInfo info{};
    if (cudaGraphExecUpdate(ready_, graph, &info) == cudaSuccess) return;
    (void)cudaGetLastError();  // other kernels than before: it is made anew
    synchronize();             // it may still run
    check_cuda(cudaGraphExecDestroy(std::exchange(ready_, nullptr)));
  }
  check_cuda(cudaGraphInstantiate(&ready_, graph, 0));
  ++instantiations_;
}

void StreamGraph::abandon() noexcept {
  recorder = nullptr;
  cudaGraph_t graph = nullptr;
  (void)cudaStreamEndCapture(stream(), &graph);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();  // of a capture that an error made invalid
}

}  // namespace

StreamTimeline::StreamTimeline() {
  detail::call_ranges = {[](const char* kernel) { nvtxRangePushA(kernel); },
                         [] { nvtxRangePop(); }};
}
void* StreamTimeline::make_event() {
  cudaEvent_t e = nullptr;
  check_cuda(cudaEventCreate(&e));
  return e;
}
void StreamTimeline::release_event(void* event) noexcept {
  (void)cudaEventDestroy(static_cast<cudaEvent_t>(event));
}
void StreamTimeline::record_event(void* event) {
  check_cuda(cudaEventRecord(static_cast<cudaEvent_t>(event), stream()));
}
double StreamTimeline::ms_between(void* from, void* to) {
  float ms = 0;
  check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(from)));
  check_cuda(cudaEventSynchronize(static_cast<cudaEvent_t>(to)));
  check_cuda(
      cudaEventElapsedTime(&ms, static_cast<cudaEvent_t>(from), static_cast<cudaEvent_t>(to)));
  return ms;
}

}  // namespace tenun::TENUN_BACKEND
