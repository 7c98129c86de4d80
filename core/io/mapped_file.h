// A file in memory, read-only, for the parsers of large files: they take a span of bytes and so
// work on memory as well. IoError if the file cannot be opened. A file that is cut short while it
// is mapped is a bus error; all our writers replace files by renaming, which is safe.
#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace tenun {

class MappedFile {
 public:
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace tenun
