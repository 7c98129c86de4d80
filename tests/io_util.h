// Helpers of the tests that touch files: a temporary folder, the fixtures, and messages of errors.
#pragma once
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "tenun/core/error.h"
#include "tenun/core/image.h"

namespace tenun::test {

/// A fresh folder, removed at the end of the scope.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "tenun-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw IoError("cannot make a temporary folder");
    path_ = name;
  }
  ~TempDir() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// Names in the folder, hidden ones included.
  [[nodiscard]] size_t count() const {
    size_t n = 0;
    for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(path_)) ++n;
    return n;
  }

 private:
  std::string path_;
};

/// A file or folder below tests/golden/io.
inline std::string fixture(const std::string& name) {
#ifdef TENUN_SOURCE_DIR
  const std::filesystem::path tests = TENUN_SOURCE_DIR "/tests";
#else
  const auto tests = std::filesystem::path(__FILE__).parent_path();
#endif
  return tests / "golden" / "io" / name;
}

inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void spill(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}
inline std::span<const std::byte> bytes(const std::string& s) {
  return std::as_bytes(std::span(s));
}

/// The message of the error E that f throws, or a text that says that it did not.
template <class E = IoError, class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  } catch (const std::exception& e) {
    return std::string("another error: ") + e.what();
  }
  return "no error";
}
inline bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// A colourful picture of the given size, the same at every call.
inline Image picture(int w, int h, int phase = 0) {
  Image im(w, h);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x)
      for (int k = 0; k < 3; ++k)
        im.at(x, y)[k] = static_cast<uint8_t>(
            (x * (3 + k) + y * (7 - 2 * k) + phase + (x * y) % (11 + k)) & 255);
  return im;
}

}  // namespace tenun::test
