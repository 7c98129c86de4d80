// metrics.jsonl: one JSON object a line, append-only. The first line is a header about the run.
//
//   JsonlWriter::truncate_after(path, 1000);                     // on resume from step 1000
//   JsonlWriter log(path, Json::object({{"version", "0.1"}}));   // the header only if the file is
//   new log.write(Json::object({{"step", 1001}, {"loss", 0.25f}}));
//
// NaN and infinities are not JSON: such a member becomes null and its key is listed, as in
// {"step":7,"loss":null,"nonfinite":["loss"]}. Each line is one write, so a killed run leaves at
// most one incomplete line, which the next one removes. IoError if the file cannot be written.
#pragma once
#include <cstdint>
#include <string>

#include "tenun/core/io/atomic_file.h"
#include "tenun/core/io/json.h"

namespace tenun {

class JsonlWriter {
 public:
  JsonlWriter(std::string path, const Json& header);
  void write(Json row);  ///< an object

  /// Removes the lines whose "step" is larger than `step`, and an incomplete last line; lines
  /// without "step" stay. Returns the number of removed lines; 0 if there is no such file.
  static int64_t truncate_after(const std::string& path, int64_t step);

 private:
  std::string path_;
  FileHandle file_;
};

}  // namespace tenun
