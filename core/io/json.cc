#include "tenun/core/io/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tenun/core/check.h"
#include "tenun/core/io/utf8.h"

namespace tenun {
namespace {

class Parser {
 public:
  Parser(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  Json document() {
    Json v = value(0);
    skip_space();
    if (at_ != text_.size()) error("text after the end of the value");
    return v;
  }

 private:
  [[noreturn]] void error(std::string_view what) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const size_t start = before.rfind('\n') + 1;  // npos + 1 is 0
    fail<IoError>(where_, "invalid JSON at line {}, column {}: {}", line, at_ - start + 1, what);
  }
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  [[nodiscard]] bool digit() const { return peek() >= '0' && peek() <= '9'; }
  bool accept(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  bool accept_word(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Json value(int depth) {
    if (depth > Json::kMaxDepth) error("nested too deeply");
    skip_space();
    switch (peek()) {
      case '{': return object(depth);
      case '[': return array(depth);
      case '"': return string();
      case 't':
        if (accept_word("true")) return true;
        break;
      case 'f':
        if (accept_word("false")) return false;
        break;
      case 'n':
        if (accept_word("null")) return nullptr;
        break;
      default:
        if (peek() == '-' || digit()) return number();
    }
    error(at_ < text_.size() ? "expected a value" : "the text ends where a value was expected");
  }

  Json object(int depth) {
    ++at_;
    Json::Object members;
    std::vector<size_t> positions;  // of the keys, for the message about duplicates
    skip_space();
    if (!accept('}')) {
      do {
        skip_space();
        positions.push_back(at_);
        if (peek() != '"') error("expected a key in double quotes");
        std::string key = string();
        skip_space();
        if (!accept(':')) error("expected ':' after the key");
        members.emplace_back(std::move(key), value(depth + 1));
        skip_space();
      } while (accept(','));
      if (!accept('}')) error("expected ',' or '}' in the object");
    }
    reject_duplicates(members, positions);
    return Json::object(std::move(members));
  }
  void reject_duplicates(const Json::Object& members, const std::vector<size_t>& positions) {
    std::vector<size_t> order(members.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      const int c = members[a].first.compare(members[b].first);
      return c != 0 ? c < 0 : a < b;
    });
    for (size_t i = 1; i < order.size(); ++i) {
      if (members[order[i - 1]].first != members[order[i]].first) continue;
      at_ = positions[order[i]];
      error(fmt::format("the key \"{}\" comes twice", members[order[i]].first));
    }
  }

  Json array(int depth) {
    ++at_;
    Json::Array items;
    skip_space();
    if (accept(']')) return items;
    do {
      items.push_back(value(depth + 1));
      skip_space();
    } while (accept(','));
    if (!accept(']')) error("expected ',' or ']' in the array");
    return items;
  }

  std::string string() {
    ++at_;
    std::string s;
    for (;;) {
      if (at_ >= text_.size()) error("the string does not end");
      const auto c = static_cast<unsigned char>(text_[at_]);
      if (c == '"') break;
      if (c < 0x20) error("a control character in a string; write it as an escape");
      if (c == '\\') {
        escape(s);
      } else {
        const size_t n = utf8_length(text_.substr(at_));
        if (n == 0) error("invalid UTF-8");
        s.append(text_, at_, n);
        at_ += n;
      }
    }
    ++at_;
    return s;
  }
  void escape(std::string& s) {
    constexpr std::string_view kNames = "\"\\/bfnrt", kChars = "\"\\/\b\f\n\r\t";
    ++at_;
    if (accept('u')) {
      uint32_t c = hex4();
      if (c >= 0xd800 && c < 0xdc00 && accept_word("\\u")) {
        const uint32_t low = hex4();
        if (low < 0xdc00 || low > 0xdfff) error("a surrogate without its partner");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
      } else if (c >= 0xd800 && c < 0xe000) {
        error("a surrogate without its partner");
      }
      append_utf8(s, c);
      return;
    }
    const size_t k = kNames.find(peek());
    if (at_ >= text_.size() || k == std::string_view::npos) error("unknown escape");
    s += kChars[k];
    ++at_;
  }
  uint32_t hex4() {
    const std::string_view digits = text_.substr(at_, 4);
    uint32_t c = 0;
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), c, 16);
    if (digits.size() != 4 || ec != std::errc() || end != digits.data() + 4)
      error("expected four hexadecimal digits after \\u");
    at_ += 4;
    return c;
  }

  Json number() {
    const size_t start = at_;
    accept('-');
    if (!digit()) error("expected a digit");
    if (accept('0') && digit()) error("a number with a leading zero");
    while (digit()) ++at_;
    bool whole = true, small = false;
    if (accept('.')) {
      whole = false;
      if (!digit()) error("expected a digit after '.'");
      while (digit()) ++at_;
    }
    if (accept('e') || accept('E')) {
      whole = false;
      small = accept('-');
      if (!small) accept('+');
      if (!digit()) error("expected a digit in the exponent");
      while (digit()) ++at_;
    }
    const char *b = text_.data() + start, *e = text_.data() + at_;
    int64_t i = 0;
    if (whole && std::from_chars(b, e, i).ec == std::errc() && (i != 0 || *b != '-')) return i;
    double d = 0;
    if (std::from_chars(b, e, d).ec != std::errc()) {
      at_ = start;
      if (!small) error("a number beyond the range of a double");
      d = *b == '-' ? -0.0 : 0.0;
      at_ = static_cast<size_t>(e - text_.data());
    }
    return d;
  }

