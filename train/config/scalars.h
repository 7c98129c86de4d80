// How plain YAML text becomes a value. One set of rules for parsing, type checks and quoting:
// `1e-4`, `1.0e-4`, `.5` and `.inf` are floats; `1e3` and `1.0` are also integers; `yes`, `on`,
// `True` are bools; a leading zero (octal in YAML 1.1, decimal in 1.2) is refused as ambiguous.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

namespace tenun {

[[nodiscard]] std::optional<bool> read_bool(std::string_view text);
[[nodiscard]] std::optional<std::int64_t> read_int(std::string_view text);
[[nodiscard]] std::optional<double> read_double(std::string_view text);
/// True for the spellings of null.
[[nodiscard]] bool is_null_text(std::string_view text);
/// True for 007 or -012: digits that begin with a zero.
[[nodiscard]] bool has_leading_zero(std::string_view text);

}  // namespace tenun
