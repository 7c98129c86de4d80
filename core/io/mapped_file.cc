#include "tenun/core/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"

namespace tenun {

MappedFile::MappedFile(const std::string& path) {
  const auto reason = [] { return std::generic_category().message(errno); };
  const FileHandle f(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  check<IoError>(f.get() >= 0, path, "cannot open: {}", reason());
  struct stat s {};
  check<IoError>(fstat(f.get(), &s) == 0, path, "cannot read: {}", reason());
  check<IoError>(S_ISREG(s.st_mode), path, "cannot read: not a regular file");
  if (s.st_size == 0) return;
  const auto size = static_cast<size_t>(s.st_size);
  void* p = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, f.get(), 0);
  check<IoError>(p != MAP_FAILED, path, "cannot map into memory: {}", reason());
  madvise(p, size, MADV_WILLNEED);
  bytes_ = {static_cast<const std::byte*>(p), size};
}
MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace tenun