  std::string_view text_, where_;
  size_t at_ = 0;
};

void write_string(std::string& out, std::string_view s) {
  out += '"';
  for (size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += s[i++];
    } else if (c < 0x20) {
      if (c == '\n')
        out += "\\n";
      else if (c == '\t')
        out += "\\t";
      else
        out += fmt::format("\\u{:04x}", c);
      ++i;
    } else if (const size_t n = utf8_length(s.substr(i)); n > 0) {
      out.append(s, i, n);
      i += n;
    } else {
      append_utf8(out, 0xfffd);  // not UTF-8 (a file name, say): the replacement character
      ++i;
    }
  }
  out += '"';
}

void write_number(std::string& out, double d) {
  if (!std::isfinite(d)) {
    out += "null";
    return;
  }
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, d).ptr;
  const std::string_view s(text, static_cast<size_t>(end - text));
  out += s;
  if (s.find_first_of(".e") == std::string_view::npos) out += ".0";  // stays a double when read
}

/// indent < 0: everything on one line.
void write(std::string& out, const Json& j, int indent, int level) {
  const auto new_line = [&](int l) {
    if (indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(indent * l), ' ');
  };
  if (j.is_object() || j.is_array()) {
    const bool object = j.is_object();
    const size_t n = object ? j.members().size() : j.as_array().size();
    out += object ? '{' : '[';
    for (size_t i = 0; i < n; ++i) {
      if (i > 0) out += ',';
      new_line(level + 1);
      if (object) {
        write_string(out, j.members()[i].first);
        out += indent < 0 ? ":" : ": ";
      }
      write(out, object ? j.members()[i].second : j.as_array()[i], indent, level + 1);
    }
    if (n > 0) new_line(level);
    out += object ? '}' : ']';
  } else if (j.is_string()) {
    write_string(out, j.as_string());
  } else if (j.is_int()) {
    out += std::to_string(j.as_int());
  } else if (j.is_number()) {
    write_number(out, j.as_double());
  } else {
    out += j.is_null() ? "null" : j.as_bool() ? "true" : "false";
  }
}

}  // namespace

Json::Json(float f) : v_(static_cast<double>(f)) {
  if (!std::isfinite(f)) return;
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, f).ptr;
  double d = 0;
  std::from_chars(text, end, d);
  v_ = d;
}
Json Json::object(Object members) {
  Json j;
  j.v_ = std::move(members);
  return j;
}
Json Json::parse(std::string_view text, std::string_view where) {
  return Parser(text, where).document();
}
std::string Json::dump() const { return dump(-1); }
std::string Json::dump(int indent) const {
  std::string out;
  write(out, *this, indent, 0);
  return out;
}

bool Json::as_bool() const {
  if (const auto* b = std::get_if<bool>(&v_)) return *b;
  wrong_type("true or false");
}
int64_t Json::as_int() const {
  if (const auto* i = std::get_if<int64_t>(&v_)) return *i;
  wrong_type("an integer");
}
double Json::as_double() const {
  if (const auto* d = std::get_if<double>(&v_)) return *d;
  if (const auto* i = std::get_if<int64_t>(&v_)) return static_cast<double>(*i);
  wrong_type("a number");
}
const std::string& Json::as_string() const {
  if (const auto* s = std::get_if<std::string>(&v_)) return *s;
  wrong_type("a string");
}
const Json::Array& Json::as_array() const {
  if (const auto* a = std::get_if<Array>(&v_)) return *a;
  wrong_type("an array");
}
const Json::Object& Json::members() const {
  if (const auto* o = std::get_if<Object>(&v_)) return *o;
  wrong_type("an object");
}
const Json* Json::find(std::string_view key) const {
  for (const auto& [k, v] : members())
    if (k == key) return &v;
  return nullptr;
}
const Json& Json::at(std::string_view key) const {
  const Json* j = find(key);
  check<IoError>(j != nullptr, "json", "the key \"{}\" is missing", key);
  return *j;
}
Json& Json::set(std::string_view key, Json value) {
  if (is_null()) v_ = Object{};
  if (const Json* j = find(key))
    *const_cast<Json*>(j) = std::move(value);
  else
    std::get<Object>(v_).emplace_back(key, std::move(value));
  return *this;
}
Json& Json::push(Json value) {
  if (is_null()) v_ = Array{};
  if (!is_array()) wrong_type("an array");
  std::get<Array>(v_).push_back(std::move(value));
  return *this;
}

void Json::too_large() { fail<ValueError>("json", "an integer does not fit 64 bits with sign"); }
void Json::wrong_type(const char* wanted) const {
  static constexpr const char* kTypes[] = {"null",     "true or false", "an integer", "a number",
                                           "a string", "an array",      "an object"};
  fail<IoError>("json", "expected {}, got {}", wanted, kTypes[v_.index()]);
}

}  // namespace tenun
