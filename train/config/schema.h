// Typed option structs described once. One `describe(Fields&, T&)` per struct names every member
// with its documentation and range; from it come parsing, strictness, defaults, `--print-config`,
// the reference in docs/config.md and the did-you-mean list.
//
//   struct SgdOptions { double lr = 0.01, momentum = 0.0; };
//   void describe(Fields& f, SgdOptions& o) {
//     f.add("lr", o.lr, "learning rate", positive() | synonym("learning_rate"));
//     f.add("momentum", o.momentum, "momentum", in_range(0, 1));
//   }
//
// Members: bool, int64, double, string, enum class, Object (registry.h), described structs, maps of
// strings; optional (null), vector and array of those.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tenun/train/config/registry.h"
#include "tenun/train/config/rules.h"
#include "tenun/train/config/yaml.h"

namespace tenun {

class Fields;
using StringMap = std::vector<std::pair<std::string, std::string>>;

/// Where a value is being read: its path, and where problems go.
struct ReadContext {
  ConfigProblems& problems;
  std::string path;
  [[nodiscard]] ReadContext at(const std::string& key) const {
    return {problems, path.empty() ? key : path + "." + key};
  }
};

/// What a field says about itself, and how it is read and written.
struct Field {
  std::string name;
  std::string doc;
  std::string type;  ///< "int", "number or null", "list of objects (callback)" ...
  Rule rule;
  bool stored = true;  ///< false: accepted and checked, without effect
  std::function<void(const YamlNode&, const ReadContext&)> read;
  std::function<YamlNode()> write;
  std::function<void(Fields&)> nested;                       ///< fields of a nested struct
  std::function<void(std::vector<const Object*>&)> objects;  ///< objects held directly
};

/// A rule that concerns several members; the key says where the message points.
struct Complaint {
  std::string key;
  std::string message;
  std::string hint;
};

// How one value is read and written; `Rule` has been made for it. In fields.cc.
void read_value(bool& v, const YamlNode& n, const Rule& r, const ReadContext& c);
void read_value(std::int64_t& v, const YamlNode& n, const Rule& r, const ReadContext& c);
void read_value(double& v, const YamlNode& n, const Rule& r, const ReadContext& c);
void read_value(std::string& v, const YamlNode& n, const Rule& r, const ReadContext& c);
void read_value(StringMap& v, const YamlNode& n, const Rule& r, const ReadContext& c);
void read_value(Object& v, const YamlNode& n, const Rule& r, const ReadContext& c);
YamlNode write_value(bool v);
YamlNode write_value(std::int64_t v);
YamlNode write_value(double v);
YamlNode write_value(const std::string& v);
YamlNode write_value(const StringMap& v);
YamlNode write_value(const Object& v);
inline std::string type_name(const bool*, const Rule&) { return "bool"; }
inline std::string type_name(const std::int64_t*, const Rule&) { return "int"; }
inline std::string type_name(const double*, const Rule&) { return "number"; }
inline std::string type_name(const std::string*, const Rule& r) {
  return r.path ? "path" : "string";
}
inline std::string type_name(const StringMap*, const Rule&) { return "map of strings"; }
std::string type_name(const Object*, const Rule& r);

/// Reports "expected a list of ..., got ..." unless `n` is a sequence of an allowed length.
bool check_list(const YamlNode& n, std::optional<std::size_t> length, const std::string& type,
                const ReadContext& c);
/// True for null and for words that stand for nothing (rewritten to "").
bool means_empty(const YamlNode& n, const Rule& r);
/// Reports a wrong word for an enum.
void wrong_choice(const YamlNode& n, const std::vector<std::string>& names, const ReadContext& c);

/// A struct with a describe() of its own.
template <class T>
concept Described = std::is_class_v<T> && requires(Fields& f, T& t) {
  describe(f, t);
};

// Declared before any is defined, so that they nest in every order.
template <Described T>
void read_value(T& v, const YamlNode& n, const Rule& r, const ReadContext& c);
template <class T>
void read_value(std::optional<T>& v, const YamlNode& n, const Rule& r, const ReadContext& c);
template <class T>
void read_value(std::vector<T>& v, const YamlNode& n, const Rule& r, const ReadContext& c);
template <class T, std::size_t N>
void read_value(std::array<T, N>& v, const YamlNode& n, const Rule& r, const ReadContext& c);
template <Described T>
YamlNode write_value(const T& v);
template <class T>
YamlNode write_value(const std::optional<T>& v);
template <class T>
YamlNode write_value(const std::vector<T>& v);
template <class T, std::size_t N>
YamlNode write_value(const std::array<T, N>& v);
template <class T>
std::string type_name(const std::optional<T>*, const Rule& r);
template <class T>
std::string type_name(const std::vector<T>*, const Rule& r);
template <class T, std::size_t N>
std::string type_name(const std::array<T, N>*, const Rule& r);
template <Described T>
std::string type_name(const T*, const Rule&) {
  return "map";
}

template <class T>
void read_value(std::optional<T>& v, const YamlNode& n, const Rule& r, const ReadContext& c) {
  if (n.is_null()) return v.reset();
  T value = v.value_or(T{});
  read_value(value, n, r, c);
  v = std::move(value);
}
template <class T>
void read_value(std::vector<T>& v, const YamlNode& n, const Rule& r, const ReadContext& c) {
  if (r.null_is_empty && means_empty(n, r)) return v.clear();
  const bool single = !n.is_sequence() && r.single_is_list;
  if (!single && !check_list(n, std::nullopt, type_name(static_cast<const T*>(nullptr), r), c))
    return;
  v.clear();
  const std::size_t count = single ? 1 : n.items.size();
  for (std::size_t i = 0; i < count; ++i) {
    v.emplace_back();
    read_value(v.back(), single ? n : n.items[i], r, single ? c : c.at(std::to_string(i)));
  }
}
template <class T, std::size_t N>
void read_value(std::array<T, N>& v, const YamlNode& n, const Rule& r, const ReadContext& c) {
  if (!check_list(n, N, type_name(static_cast<const T*>(nullptr), r), c)) return;
  for (std::size_t i = 0; i < N; ++i) read_value(v[i], n.items[i], r, c.at(std::to_string(i)));
}
template <class T>
YamlNode write_value(const std::optional<T>& v) {
  return v ? write_value(*v) : YamlNode{};
}
template <class L>
YamlNode write_list(const L& list) {
  YamlNode n = YamlNode::sequence();
  for (const auto& item : list) n.items.push_back(write_value(item));
  return n;
}
template <class T>
YamlNode write_value(const std::vector<T>& v) {
  return write_list(v);
}
template <class T, std::size_t N>
YamlNode write_value(const std::array<T, N>& v) {
  return write_list(v);
}
template <class T>
std::string type_name(const std::optional<T>*, const Rule& r) {
  return type_name(static_cast<const T*>(nullptr), r) + " or null";
}
template <class T>
std::string type_name(const std::vector<T>*, const Rule& r) {
  return "list of " + type_name(static_cast<const T*>(nullptr), r);
}
template <class T, std::size_t N>
std::string type_name(const std::array<T, N>*, const Rule& r) {
  return "list of " + std::to_string(N) + " " + type_name(static_cast<const T*>(nullptr), r);
}

template <class T>
inline constexpr bool is_optional_struct = false;
template <Described T>
inline constexpr bool is_optional_struct<std::optional<T>> = true;

class Fields {
 public:
  /// A member of any type that read_value knows.
  template <class T>
  void add(std::string name, T& member, std::string doc, Rule rule = {}) {
    Field& f = start(std::move(name), std::move(doc), rule,
                     type_name(static_cast<const T*>(nullptr), rule));
    f.read = [&member, rule](const YamlNode& n, const ReadContext& c) {
      read_value(member, n, rule, c);
    };
    f.write = [&member] { return write_value(member); };
    if constexpr (std::is_same_v<T, Object>) {
      f.objects = [&member](std::vector<const Object*>& out) { out.push_back(&member); };
    } else if constexpr (std::is_same_v<T, std::vector<Object>>) {
      f.objects = [&member](std::vector<const Object*>& out) {
        for (const auto& o : member) out.push_back(&o);
      };
    } else if constexpr (is_optional_struct<T>) {
      f.nested = [](Fields& inner) {
        static typename T::value_type sample;  // documents the keys; never read into
        describe(inner, sample);
      };
    }
  }

