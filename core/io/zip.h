// Reading zip archives (PyTorch files, NPZ) from memory, through minizip. The central directory
// counts, not the local headers. Entries are stored or deflated; anything else, and whatever does
// not fit the file, is an IoError.
//
//   ZipReader zip(file.bytes(), path);
//   for (const ZipEntry& e : zip.entries()) use(e.name, zip.read(e, 1 << 20));
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tenun {

struct ZipEntry {
  std::string name;
  uint64_t size = 0;                 ///< of the contents
  uint64_t packed = 0;               ///< in the archive
  bool stored = true;                ///< not deflated
  uint64_t position = 0, index = 0;  ///< in the central directory
};

class ZipReader {
 public:
  /// The bytes must outlive the reader.
  ZipReader(std::span<const std::byte> file, std::string_view where);
  ~ZipReader();
  ZipReader(const ZipReader&) = delete;
  ZipReader& operator=(const ZipReader&) = delete;

  [[nodiscard]] const std::vector<ZipEntry>& entries() const { return entries_; }
  [[nodiscard]] const ZipEntry* find(std::string_view name) const;  ///< nullptr if it is not there
  /// The bytes of a stored entry where they lie in the archive; the checksum is not verified.
  [[nodiscard]] std::span<const std::byte> view(const ZipEntry& entry) const;
  /// A copy of the contents, inflated; the checksum is verified. IoError above `max_bytes`.
  [[nodiscard]] std::string read(const ZipEntry& entry, uint64_t max_bytes) const;

 private:
  struct Memory;
  void open(const ZipEntry& entry) const;
  std::unique_ptr<Memory> memory_;
  std::string where_;
  std::vector<ZipEntry> entries_;
  std::unordered_map<std::string_view, size_t> index_;
};

}  // namespace tenun
