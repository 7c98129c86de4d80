// The only place that knows about threads on the CPU. Work is cut into chunks whose bounds depend
// on the sizes alone, never on the number of threads; reductions combine the chunks in index order.
// So results have the same bits for any number of threads.
//
//   parallel_for(0, rows, 16, [&](int64_t begin, int64_t end) { ... });
//
// The first exception of a body is rethrown in the caller. Nested calls, calls inside a SerialScope
// (worker threads of the data loader) and calls while another thread has the team run on the
// calling thread. Waiting threads sleep after some tens of microseconds. fork() is safe: a child
// starts a team of its own. At the end of the process idle threads need no farewell.
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace tenun {

/// A reference to a callable, valid for the duration of the call.
template <class Sig>
class FunctionRef;
template <class R, class... A>
class FunctionRef<R(A...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::decay_t<F>, FunctionRef>)
      FunctionRef(F&& f)  // NOLINT: implicit on purpose
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* o, A... a) -> R {
          return (*static_cast<std::remove_reference_t<F>*>(o))(static_cast<A>(a)...);
        }) {}
  R operator()(A... a) const { return call_(object_, static_cast<A>(a)...); }

 private:
  void* object_;
  R (*call_)(void*, A...);
};

[[nodiscard]] int num_threads();
void set_num_threads(int n);  ///< 0: as many as the machine has

class SerialScope {
 public:
  SerialScope();
  ~SerialScope();
  SerialScope(const SerialScope&) = delete;
  SerialScope& operator=(const SerialScope&) = delete;
};

/// Runs task(0) ... task(count-1), in any order, on up to num_threads() threads.
void parallel_tasks(int64_t count, FunctionRef<void(int64_t)> task);

/// Cuts [begin, end) into pieces of `grain` and runs them in parallel.
template <class F>
void parallel_for(int64_t begin, int64_t end, int64_t grain, F&& f) {
  if (end <= begin) return;
  const int64_t pieces = (end - begin + grain - 1) / grain;
  if (pieces == 1) {
    f(begin, end);
    return;
  }
  parallel_tasks(pieces, [&](int64_t i) {
    const int64_t b = begin + i * grain;
    f(b, b + grain < end ? b + grain : end);
  });
}

}  // namespace tenun
