// Json: a small ordered JSON value with a strict reader (RFC 8259) and a compact writer.
// Used for safetensors headers, state.json, metrics.jsonl and the `--json` outputs of the program.
//
//   const Json j = Json::parse(text, path);
//   for (const auto& [name, entry] : j.members()) use(entry.at("shape").as_array());
//   Json row = Json::object({{"step", 100}, {"loss", 0.25}});
//   row.dump();                                       // {"step":100,"loss":0.25}
//
// Objects keep the order of their keys; a key that comes twice, invalid UTF-8, a lone surrogate,
// nesting deeper than kMaxDepth or anything after the value is an IoError with line and column.
// Numbers without fraction and exponent that fit are int64, all others double. The writer prints
// the shortest text that reads back as the same number; a float argument keeps its own shortest
// text (0.1f is 0.1). NaN and infinities are not JSON and are written as null.
#pragma once
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tenun {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;
  static constexpr int kMaxDepth = 100;

  Json() = default;  ///< null
  Json(std::nullptr_t) {}
  Json(bool b) : v_(b) {}
  template <std::integral T>
  requires(!std::same_as<T, bool>) Json(T i) : v_(checked(i)) {}
  Json(double d) : v_(d) {}
  Json(float f);
  Json(const char* s) : v_(std::string(s)) {}
  Json(std::string_view s) : v_(std::string(s)) {}
  Json(std::string s) : v_(std::move(s)) {}
  Json(Array a) : v_(std::move(a)) {}
  [[nodiscard]] static Json object(Object members = {});
  [[nodiscard]] static Json array(Array items = {}) { return {std::move(items)}; }

  /// `where` opens the error messages: usually the path of the file.
  [[nodiscard]] static Json parse(std::string_view text, std::string_view where = "json");
  [[nodiscard]] std::string dump() const;            ///< one line, no spaces
  [[nodiscard]] std::string dump(int indent) const;  ///< several lines

  [[nodiscard]] bool is_null() const { return std::holds_alternative<std::nullptr_t>(v_); }
  [[nodiscard]] bool is_bool() const { return std::holds_alternative<bool>(v_); }
  [[nodiscard]] bool is_int() const { return std::holds_alternative<int64_t>(v_); }
  [[nodiscard]] bool is_number() const { return is_int() || std::holds_alternative<double>(v_); }
  [[nodiscard]] bool is_string() const { return std::holds_alternative<std::string>(v_); }
  [[nodiscard]] bool is_array() const { return std::holds_alternative<Array>(v_); }
  [[nodiscard]] bool is_object() const { return std::holds_alternative<Object>(v_); }

  // Typed access; an IoError says what was expected and what is there.
  [[nodiscard]] bool as_bool() const;
  [[nodiscard]] int64_t as_int() const;
  [[nodiscard]] double as_double() const;  ///< an integer converts
  [[nodiscard]] const std::string& as_string() const;
  [[nodiscard]] const Array& as_array() const;
  [[nodiscard]] const Object& members() const;
  [[nodiscard]] const Json* find(std::string_view key) const;  ///< nullptr if it is not there
  [[nodiscard]] const Json& at(std::string_view key) const;    ///< IoError if it is not there

  Json& set(std::string_view key, Json value);  ///< replaces or appends; null becomes an object
  Json& push(Json value);                       ///< appends; null becomes an array

  bool operator==(const Json& o) const { return v_ == o.v_; }

 private:
  template <class T>
  static int64_t checked(T i) {
    if (!std::in_range<int64_t>(i)) too_large();
    return static_cast<int64_t>(i);
  }
  [[noreturn]] static void too_large();
  [[noreturn]] void wrong_type(const char* wanted) const;

  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> v_;
};

}  // namespace tenun
