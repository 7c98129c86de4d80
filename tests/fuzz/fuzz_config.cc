// Fuzz target: YAML text, and command line overrides after a zero byte, one a line. Nothing but
// tenun::Error may come out; what resolves must resolve again from its own text to the same text.
// Seeds: configs/ and tests/golden/broken_configs.txt.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tenun/train/config/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const auto zero = all.find('\0');
  std::vector<std::string> flags;
  if (zero != std::string_view::npos) {
    std::string_view rest = all.substr(zero + 1);
    while (!rest.empty()) {
      const auto end = rest.find('\n');
      flags.emplace_back(rest.substr(0, end));
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
  }
  std::string text;
  try {
    const auto config =
        tenun::parse_config(all.substr(0, zero), "fuzz.yaml", tenun::parse_overrides(flags));
    text = tenun::resolved_yaml(config);
    static_cast<void>(tenun::run_directory(config));
  } catch (const tenun::Error&) {
    return 0;
  }
  try {
    if (tenun::resolved_yaml(tenun::parse_config(text, "again.yaml")) != text) std::abort();
  } catch (const tenun::Error&) {
    std::abort();  // the saved configuration does not parse
  }
  return 0;
}