  /// An enum class, with the word of each value.
  template <class E>
  void add(std::string name, E& member, std::string doc,
           std::vector<std::pair<std::string, E>> words, Rule rule = {}) {
    for (const auto& w : words) rule.choices.push_back(w.first);
    Field& f = start(std::move(name), std::move(doc), rule, "word");
    f.read = [&member, words, rule](const YamlNode& n, const ReadContext& c) {
      for (const auto& [word, value] : words)
        if (n.is_scalar() && n.text == word) {
          member = value;
          return;
        }
      wrong_choice(n, rule.choices, c);
    };
    f.write = [&member, words] {
      for (const auto& [word, value] : words)
        if (value == member) return write_value(word);
      return YamlNode{};
    };
  }

  /// A nested struct with a describe() of its own.
  template <class T>
  void nest(std::string name, T& member, std::string doc) {
    nest(std::move(name), std::move(doc), [&member](Fields& inner) { describe(inner, member); });
  }
  void nest(std::string name, std::string doc, std::function<void(Fields&)> describe_member);

  /// A list of structs that each start from `base()` as it is when everything has been read, and
  /// name only what differs.
  template <Described T>
  void add_changes(std::string name, std::vector<T>& member, std::function<T()> base,
                   std::string doc) {
    Field& f = start(std::move(name), std::move(doc), {}, "list of maps");
    const auto nodes = std::make_shared<std::vector<YamlNode>>();
    const auto fill = [&member, base = std::move(base), nodes](const ReadContext& c) {
      member.clear();
      for (std::size_t i = 0; i < nodes->size(); ++i) {
        member.push_back(base());
        read_value(member.back(), (*nodes)[i], {}, c.at(std::to_string(i)));
      }
    };
    f.read = [nodes, fill](const YamlNode& n, const ReadContext& c) {
      if (!check_list(n, std::nullopt, "map", c)) return;
      *nodes = n.items;
      fill(c);
    };
    f.write = [&member] { return write_value(member); };
    check([nodes, fill]() -> std::optional<Complaint> {
      ConfigProblems found_before;
      if (!nodes->empty()) fill({found_before, ""});
      return std::nullopt;
    });
  }

