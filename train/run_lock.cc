#include "tenun/train/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tenun/core/check.h"

namespace tenun {

RunLock::RunLock(const std::string& run) {
  std::error_code problem;
  std::filesystem::create_directories(run, problem);
  const std::string path = run + "/.lock";
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  check<IoError>(file_ >= 0, path, "cannot be opened for writing: {}", std::strerror(errno));
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    const int why = errno;
    char holder[32] = {};
    const ssize_t n = ::pread(file_, holder, sizeof holder - 1, 0);
    ::close(file_);
    check<IoError>(why == EWOULDBLOCK, path, "cannot be locked: {}", std::strerror(why));
    fail<UsageError>(
        run, "another process{} trains in this folder; wait for it, or choose another --run_dir",
        n > 0 ? fmt::format(" ({})", holder) : "");
  }
  const std::string me = fmt::format("process {}", ::getpid());
  // Only a help for the message above: a failure to write it changes nothing.
  if (::ftruncate(file_, 0) != 0 || ::pwrite(file_, me.data(), me.size(), 0) < 0) return;
}

RunLock::~RunLock() { ::close(file_); }

}  // namespace tenun
