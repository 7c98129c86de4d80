#include "tenun/core/io/zip.h"

#include <unzip.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "tenun/core/check.h"

namespace tenun {

/// The file functions of minizip, over memory.
struct ZipReader::Memory {
  std::span<const std::byte> file;
  uint64_t at = 0;
  unzFile zip = nullptr;

  explicit Memory(std::span<const std::byte> f) : file(f) {}
  ~Memory() {
    if (zip != nullptr) unzClose(zip);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  static Memory& of(voidpf p) { return *static_cast<Memory*>(p); }
  static voidpf open(voidpf opaque, const void*, int) { return opaque; }
  static uLong read(voidpf opaque, voidpf, void* to, uLong n) {
    Memory& m = of(opaque);
    n = static_cast<uLong>(std::min<uint64_t>(n, m.file.size() - m.at));
    if (n > 0) std::memcpy(to, m.file.data() + m.at, n);
    m.at += n;
    return n;
  }
  static uLong write(voidpf, voidpf, const void*, uLong) { return 0; }
  static ZPOS64_T tell(voidpf opaque, voidpf) { return of(opaque).at; }
  static long seek(voidpf opaque, voidpf, ZPOS64_T offset, int origin) {
    Memory& m = of(opaque);
    const uint64_t base = origin == ZLIB_FILEFUNC_SEEK_SET   ? 0
                          : origin == ZLIB_FILEFUNC_SEEK_CUR ? m.at
                                                             : m.file.size();
    if (offset > m.file.size() - base) return -1;
    m.at = base + offset;
    return 0;
  }
  static int close(voidpf, voidpf) { return 0; }
  static int error(voidpf, voidpf) { return 0; }
};

ZipReader::ZipReader(std::span<const std::byte> file, std::string_view where)
    : memory_(std::make_unique<Memory>(file)), where_(where) {
  zlib_filefunc64_def functions{&Memory::open, &Memory::read,  &Memory::write, &Memory::tell,
                                &Memory::seek, &Memory::close, &Memory::error, memory_.get()};
  memory_->zip = unzOpen2_64("", &functions);
  check<IoError>(memory_->zip != nullptr, where_, "not a zip archive, or truncated");
  const auto broken = [&] {
    fail<IoError>(where_, "a broken zip archive: its directory does not fit the file");
  };
  char name[1024];
  for (int code = unzGoToFirstFile(memory_->zip); code != UNZ_END_OF_LIST_OF_FILE;
       code = unzGoToNextFile(memory_->zip)) {
    unz_file_info64 info{};
    unz64_file_pos position{};
    if (code != UNZ_OK ||
        unzGetCurrentFileInfo64(memory_->zip, &info, name, sizeof name, nullptr, 0, nullptr, 0) !=
            UNZ_OK ||
        unzGetFilePos64(memory_->zip, &position) != UNZ_OK || info.size_filename >= sizeof name)
      broken();
    ZipEntry e;
    e.name.assign(name, info.size_filename);
    e.size = info.uncompressed_size;
    e.packed = info.compressed_size;
    e.stored = info.compression_method == 0;
    e.position = position.pos_in_zip_directory;
    e.index = position.num_of_file;
    if (e.packed > file.size()) broken();
    const bool plain = (info.flag & 1) == 0 && (e.stored || info.compression_method == Z_DEFLATED);
    check<IoError>(plain, where_,
                   "the entry {} is encrypted or packed by a method other than deflate", e.name);
    entries_.push_back(std::move(e));
  }
  for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(entries_[i].name, i);
}
ZipReader::~ZipReader() = default;

const ZipEntry* ZipReader::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

void ZipReader::open(const ZipEntry& entry) const {
  const unz64_file_pos position{entry.position, entry.index};
  check<IoError>(unzGoToFilePos64(memory_->zip, &position) == UNZ_OK &&
                     unzOpenCurrentFile(memory_->zip) == UNZ_OK,
                 where_, "a broken zip archive: cannot open the entry {}", entry.name);
}

std::span<const std::byte> ZipReader::view(const ZipEntry& entry) const {
  check<IoError>(entry.stored && entry.packed == entry.size, where_,
                 "the entry {} is compressed, where plain data were expected", entry.name);
  open(entry);
  const uint64_t at = unzGetCurrentFileZStreamPos64(memory_->zip), all = memory_->file.size();
  unzCloseCurrentFile(memory_->zip);
  check<IoError>(at <= all && entry.size <= all - at, where_,
                 "truncated: the entry {} ends behind the end of the file", entry.name);
  return memory_->file.subspan(at, entry.size);
}

std::string ZipReader::read(const ZipEntry& entry, uint64_t max_bytes) const {
  constexpr uint64_t kMaxRatio = 1032;  // deflate cannot do better
  check<IoError>(entry.size <= max_bytes, where_,
                 "the entry {} has {} bytes, more than the limit of {}", entry.name, entry.size,
                 max_bytes);
  check<IoError>(entry.size <= kMaxRatio * (entry.packed + 1), where_,
                 "the entry {} claims an impossible size of {} bytes", entry.name, entry.size);
  std::string out(entry.size, '\0');
  open(entry);
  uint64_t at = 0;
  for (int n = 1; n > 0 && at < out.size(); at += static_cast<uint64_t>(std::max(n, 0)))
    n = unzReadCurrentFile(memory_->zip, out.data() + at,
                           static_cast<unsigned>(std::min<uint64_t>(
                               out.size() - at, std::numeric_limits<int>::max())));
  const bool ok = unzCloseCurrentFile(memory_->zip) == UNZ_OK && at == out.size();
  check<IoError>(ok, where_, "the entry {} is damaged (its size or checksum is wrong)", entry.name);
  return out;
}

}  // namespace tenun