  /// Accepted for compatibility, checked against `type` ("int", "number or null", "any" ...), but
  /// without effect; the doc says why.
  void ignored(const std::vector<std::string>& names, const std::string& type,
               const std::string& doc);

  /// Keeps keys that no member describes, instead of reporting them.
  void keep_unknown(YamlNode& rest) { rest_ = &rest; }

  /// Checked after the struct has been read without problems.
  void check(std::function<std::optional<Complaint>()> rule) { checks_.push_back(std::move(rule)); }

  [[nodiscard]] const std::vector<Field>& all() const& { return fields_; }
  const std::vector<Field>& all() && = delete;  // it would dangle
  [[nodiscard]] const Field* find(std::string_view name) const;

  /// Reads a map into the described members. `where` names the map in messages.
  void read(const YamlNode& map, const ReadContext& c) const;
  /// All stored members as a map.
  [[nodiscard]] YamlNode write() const;

 private:
  Field& start(std::string name, std::string doc, const Rule& rule, std::string type);
  [[nodiscard]] std::pair<std::string, std::string> suggest(const std::string& key) const;

  std::vector<Field> fields_;
  std::vector<std::function<std::optional<Complaint>()>> checks_;
  YamlNode* rest_ = nullptr;
};

template <Described T>
void read_value(T& v, const YamlNode& n, const Rule&, const ReadContext& c) {
  Fields f;
  describe(f, v);
  f.read(n, c);
}
template <Described T>
YamlNode write_value(const T& v) {
  T copy = v;
  Fields f;
  describe(f, copy);
  return f.write();
}

}  // namespace tenun
