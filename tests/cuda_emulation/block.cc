// Fibers and their schedule; see block.h.
#include "tenun/tests/cuda_emulation/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>

#include "tenun/core/check.h"
#include "tenun/core/device.h"
#include "tenun/core/philox.h"

#if !defined(__x86_64__)
#error "the emulation needs a context switch for this architecture"
#endif
// Saves the callee's registers and the stack pointer, takes over another stack.
asm(R"(
.text
.globl tenun_emulation_switch
.hidden tenun_emulation_switch
.type tenun_emulation_switch,@function
tenun_emulation_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size tenun_emulation_switch,.-tenun_emulation_switch
)");
extern "C" void tenun_emulation_switch(void** save, void* to);

namespace tenun::emulation {

constinit thread_local Block* block = nullptr;

namespace {

// Not a power of two: the same depth of all stacks would be in one set of the CPU's caches.
constexpr size_t kStack = (size_t{128} << 10) + 17 * 64;
constexpr size_t kRedZone = 64;
constexpr std::byte kRed{0xa5};
constexpr size_t kStaticLimit = size_t{48} << 10;   // what a kernel may declare
constexpr size_t kSharedLimit = size_t{227} << 10;  // what a block of sm_90 can have

// 0 ... n-1 in the order of the settings.
std::vector<int> permuted(int n, uint64_t stream) {
  std::vector<int> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  const Settings& s = settings();
  if (s.order == Settings::Order::reverse) std::reverse(order.begin(), order.end());
  if (s.order == Settings::Order::shuffled)
    for (int i = n - 1; i > 0; --i) {
      const Philox p = Philox::at(s.seed, stream, static_cast<uint64_t>(i));
      std::swap(order[static_cast<size_t>(i)], order[p.x[0] % static_cast<unsigned>(i + 1)]);
    }
  return order;
}

struct SharedArray {
  const void* site;
  size_t offset, bytes;
};

// One for each thread of the CPU; kept, with its stacks, from launch to launch.
class Machine : public Block {
 public:
  Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() {
    if (stacks_ != nullptr) munmap(stacks_, kStack * capacity_);
    std::free(arena_);
  }

