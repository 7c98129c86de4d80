// One process at a time trains in a run folder: a lock on RUN/.lock, held as long as the object
// lives. The kernel releases it when the process ends in whatever way, so a kill leaves no stale
// lock; the file itself stays.
//   const RunLock lock(run);   // UsageError that names the holder if another process has it
#pragma once
#include <string>

namespace tenun {

class RunLock {
 public:
  /// Creates the folder if needed. IoError if it cannot be written.
  explicit RunLock(const std::string& run);
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;
  ~RunLock();

 private:
  int file_ = -1;
};

}  // namespace tenun
