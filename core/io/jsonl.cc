#include "tenun/core/io/jsonl.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include "tenun/core/check.h"

namespace tenun {
namespace {

constexpr size_t kMaxBytes = size_t{16} << 30;

/// Does the line count for a run that stands at `step`? Lines that are not JSON do not.
bool keep(std::string_view line, int64_t step) {
  try {
    const Json row = Json::parse(line);
    const Json* s = row.is_object() ? row.find("step") : nullptr;
    return s == nullptr || !s->is_number() || s->as_double() <= static_cast<double>(step);
  } catch (const IoError&) {
    return false;
  }
}

}  // namespace

JsonlWriter::JsonlWriter(std::string path, const Json& header) : path_(std::move(path)) {
  truncate_after(path_, std::numeric_limits<int64_t>::max());
  std::error_code ec;
  const bool fresh = !std::filesystem::exists(path_) || std::filesystem::file_size(path_, ec) == 0;
  file_ = open_append(path_);
  if (fresh) write(header);
}

void JsonlWriter::write(Json row) {
  Json nonfinite;
  for (const auto& [key, value] : row.members())
    if (value.is_number() && !std::isfinite(value.as_double())) nonfinite.push(key);
  if (!nonfinite.is_null()) row.set("nonfinite", std::move(nonfinite));  // dump() writes the nulls
  write_all(file_, row.dump() + "\n", path_);
}

int64_t JsonlWriter::truncate_after(const std::string& path, int64_t step) {
  if (!std::filesystem::exists(path)) return 0;
  const std::string text = read_file(path, kMaxBytes);
  std::string kept;
  int64_t removed = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    const std::string_view line(text.data() + at, std::min(end, text.size()) - at);
    at = end == std::string::npos ? text.size() : end + 1;
    if (end != std::string::npos && keep(line, step)) {
      kept += line;
      kept += '\n';
    } else {
      ++removed;
    }
  }
  if (removed > 0) write_file(path, kept);
  return removed;
}

}  // namespace tenun
