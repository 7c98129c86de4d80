#include "tenun/core/io/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "tenun/core/check.h"

namespace tenun {
namespace {
namespace fs = std::filesystem;

constexpr std::string_view kTemp = ".tmp-", kOld = ".old-";

std::string folder_of(const std::string& path) {
  const std::string folder = fs::path(path).parent_path();
  return folder.empty() ? "." : folder;
}

[[noreturn]] void system_error(const char* what, const std::string& path, int code = errno) {
  std::string reason = std::generic_category().message(code);
  if (code == ENOSPC || code == EDQUOT) {
    std::error_code ec;
    const auto space = fs::space(folder_of(path), ec);
    if (!ec) reason += fmt::format(" ({} MiB are free)", space.available >> 20);
  }
  fail<IoError>(path, "cannot {}: {}", what, reason);
}

/// `<folder>/.tmp-<name>-<pid>-<count>`: unique among the processes and threads of one machine.
std::string temp_name(const std::string& path) {
  static std::atomic<unsigned> count{0};
  const fs::path p(path);
  check<IoError>(p.has_filename(), path, "cannot write: the path does not end in a name");
  return p.parent_path() /
         fmt::format("{}{}-{}-{}", kTemp, p.filename().string(), getpid(), count.fetch_add(1));
}

/// Trailing slashes would hide the name of a folder.
std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

FileHandle open_folder(const std::string& path) {
  FileHandle f(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (f.get() < 0) system_error("open the folder", path);
  return f;
}

void sync(const FileHandle& f, const std::string& path) {
  // Some file systems (network, FUSE) do not know fsync on folders: EINVAL.
  if (fsync(f.get()) != 0 && errno != EINVAL) system_error("sync to disk", path);
}
void sync_folder(const std::string& path) { sync(open_folder(path), path); }

/// Files first, then the folder that names them.
void sync_tree(const std::string& path) {
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string p = entry.path();
    if (entry.is_symlink()) continue;
    if (entry.is_directory()) {
      sync_tree(p);
    } else {
      FileHandle f(open(p.c_str(), O_RDONLY | O_CLOEXEC));
      if (f.get() < 0) system_error("open", p);
      sync(f, p);
    }
  }
  sync_folder(path);
}

void rename_to(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) system_error("rename the finished file to", to);
}

bool exists(const std::string& path) {
  struct stat s {};
  return lstat(path.c_str(), &s) == 0;
}

/// Another process (or thread) holds the lock of a living writer. Entries without a lock, such as
/// half-made links, are dead.
bool in_use(const fs::path& p) {
  FileHandle f(open(p.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  return f.get() >= 0 && flock(f.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

}  // namespace

FileHandle& FileHandle::operator=(FileHandle&& o) noexcept {
  std::swap(fd_, o.fd_);
  return *this;
}
FileHandle::~FileHandle() {
  if (fd_ >= 0) close(fd_);
}
int FileHandle::release() noexcept { return std::exchange(fd_, -1); }

FileHandle open_append(const std::string& path) {
  FileHandle f(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (f.get() < 0) system_error("open for writing", path);
  return f;
}
void write_all(const FileHandle& file, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t n = write(file.get(), text.data(), std::min<size_t>(text.size(), 1u << 30));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) system_error("write", path);
    text.remove_prefix(static_cast<size_t>(n));
  }
}

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)), temp_(temp_name(path_)) {
  file_ = FileHandle(open(temp_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (file_.get() < 0) system_error("create the file", path_);
  flock(file_.get(), LOCK_EX | LOCK_NB);  // best effort: see in_use()
}
AtomicFile::~AtomicFile() {
  if (!temp_.empty()) unlink(temp_.c_str());
}
void AtomicFile::commit() {
  sync(file_, path_);
  // Closing reports errors that a network file system kept back.
  if (close(file_.release()) != 0 && errno != EINTR) system_error("write", path_);
  rename_to(temp_, path_);
  temp_.clear();
  sync_folder(folder_of(path_));
}

AtomicDir::AtomicDir(std::string path)
    : path_(without_slash(std::move(path))), temp_(temp_name(path_)) {
  if (mkdir(temp_.c_str(), 0777) != 0) system_error("create the folder", path_);
  lock_ = open_folder(temp_);
  flock(lock_.get(), LOCK_EX | LOCK_NB);
}
AtomicDir::~AtomicDir() {
  std::error_code ec;
  if (!temp_.empty()) fs::remove_all(temp_, ec);
}
void AtomicDir::commit() {
  try {
    sync_tree(temp_);
  } catch (const fs::filesystem_error& e) {
    system_error("list the folder", path_, e.code().value());
  }
  const std::string folder = folder_of(path_);
  const fs::path old =
      fs::path(path_).parent_path() / (std::string(kOld) + fs::path(path_).filename().string());
  if (!exists(path_)) {
    rename_to(temp_, path_);
    temp_.clear();
  } else if (renameat2(AT_FDCWD, temp_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0) {
    // temp_ now is the old folder: the destructor's remove_all below takes it away
  } else if (errno == EINVAL || errno == ENOSYS) {
    std::error_code ec;
    fs::remove_all(old, ec);
    rename_to(path_, old);
    if (std::rename(temp_.c_str(), path_.c_str()) != 0) {
      const int code = errno;
      rename_to(old, path_);
      system_error("replace the folder", path_, code);
    }
    temp_ = old;
  } else {
    system_error("replace the folder", path_);
  }
  sync_folder(folder);
  if (temp_.empty()) return;
  std::error_code ec;
  fs::remove_all(std::exchange(temp_, {}), ec);  // if that fails, clean_leftovers() tries again
}

void write_file(const std::string& path, std::string_view text) {
  AtomicFile f(path);
  f.write(text);
  f.commit();
}

std::string read_file(const std::string& path, size_t max_bytes) {
  FileHandle f(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (f.get() < 0) system_error("open", path);
  struct stat s {};
  if (fstat(f.get(), &s) != 0) system_error("read", path);
  std::string text;
  // The size is a hint only: pipes and /proc have none, and a file may grow meanwhile.
  text.resize(std::min(max_bytes, static_cast<size_t>(s.st_size)) + 1);
  for (size_t at = 0;;) {
    const ssize_t n = read(f.get(), text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) system_error("read", path);
    at += static_cast<size_t>(n);
    check<IoError>(at <= max_bytes, path, "larger than the limit of {} bytes", max_bytes);
    if (n == 0) {
      text.resize(at);
      return text;
    }
    if (at == text.size()) text.resize(std::min(max_bytes + 1, 2 * at + 4096));
  }
}

void replace_link(const std::string& path, const std::string& target) {
  const std::string name = without_slash(path);
  struct stat s {};
  check<IoError>(lstat(name.c_str(), &s) != 0 || S_ISLNK(s.st_mode), name,
                 "cannot place a link: a file or folder of this name exists; move it away");
  const std::string temp = temp_name(name);
  if (symlink(target.c_str(), temp.c_str()) != 0) system_error("create the link", name);
  if (std::rename(temp.c_str(), name.c_str()) != 0) {
    const int code = errno;
    unlink(temp.c_str());
    system_error("replace the link", name, code);
  }
  sync_folder(folder_of(name));
}

int clean_leftovers(const std::string& folder) {
  std::error_code ec;
  int count = 0;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder, ec)) found.push_back(entry.path());
  for (const fs::path& p : found) {
    const std::string name = p.filename();
    if (name.starts_with(kOld)) {
      const fs::path original = p.parent_path() / name.substr(kOld.size());
      if (exists(original))
        fs::remove_all(p, ec);
      else
        rename_to(p, original);
      ++count;
    } else if (name.starts_with(kTemp) && !in_use(p)) {
      fs::remove_all(p, ec);
      ++count;
    }
  }
  if (count > 0) sync_folder(folder);
  return count;
}

}  // namespace tenun
