// Files and folders that are either the old ones or the new ones, whole, wherever a run is killed.
//
//   AtomicFile f("runs/a/model.bin");  f.write(bytes);  f.commit();
//   AtomicDir d("runs/a/checkpoints/step-100");  save(d.path() + "/model.safetensors"); d.commit();
//   replace_link("runs/a/checkpoints/last", "step-100");
//   clean_leftovers("runs/a/checkpoints");          // when the next run starts
//
// How: everything is written under a temporary name `.tmp-<name>-...` in the same folder, synced,
// then renamed, and the folder is synced. A folder that exists already is exchanged with the new
// one in one step (renameat2, RENAME_EXCHANGE); where the file system cannot do that, the old one
// first moves to `.old-<name>`, and clean_leftovers() moves it back if the run died in between.
// `checkpoints/last` should be a symbolic link set by replace_link(): that is atomic everywhere.
// A temporary holds a lock (flock) as long as its writer lives, so clean_leftovers() never takes
// away what another process still writes. Without commit() the destructor removes the temporary.
// Errors: IoError with the path and the system's reason (disk full: with the space that is left).
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace tenun {

/// An open file descriptor; closes itself.
class FileHandle {
 public:
  FileHandle() = default;
  explicit FileHandle(int fd) : fd_(fd) {}
  FileHandle(FileHandle&& o) noexcept : fd_(o.release()) {}
  FileHandle& operator=(FileHandle&& o) noexcept;
  ~FileHandle();
  [[nodiscard]] int get() const { return fd_; }
  int release() noexcept;

 private:
  int fd_ = -1;
};

/// Opens a file for appending, making it if need be. `path` is for the messages.
[[nodiscard]] FileHandle open_append(const std::string& path);
/// Writes everything, in as many calls as the system needs.
void write_all(const FileHandle& file, std::string_view text, const std::string& path);

class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  void write(std::string_view text) { write_all(file_, text, path_); }
  void commit();  ///< once

 private:
  std::string path_, temp_;
  FileHandle file_;
};

class AtomicDir {
 public:
  explicit AtomicDir(std::string path);
  ~AtomicDir();
  AtomicDir(const AtomicDir&) = delete;
  AtomicDir& operator=(const AtomicDir&) = delete;

  [[nodiscard]] const std::string& path() const { return temp_; }  ///< write the files in here
  void commit();                                                   ///< once

 private:
  std::string path_, temp_;
  FileHandle lock_;
};

/// Writes the whole file at once, atomically.
void write_file(const std::string& path, std::string_view text);
/// Reads a whole file; IoError if it is larger than `max_bytes`.
[[nodiscard]] std::string read_file(const std::string& path, size_t max_bytes = size_t{1} << 30);
/// Makes the symbolic link `path` point to `target` (relative to the folder of `path`), atomically.
/// IoError if a real file or folder of that name is in the way.
void replace_link(const std::string& path, const std::string& target);
/// Removes what killed writers left in `folder` (not in its subfolders), and restores a folder that
/// was being replaced. Returns the number of entries removed or restored; 0 for a missing folder.
int clean_leftovers(const std::string& folder);

}  // namespace tenun
