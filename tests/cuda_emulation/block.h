// The machine that runs CUDA kernels on the CPU: the threads of a block are fibers that take turns
// on one thread of the CPU; blocks are spread over parallel_for. A kernel is an ordinary function;
// barriers and warp collectives are the places where fibers change. What a fiber may get wrong is
// found where it happens: a barrier that not all reach, lanes that a mask names and that do not
// come, writes beyond a shared array or a tensor (red zones), reads of what nobody wrote (poison),
// copies that nobody waited for. A fault ends the launch with a DeviceError that names the op.
//
// It explores schedules, it does not prove the absence of races: run several orders.
//
//   TENUN_EMULATION_ORDER=forward|reverse|<seed>   order of blocks, warps and lanes
//   TENUN_EMULATION_POISON=<0..255>                byte that fills fresh memory (default 255: NaN)
//   TENUN_EMULATION_COPIES=lazy|eager              asynchronous copies land at the wait or at once
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tenun/core/parallel.h"

// Names of CUDA, as kernels use them.
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1)  // NOLINT: as in CUDA
      : x(a), y(b), z(c) {}
};

namespace tenun::emulation {

struct Settings {
  enum class Order : uint8_t { forward, reverse, shuffled } order = Order::forward;
  uint64_t seed = 0;      ///< of shuffled
  uint8_t poison = 0xff;  ///< all bits set: NaN in every floating type
  bool eager_copies = false;
  bool hopper = false;  ///< TENUN_CUDA_HOPPER=1: the kernels for Hopper (cuda/hopper.h) are used
  size_t shared_limit = 227 * 1024;  ///< bytes of shared memory of a block, as on Hopper
};
/// Read from the environment at the first call; tests may change them between launches.
[[nodiscard]] Settings& settings();

/// Runs `body` once for every thread of every block. DeviceError tells the first fault.
void run(dim3 grid, dim3 block, size_t shared_bytes, FunctionRef<void()> body);

enum class State : uint8_t { running, at_block_barrier, at_warp_barrier, finished, waiting };
/// Is what a thread waits for there?
using Condition = bool (*)(void* payload);
/// What the lanes of a mask do together, once all have come: it gets each lane's payload.
using Collective = void (*)(void* const lanes[32], uint32_t mask);

struct Copy {  ///< 16 bytes that cp.async brings
  void* to;
  const void* from;
  bool valid;
};
struct Fiber {
  void* stack_pointer = nullptr;
  uint3 thread{};
  State state = State::running;
  uint32_t mask = 0;
  Collective collective = nullptr;
  Condition condition = nullptr;
  void* payload = nullptr;
  int barrier_line = 0;
  std::vector<std::vector<Copy>> copy_groups;  ///< committed, not yet waited for
  std::vector<Copy> open_copies;
};

/// What the units of hopper.h remember of a block. `fault` is asked when the block has ended.
struct Units {
  virtual ~Units() = default;
  [[nodiscard]] virtual const char* fault() const = 0;
};

/// The block that runs on this thread of the CPU.
struct Block {
  uint3 index{};
  dim3 size, grid;
  std::vector<Fiber> fibers;  ///< in linear thread order
  int current = 0;
  /// What happens by itself some day: not before no thread can go on without it.
  std::vector<std::function<void()>> late;
  std::unique_ptr<Units> units;  ///< made by their first use
  [[nodiscard]] Fiber& self() { return fibers[static_cast<size_t>(current)]; }
};
extern constinit thread_local Block* block;

[[nodiscard]] inline Fiber& self() { return block->self(); }
[[nodiscard]] inline int lane() { return block->current & 31; }

void block_barrier(int line);
void warp_barrier(uint32_t mask, Collective collective, void* payload);
/// Other threads run until the condition holds.
void wait_until(Condition condition, void* payload);
/// Ends the launch with this message. Does not return to the fiber that calls it.
[[noreturn]] void fault(const char* what);

/// `count` elements of shared memory for one declaration (`site`), poisoned when the block starts,
/// with red zones before and after.
[[nodiscard]] void* shared_memory(const void* site, size_t bytes);
[[nodiscard]] void* dynamic_shared_memory();
/// Shared memory by its address: 0 is the start of the block's.
[[nodiscard]] std::byte* shared_base();
/// Do the bytes belong to arrays of the block?
[[nodiscard]] bool is_shared(const void* p, size_t bytes);

// ---- memory of the device, with red zones; thread-safe

[[nodiscard]] void* allocate(size_t bytes);
void release(void* p) noexcept;
/// The op that wrote beyond a tensor: its bounds are looked at after every launch.
void check_red_zones();

}  // namespace tenun::emulation
