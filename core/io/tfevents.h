// TensorBoard event files: scalars and images, one file for each writer, flushed after each record.
//
//   EventWriter events("runs/a");
//   events.scalar("train/loss", step, loss);
//   events.image("samples", step, grid);
//
// The file is `events.out.tfevents.<seconds>.<host>.<pid>.<n>`. Records are protocol buffers
// written by hand (tensorflow/core/util/event.proto, framework/summary.proto), framed with masked
// CRC-32C. IoError if the file cannot be written.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "tenun/core/image.h"
#include "tenun/core/io/atomic_file.h"

namespace tenun {

class EventWriter {
 public:
  explicit EventWriter(const std::string& folder);  ///< the folder is made if need be
  void scalar(std::string_view tag, int64_t step, double value);
  void image(std::string_view tag, int64_t step, const Image& image);
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  void record(const std::string& event);
  std::string path_;
  FileHandle file_;
};

/// CRC-32C (Castagnoli).
[[nodiscard]] uint32_t crc32c(std::string_view bytes);

}  // namespace tenun
