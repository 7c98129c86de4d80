#include "tenun/core/parallel.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <system_error>
#include <thread>
#include <utility>

namespace tenun {
namespace {

std::atomic<int> g_threads{0};
thread_local int t_serial = 0;

int machine_threads() {
  static const int n = [] {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
    return std::max(static_cast<int>(std::thread::hardware_concurrency()), 1);
  }();
  return n;
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Waits until `ready()` for as long as a hand-over between two running threads takes; then the
// caller sleeps, so that an idle pool costs the machine nothing.
template <class F>
bool spin(F&& ready) {
  constexpr auto kLimit = std::chrono::microseconds(30);
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      relax();
    }
    if (std::chrono::steady_clock::now() - start > kLimit) return false;
  }
}

// The team behind parallel_tasks. One job at a time; the threads that help are counted in and out
// through `state_`, so the caller waits for those only that took part, never for one that sleeps.
class Pool {
 public:
  // Never destroyed: its threads wait in it until the process ends.
  static Pool& get();

  // False if another thread has the team.
  bool run(int helpers, int64_t count, FunctionRef<void(int64_t)> task) {
    if (taken_.exchange(true, std::memory_order_acquire)) return false;
    grow(helpers);
    task_ = &task;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    failed_.store(false, std::memory_order_relaxed);
    finished_.store(0, std::memory_order_relaxed);
    state_.store(kOpen | static_cast<uint32_t>(helpers) * kSeat, std::memory_order_release);
    wake(helpers);
    work();
    const uint32_t before = state_.fetch_and(kInside, std::memory_order_acq_rel);
    const auto done = [&] { return finished_.load(std::memory_order_acquire) != 0; };
    if ((before & kInside) != 0 && !spin(done)) {
      while (!done()) finished_.wait(0, std::memory_order_acquire);
    }
    const std::exception_ptr error = std::exchange(error_, nullptr);
    taken_.store(false, std::memory_order_release);
    if (error) std::rethrow_exception(error);
    return true;
  }

 private:
  // state_: whether the job is open, how many more may join, how many are inside.
  static constexpr uint32_t kOpen = 1U << 31, kSeat = 1U << 16, kInside = kSeat - 1;
  static bool joinable(uint32_t s) { return (s & kOpen) != 0 && (s & ~kOpen) >= kSeat; }

  void grow(int helpers) {
    try {
      for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
    } catch (const std::system_error&) {  // no more threads to be had: fewer will do
    }
  }

  void wake(int helpers) {
    if (helpers >= threads_) return state_.notify_all();
    for (int i = 0; i < helpers; ++i) state_.notify_one();
  }

  [[noreturn]] void serve() {
    t_serial = 1;  // what a task calls runs on its own thread
    for (;;) {
      uint32_t s = state_.load(std::memory_order_acquire);
      const auto open = [&] { return joinable(s = state_.load(std::memory_order_acquire)); };
      if (!spin(open)) {
        while (!open()) state_.wait(s, std::memory_order_acquire);
      }
      if (!state_.compare_exchange_strong(s, s - kSeat + 1, std::memory_order_acq_rel)) continue;
      work();
      if (state_.fetch_sub(1, std::memory_order_acq_rel) == 1) {  // closed, and the last one inside
        finished_.store(1, std::memory_order_release);
        finished_.notify_one();
      }
    }
  }

  void work() {
    for (;;) {
      const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_) return;
      if (failed_.load(std::memory_order_relaxed)) continue;
      try {
        (*task_)(i);
      } catch (...) {
        if (!failed_.exchange(true)) error_ = std::current_exception();
      }
    }
  }

  alignas(64) std::atomic<uint32_t> state_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<uint32_t> finished_{0};
  std::atomic<bool> taken_{false}, failed_{false};
  int threads_ = 0;
  const FunctionRef<void(int64_t)>* task_ = nullptr;
  int64_t count_ = 0;
  std::exception_ptr error_;
};

std::atomic<Pool*> g_pool{nullptr};

Pool& Pool::get() {
  Pool* p = g_pool.load(std::memory_order_acquire);
  if (p != nullptr) return *p;
  // The threads of a team do not survive fork(): the child starts a team of its own.
  static const int once = pthread_atfork(nullptr, nullptr, [] { g_pool = nullptr; });
  (void)once;
  auto* fresh = new Pool;
  if (g_pool.compare_exchange_strong(p, fresh)) return *fresh;
  delete fresh;
  return *p;
}

}  // namespace

int num_threads() {
  const int n = g_threads.load(std::memory_order_relaxed);
  return n > 0 ? n : machine_threads();
}

void set_num_threads(int n) { g_threads = std::clamp(n, 0, 1024); }

SerialScope::SerialScope() { ++t_serial; }
SerialScope::~SerialScope() { --t_serial; }

void parallel_tasks(int64_t count, FunctionRef<void(int64_t)> task) {
  const int threads = static_cast<int>(std::min<int64_t>(num_threads(), count));
  if (threads > 1 && t_serial == 0) {
    const SerialScope inside;
    if (Pool::get().run(threads - 1, count, task)) return;
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  for (int64_t i = 0; i < count; ++i) task(i);
}

}  // namespace tenun
