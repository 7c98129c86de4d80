#include "tenun/core/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>

namespace tenun {
namespace {

std::atomic<int> g_threads{0};
thread_local int t_serial = 0;

}  // namespace

int num_threads() {
  const int n = g_threads.load(std::memory_order_relaxed);
  return n > 0 ? n : omp_get_num_procs();
}

void set_num_threads(int n) { g_threads = std::max(n, 0); }

SerialScope::SerialScope() { ++t_serial; }
SerialScope::~SerialScope() { --t_serial; }

void parallel_tasks(int64_t count, FunctionRef<void(int64_t)> task) {
  const int threads = static_cast<int>(std::min<int64_t>(num_threads(), count));
  if (threads <= 1 || t_serial > 0 || omp_in_parallel() != 0) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  std::exception_ptr error;
  std::atomic<bool> failed{false};
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t i = 0; i < count; ++i) {
    if (failed.load(std::memory_order_relaxed)) continue;
    try {
      task(i);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
  }
  if (failed) std::rethrow_exception(error);
}

}  // namespace tenun
