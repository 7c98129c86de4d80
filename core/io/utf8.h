// UTF-8 for the readers of untrusted text: the length of a well-formed sequence, and appending a
// code point. Well-formed means RFC 3629: shortest form, no surrogates, at most U+10FFFF.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace tenun {

/// Bytes (1 to 4) of the sequence that opens `s`; 0 where it is malformed or `s` is empty.
[[nodiscard]] constexpr size_t utf8_length(std::string_view s) {
  const auto byte = [&](size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const unsigned a = byte(0), b = byte(1);
  if (s.empty()) return 0;
  if (a < 0x80) return 1;
  const size_t n = a >= 0xc2 && a < 0xe0   ? 2
                   : a >= 0xe0 && a < 0xf0 ? 3
                   : a >= 0xf0 && a < 0xf5 ? 4
                                           : 0;
  for (size_t i = 1; i < n; ++i)
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  if ((a == 0xe0 && b < 0xa0) || (a == 0xf0 && b < 0x90)) return 0;  // not the shortest form
  if ((a == 0xed && b > 0x9f) || (a == 0xf4 && b > 0x8f)) return 0;  // surrogates, past the end
  return n;
}

/// Is all of `s` well-formed?
[[nodiscard]] constexpr bool is_utf8(std::string_view s) {
  while (!s.empty()) {
    const size_t n = utf8_length(s);
    if (n == 0) return false;
    s.remove_prefix(n);
  }
  return true;
}

/// Appends code point `c` (no surrogate, at most U+10FFFF).
inline void append_utf8(std::string& s, uint32_t c) {
  if (c < 0x80) {
    s += static_cast<char>(c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr uint32_t kLead[] = {0, 0xc0, 0xe0, 0xf0};
  s += static_cast<char>(kLead[more] | (c >> (6 * more)));
  for (int i = more - 1; i >= 0; --i) s += static_cast<char>(0x80 | ((c >> (6 * i)) & 0x3f));
}

}  // namespace tenun