  void prepare(dim3 grid_, dim3 size_, size_t dynamic_bytes, const FunctionRef<void()>& body) {
    grid = grid_, size = size_, body_ = &body, dynamic_bytes_ = dynamic_bytes;
    threads_ = static_cast<int>(size.x * size.y * size.z);
    const auto n = static_cast<size_t>(threads_);
    if (n > capacity_) {
      if (stacks_ != nullptr) munmap(stacks_, kStack * capacity_);
      void* p = mmap(nullptr, kStack * n, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      check<OutOfMemory>(p != MAP_FAILED, "emulation", "no memory for {} stacks", n);
      stacks_ = static_cast<char*>(p), capacity_ = n;
    }
    if (arena_ == nullptr)
      arena_ = static_cast<std::byte*>(std::aligned_alloc(1024, size_t{512} << 10));
    fibers.resize(n);
    for (size_t i = 0; i < n; ++i) {
      const auto u = static_cast<unsigned>(i);
      Fiber& f = fibers[i];
      f.thread = {u % size.x, u / size.x % size.y, u / (size.x * size.y)};
      f.copy_groups.clear(), f.open_copies.clear();
      f.stack_pointer = frame(stacks_ + kStack * (i + 1));
    }
    // The order: warps, and the lanes of each.
    order_.clear();
    const int warps = (threads_ + 31) / 32;
    for (const int w : permuted(warps, 1)) {
      const int lanes = std::min(32, threads_ - w * 32);
      for (const int l : permuted(lanes, 2 + static_cast<uint64_t>(w)))
        order_.push_back(w * 32 + l);
    }
    warp_starts_.clear();
    for (int at = 0; at < threads_;) {
      warp_starts_.push_back(at);
      at += std::min(32, threads_ - order_[static_cast<size_t>(at)] / 32 * 32);
    }
    warp_starts_.push_back(threads_);
  }

  void run_block(uint3 which) {
    index = which;
    done_ = 0, warp_ = 0, position_ = -1, moved_ = false, fault_ = nullptr;
    arrays_.clear();
    late.clear(), units.reset();
    used_ = 0, static_bytes_ = 0;
    dynamic_ = place(nullptr, dynamic_bytes_);
    for (Fiber& f : fibers) f.state = State::running;
    block = this;
    current = pick();
    tenun_emulation_switch(&home_, self().stack_pointer);
    block = nullptr;
    if (fault_ == nullptr) look_after_block();
  }
  [[nodiscard]] const char* fault_text() const { return fault_; }
  // R runs, B at a barrier, W waits for lanes, x has finished, M waits for an mbarrier.
  [[nodiscard]] std::string thread_map() const {
    std::string map;
    for (const Fiber& f : fibers) map += "RBWxM"[static_cast<int>(f.state)];
    return map;
  }

  void yield() {
    const int from = current, to = pick();
    if (to == from) return;
    void** const save = &fibers[static_cast<size_t>(from)].stack_pointer;
    if (to < 0) {
      tenun_emulation_switch(save, home_);
    } else {
      current = to;
      tenun_emulation_switch(save, self().stack_pointer);
    }
  }
  void leave(const char* why) {
    fault_ = why;
    void* abandoned = nullptr;
    tenun_emulation_switch(&abandoned, home_);
  }

  void* shared(const void* site, size_t bytes) {
    for (const SharedArray& a : arrays_)
      if (a.site == site) return arena_ + a.offset;
    static_bytes_ += bytes;
    if (static_bytes_ > kStaticLimit) fault("more than 48 KiB of static shared memory");
    return place(site, bytes);
  }
  [[nodiscard]] void* dynamic() { return dynamic_; }
  [[nodiscard]] std::byte* base() { return arena_; }
  [[nodiscard]] bool is_shared(const void* p, size_t bytes) const {
    const auto* const first = static_cast<const std::byte*>(p);
    return std::any_of(arrays_.begin(), arrays_.end(), [&](const SharedArray& a) {
      return first >= arena_ + a.offset && first + bytes <= arena_ + a.offset + a.bytes;
    });
  }

 private:
  // The first frame of a fiber: registers, the entry, and a return address that is never used (it
  // keeps the stack aligned as after a call).
  static void* frame(char* top) {
    auto* p = reinterpret_cast<void**>(top);
    *--p = nullptr;
    *--p = reinterpret_cast<void*>(&Machine::fiber_main);
    for (int i = 0; i < 6; ++i) *--p = nullptr;
    return p;
  }
  static void fiber_main() {
    auto* m = static_cast<Machine*>(block);
    for (;;) {  // a fiber serves block after block
      (*m->body_)();
      m->self().state = State::finished;
      ++m->done_;
      m->yield();
    }
  }

  void* place(const void* site, size_t bytes) {
    const size_t begin = (used_ + kRedZone + 127) / 128 * 128;
    used_ = begin + bytes + kRedZone;
    if (used_ > kSharedLimit + 8 * kRedZone + 4096)
      fault("more shared memory than a block can have");
    std::memset(arena_ + begin - kRedZone, static_cast<int>(kRed), kRedZone);
    std::memset(arena_ + begin, settings().poison, bytes);
    std::memset(arena_ + begin + bytes, static_cast<int>(kRed), kRedZone);
    arrays_.push_back({site, begin, bytes});
    return arena_ + begin;
  }
  [[nodiscard]] bool red_zones_whole() const {
    const auto red = [](const std::byte* p) {
      return std::all_of(p, p + kRedZone, [](std::byte b) { return b == kRed; });
    };
    return std::all_of(arrays_.begin(), arrays_.end(), [&](const SharedArray& a) {
      return red(arena_ + a.offset - kRedZone) && red(arena_ + a.offset + a.bytes);
    });
  }
  void look_after_block() {
    if (!red_zones_whole()) fault_ = "a write beyond a shared array";
    for (Fiber& f : fibers) {
      const bool left =
          !f.open_copies.empty() || std::any_of(f.copy_groups.begin(), f.copy_groups.end(),
                                                [](const auto& g) { return !g.empty(); });
      if (left) fault_ = "a block ended with copies that nobody waited for";
      f.copy_groups.clear(), f.open_copies.clear();
    }
    if (!late.empty()) fault_ = "a block ended with copies that nobody waited for";
    if (fault_ == nullptr && units != nullptr) fault_ = units->fault();
  }

  // All lanes that a mask names have come: run the collective once. True if any lane went on.
  bool release_lanes(int w) {
    bool any = false;
    Fiber* const f = &fibers[static_cast<size_t>(w) * 32];
    const int lanes = std::min(32, threads_ - w * 32);
    for (int l = 0; l < lanes; ++l) {
      if (f[l].state != State::at_warp_barrier) continue;
      const uint32_t mask = f[l].mask;
      bool all = (mask >> l & 1u) != 0 && (lanes == 32 || mask >> lanes == 0);
      for (int k = 0; k < lanes && all; ++k)
        if ((mask >> k & 1u) != 0)
          all = f[k].state == State::at_warp_barrier && f[k].mask == mask &&
                f[k].collective == f[l].collective;
      if (!all) continue;
      void* payloads[32] = {};
      for (int k = 0; k < lanes; ++k)
        if ((mask >> k & 1u) != 0) payloads[k] = f[k].payload, f[k].state = State::running;
      if (f[l].collective != nullptr) f[l].collective(payloads, mask);
      any = true;
    }
    return any;
  }
  bool release_block() {
    int waiting = 0, line = 0;
    bool same = true;
    for (const Fiber& f : fibers)
      if (f.state == State::at_block_barrier) {
        same = same && (waiting == 0 || f.barrier_line == line);
        line = f.barrier_line, ++waiting;
      }
    if (waiting == 0 || waiting + done_ != threads_) return false;
    if (!same) fault("threads of a block wait at different barriers");
    if (!red_zones_whole()) fault("a write beyond a shared array");
    for (Fiber& f : fibers)
      if (f.state == State::at_block_barrier) f.state = State::running;
    return true;
  }

  // One of the things that happen late; false if there is none.
  bool happen() {
    if (late.empty()) return false;
    const Settings& s = settings();
    const size_t i = s.order == Settings::Order::forward   ? 0
                     : s.order == Settings::Order::reverse ? late.size() - 1
                                                           : s.seed % late.size();
    const auto next = std::move(late[i]);
    late.erase(late.begin() + static_cast<std::ptrdiff_t>(i));
    next();
    return true;
  }

  // The next thread that can run; -1 when the block has finished.
  int pick() {
    for (;;) {
      const int end = warp_starts_[static_cast<size_t>(warp_) + 1];
      while (++position_ < end) {
        const int t = order_[static_cast<size_t>(position_)];
        Fiber& f = fibers[static_cast<size_t>(t)];
        if (f.state == State::waiting && f.condition(f.payload)) f.state = State::running;
        if (f.state == State::running) {
          moved_ = true;
          return t;
        }
      }
      const int start = warp_starts_[static_cast<size_t>(warp_)];
      if (release_lanes(order_[static_cast<size_t>(start)] / 32)) {
        position_ = start - 1;
        continue;
      }
      if (warp_starts_[static_cast<size_t>(++warp_)] < threads_) {
        position_ = warp_starts_[static_cast<size_t>(warp_)] - 1;
        continue;
      }
      if (done_ == threads_) return -1;
      if (!release_block() && !moved_ && !happen())
        fault("a barrier, or a warp operation, that not all of its threads reach");
      moved_ = false, warp_ = 0, position_ = -1;
    }
  }

  char* stacks_ = nullptr;
  size_t capacity_ = 0;
  std::byte* arena_ = nullptr;
  const FunctionRef<void()>* body_ = nullptr;
  void* home_ = nullptr;
  int threads_ = 0, done_ = 0, warp_ = 0, position_ = -1;
  bool moved_ = false;
  std::vector<int> order_, warp_starts_;
  const char* fault_ = nullptr;
  std::vector<SharedArray> arrays_;
  size_t used_ = 0, static_bytes_ = 0, dynamic_bytes_ = 0;
  void* dynamic_ = nullptr;
};

Machine& machine() {
  thread_local Machine m;
  return m;
}

}  // namespace

void block_barrier(int line) {
  self().state = State::at_block_barrier;
  self().barrier_line = line;
  machine().yield();
}
void warp_barrier(uint32_t mask, Collective collective, void* payload) {
  Fiber& f = self();
  f.mask = mask, f.collective = collective, f.payload = payload;
  f.state = State::at_warp_barrier;
  machine().yield();
}
void wait_until(Condition condition, void* payload) {
  if (condition(payload)) return;
  Fiber& f = self();
  f.condition = condition, f.payload = payload;
  f.state = State::waiting;
  machine().yield();
}
void fault(const char* what) {
  machine().leave(what);
  __builtin_unreachable();
}
void* shared_memory(const void* site, size_t bytes) { return machine().shared(site, bytes); }
void* dynamic_shared_memory() { return machine().dynamic(); }
std::byte* shared_base() { return machine().base(); }
bool is_shared(const void* p, size_t bytes) { return machine().is_shared(p, bytes); }

void run(dim3 grid, dim3 size, size_t shared_bytes, FunctionRef<void()> body) {
  const char* const op = detail::device_call == nullptr ? "emulation" : detail::device_call;
  const uint64_t threads = uint64_t{size.x} * size.y * size.z;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  check<DeviceError>(threads >= 1 && threads <= 1024 && size.z <= 64, op,
                     "a block of {} x {} x {} threads", size.x, size.y, size.z);
  check<DeviceError>(grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 0x7fffffffu &&
                         grid.y <= 65535 && grid.z <= 65535,
                     op, "a grid of {} x {} x {} blocks", grid.x, grid.y, grid.z);
  check<DeviceError>(shared_bytes <= settings().shared_limit, op, "{} bytes of shared memory",
                     shared_bytes);
  // Few blocks are shuffled; of many the order is turned round or rotated.
  const Settings& s = settings();
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  std::string problem;
  const auto work = [&](int64_t) {
    uint64_t n = next++;
    if (n >= blocks) return;
    Machine& m = machine();
    m.prepare(grid, size, shared_bytes, body);
    for (; n < blocks; n = next++) {
      const uint64_t b = s.order == Settings::Order::forward   ? n
                         : s.order == Settings::Order::reverse ? blocks - 1 - n
                                                               : (n + s.seed) % blocks;
      m.run_block({static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                   static_cast<unsigned>(b / (uint64_t{grid.x} * grid.y))});
      if (m.fault_text() == nullptr) continue;
      const std::lock_guard lock(mutex);
      if (problem.empty())
        problem = fmt::format("{}, in block ({}, {}, {}) of {} threads: {}", m.fault_text(),
                              m.index.x, m.index.y, m.index.z, threads, m.thread_map());
      next = blocks;
    }
  };
  const auto workers = std::min<uint64_t>(blocks, static_cast<uint64_t>(num_threads()));
  parallel_tasks(static_cast<int64_t>(workers), work);
  check<DeviceError>(problem.empty(), op, "emulated kernel: {}", problem);
  check_red_zones();
}

}  // namespace tenun::emulation
