// The settings of block.h, from the environment.
#include <charconv>
#include <cstdlib>
#include <string_view>

#include "tenun/core/check.h"
#include "tenun/tests/cuda_emulation/block.h"

namespace tenun::emulation {
namespace {

Settings from_environment() {
  Settings s;
  const auto number = [](std::string_view name, std::string_view text, auto& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    check<ConfigError>(error == std::errc{} && end == text.data() + text.size(), name,
                       "'{}' is not understood; see tests/cuda_emulation/block.h", text);
  };
  if (const char* e = std::getenv("TENUN_EMULATION_ORDER")) {
    const std::string_view text = e;
    s.order = text == "forward"   ? Settings::Order::forward
              : text == "reverse" ? Settings::Order::reverse
                                  : Settings::Order::shuffled;
    if (s.order == Settings::Order::shuffled) number("TENUN_EMULATION_ORDER", text, s.seed);
  }
  if (const char* e = std::getenv("TENUN_EMULATION_POISON"))
    number("TENUN_EMULATION_POISON", e, s.poison);
  if (const char* e = std::getenv("TENUN_EMULATION_COPIES")) {
    const std::string_view text = e;
    check<ConfigError>(text == "lazy" || text == "eager", "TENUN_EMULATION_COPIES",
                       "'{}' is neither lazy nor eager", text);
    s.eager_copies = text == "eager";
  }
  if (const char* e = std::getenv("TENUN_CUDA_HOPPER")) s.hopper = std::string_view(e) == "1";
  return s;
}

}  // namespace

Settings& settings() {
  static Settings s = from_environment();
  return s;
}

}  // namespace tenun::emulation
