#include "tenun/train/config/scalars.h"

#include <charconv>
#include <cmath>
#include <initializer_list>
#include <limits>

namespace tenun {
namespace {

bool one_of(std::string_view text, std::initializer_list<std::string_view> words) {
  for (const auto w : words)
    if (text == w) return true;
  return false;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

bool is_null_text(std::string_view text) { return one_of(text, {"", "~", "null", "Null", "NULL"}); }

std::optional<bool> read_bool(std::string_view text) {
  if (one_of(text, {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})) return true;
  if (one_of(text, {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"}))
    return false;
  return std::nullopt;
}

bool has_leading_zero(std::string_view text) {
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && is_digit(text[1]);
}

std::optional<double> read_double(std::string_view text) {
  double sign = 1.0;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    sign = text[0] == '-' ? -1.0 : 1.0;
    text.remove_prefix(1);
  }
  if (one_of(text, {".inf", ".Inf", ".INF"})) return sign * std::numeric_limits<double>::infinity();
  // from_chars would also take "inf" and "nan"; a number begins with a digit or ".digit".
  const bool number = !text.empty() && (is_digit(text[0]) ||
                                        (text[0] == '.' && text.size() > 1 && is_digit(text[1])));
  if (!number || has_leading_zero(text)) return std::nullopt;
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return sign * value;
}

std::optional<std::int64_t> read_int(std::string_view text) {
  std::string_view digits = text;
  if (!digits.empty() && digits[0] == '+') digits.remove_prefix(1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc{} && end == digits.data() + digits.size())
    return has_leading_zero(text) ? std::nullopt : std::optional(value);
  const auto real = read_double(text);  // 1e3 and 1.0 are integers too
  constexpr double kExact = 9007199254740992.0;
  if (!real || std::floor(*real) != *real || std::fabs(*real) > kExact) return std::nullopt;
  return static_cast<std::int64_t>(*real);
}

}  // namespace tenun
