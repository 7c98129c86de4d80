// Reading and writing single values, with messages that name what was expected.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "tenun/train/config/scalars.h"
#include "tenun/train/config/schema.h"

namespace tenun {
namespace {

std::string quoted_hint(const YamlNode& n, const char* what) {
  if (!n.is_scalar() || !n.quoted) return "";
  return fmt::format("a quoted value is a string: write the {} without quotes", what);
}

/// What would have been right instead of `n` where a number belongs.
std::string number_hint(const YamlNode& n) {
  std::string hint = quoted_hint(n, "number");
  if (!hint.empty() || !n.is_scalar()) return hint;
  if (has_leading_zero(n.text)) return "a leading zero is ambiguous (octal or decimal): remove it";
  if (n.text.find('_') != std::string::npos || n.text.find(',') != std::string::npos)
    return "write digits only, without separators";
  if (n.text == "nan" || n.text == ".nan" || n.text == ".NaN") return "not-a-number is no setting";
  if (n.text == "inf") return "infinity is written .inf";
  if (n.text.rfind("0x", 0) == 0) return "write the number in decimal";
  return "";
}

void check_range(double v, const std::string& shown, const YamlNode& n, const Rule& r,
                 const ReadContext& c) {
  const bool low = r.low && (r.low_open ? v <= *r.low : v < *r.low);
  const bool high = r.high && v > *r.high;
  if (low || high)
    c.problems.add(n.mark, c.path, fmt::format("{} is out of range", shown),
                   fmt::format("it must be {}", rule_text(r)));
}

std::string rewritten(const YamlNode& n, const Rule& r) {
  for (const auto& [from, to] : r.rewrites)
    if (n.text == from) return to;
  return n.text;
}

std::string number_text(double v) {
  return std::floor(v) == v && std::fabs(v) < 1e15 ? fmt::format("{:.0f}", v)
                                                   : fmt::format("{}", v);
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

}  // namespace

std::string rule_text(const Rule& r) {
  if (!r.choices.empty()) return "one of " + join(r.choices);
  if (r.low && r.high)
    return fmt::format("from {} to {}", number_text(*r.low), number_text(*r.high));
  if (r.low)
    return fmt::format("{} {}", r.low_open ? "greater than" : "at least", number_text(*r.low));
  return "";
}

bool check_list(const YamlNode& n, std::optional<std::size_t> length, const std::string& type,
                const ReadContext& c) {
  if (n.is_sequence() && (!length || n.items.size() == *length)) return true;
  const std::string wanted =
      length ? fmt::format("a list of {} {}s", *length, type) : fmt::format("a list of {}s", type);
  const std::string got = n.is_sequence() && !n.items.empty()
                              ? fmt::format("a list of {}", n.items.size())
                              : n.describe();
  c.problems.add(n.mark, c.path, fmt::format("expected {}, got {}", wanted, got),
                 "write [a, b] or one '- item' per line");
  return false;
}

bool means_empty(const YamlNode& n, const Rule& r) {
  if (n.is_null()) return true;
  return n.is_scalar() && !n.text.empty() && !n.quoted && rewritten(n, r).empty();
}

void wrong_choice(const YamlNode& n, const std::vector<std::string>& names, const ReadContext& c) {
  const std::string near = n.is_scalar() ? nearest_word(n.text, names) : "";
  c.problems.add(n.mark, c.path,
                 fmt::format("expected one of {}, got {}", join(names), n.describe()),
                 near.empty() ? "" : fmt::format("did you mean '{}'?", near));
}

void read_value(bool& v, const YamlNode& n, const Rule& r, const ReadContext& c) {
  if (n.is_scalar() && !n.quoted) {
    if (const auto value = read_bool(rewritten(n, r))) {
      v = *value;
      return;
    }
  }
  std::string hint = quoted_hint(n, "word");
  if (hint.empty()) hint = "write true or false";
  c.problems.add(n.mark, c.path, fmt::format("expected true or false, got {}", n.describe()), hint);
}

void read_value(std::int64_t& v, const YamlNode& n, const Rule& r, const ReadContext& c) {
  if (n.is_scalar() && !n.quoted) {
    if (const auto value = read_int(rewritten(n, r))) {
      v = *value;
      return check_range(static_cast<double>(v), fmt::format("{}", v), n, r, c);
    }
  }
  std::string hint = number_hint(n);
  if (hint.empty() && n.is_scalar() && read_double(n.text)) hint = "write a whole number";
  c.problems.add(n.mark, c.path, fmt::format("expected an integer, got {}", n.describe()), hint);
}

void read_value(double& v, const YamlNode& n, const Rule& r, const ReadContext& c) {
  if (n.is_scalar() && !n.quoted) {
    if (const auto value = read_double(rewritten(n, r))) {
      v = *value;
      return check_range(v, shortest_double(v), n, r, c);
    }
  }
  c.problems.add(n.mark, c.path, fmt::format("expected a number, got {}", n.describe()),
                 number_hint(n));
}

void read_value(std::string& v, const YamlNode& n, const Rule& r, const ReadContext& c) {
  if (!n.is_scalar()) {
    c.problems.add(n.mark, c.path,
                   fmt::format("expected a {}, got {}", r.path ? "path" : "string", n.describe()),
                   n.is_null() ? "quote \"null\" if the word is meant" : "");
    return;
  }
  const std::string text = rewritten(n, r);
  if (!r.choices.empty() && std::find(r.choices.begin(), r.choices.end(), text) == r.choices.end())
    return wrong_choice(n, r.choices, c);
  if (r.required && text.empty()) c.problems.add(n.mark, c.path, "must not be empty", "");
  v = text;
}

void read_value(StringMap& v, const YamlNode& n, const Rule&, const ReadContext& c) {
  v.clear();
  if (n.is_null()) return;
  if (!n.is_map()) {
    c.problems.add(n.mark, c.path, fmt::format("expected a map of strings, got {}", n.describe()),
                   "write 'name: value' pairs");
    return;
  }
  for (const auto& e : n.entries) {
    v.emplace_back(e.key, "");
    if (!e.value.is_null()) read_value(v.back().second, e.value, {}, c.at(e.key));
  }
}

void read_value(Object& v, const YamlNode& n, const Rule& r, const ReadContext& c) {
  const ClassKind kind = r.kind.value();
  if (n.is_null()) {
    if (r.nullable)
      v = Object();
    else
      c.problems.add(n.mark, c.path, fmt::format("{} is needed here, got null", kind_phrase(kind)),
                     "leave the key out to get the default");
    return;
  }
  const YamlNode* name = &n;
  const YamlNode* args = nullptr;
  if (n.is_map()) {
    for (const auto& e : n.entries) {
      if (e.key == "class_path" || e.key == "init_args") continue;
      const std::string near = nearest_word(e.key, {"class_path", "init_args"});
      c.problems.add(e.key_mark, c.at(e.key).path,
                     fmt::format("unknown key '{}' in '{}'", e.key, c.path),
                     near.empty() ? "an object has 'class_path' and 'init_args'; its settings "
                                    "belong under 'init_args'"
                                  : fmt::format("did you mean '{}'?", near));
    }
    const YamlEntry* path = n.find("class_path");
    if (path == nullptr) {
      c.problems.add(n.mark, c.at("class_path").path,
                     fmt::format("missing 'class_path' in '{}'", c.path),
                     fmt::format("name the {} class", kind_name(kind)));
      return;
    }
    name = &path->value;
    if (const YamlEntry* e = n.find("init_args")) args = &e->value;
  }
  if (!name->is_scalar() || name->text.empty()) {
    c.problems.add(name->mark, n.is_map() ? c.at("class_path").path : c.path,
                   fmt::format("expected {} class, got {}", kind_phrase(kind), name->describe()),
                   "write class_path: package.module.Class");
    return;
  }
  const auto match = ClassRegistry::instance().find(name->text, kind);
  if (match.info == nullptr) {
    c.problems.add(name->mark, n.is_map() ? c.at("class_path").path : c.path, match.message,
                   match.hint);
    return;
  }
  v = Object(*match.info);
  if (args != nullptr && !args->is_map() && !args->is_null()) {
    c.problems.add(args->mark, c.at("init_args").path,
                   fmt::format("expected a map of arguments, got {}", args->describe()),
                   "write 'name: value' pairs, or leave init_args out");
    args = nullptr;
  }
  v.set_position(name->text, name->mark, args);
  YamlNode none = YamlNode::map();
  none.mark = name->mark;
  v.fields().read(args != nullptr && args->is_map() ? *args : none, c.at("init_args"));
}

YamlNode write_value(bool v) { return YamlNode::scalar(v ? "true" : "false"); }
YamlNode write_value(std::int64_t v) { return YamlNode::scalar(fmt::format("{}", v)); }
YamlNode write_value(double v) { return YamlNode::scalar(shortest_double(v)); }
YamlNode write_value(const std::string& v) { return YamlNode::scalar(v, needs_quotes(v)); }
YamlNode write_value(const StringMap& v) {
  YamlNode n = YamlNode::map();
  for (const auto& [key, value] : v) n.entries.push_back({key, {}, write_value(value)});
  return n;
}
YamlNode write_value(const Object& v) {
  if (v.empty()) return {};
  Object copy = v;
  YamlNode args = copy.fields().write();
  if (is_function_kind(v.info().kind) && args.entries.empty()) return write_value(v.class_path());
  YamlNode n = YamlNode::map();
  n.entries.push_back({"class_path", {}, write_value(v.class_path())});
  if (!args.entries.empty()) n.entries.push_back({"init_args", {}, std::move(args)});
  return n;
}

std::string type_name(const Object*, const Rule& r) {
  return std::string(r.kind ? kind_name(*r.kind) : "object") + (r.nullable ? " or null" : "");
}

}  // namespace tenun
