// The document tree itself, and writing it as text.
#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "tenun/train/config/scalars.h"
#include "tenun/train/config/yaml.h"

namespace tenun {

YamlNode YamlNode::scalar(std::string text, bool quoted) {
  YamlNode n;
  n.kind = Kind::scalar;
  n.text = std::move(text);
  n.quoted = quoted;
  return n;
}
YamlNode YamlNode::sequence() {
  YamlNode n;
  n.kind = Kind::sequence;
  return n;
}
YamlNode YamlNode::map() {
  YamlNode n;
  n.kind = Kind::map;
  return n;
}

const YamlEntry* YamlNode::find(std::string_view key) const {
  for (const auto& e : entries)
    if (e.key == key) return &e;
  return nullptr;
}
YamlEntry* YamlNode::find(std::string_view key) {
  for (auto& e : entries)
    if (e.key == key) return &e;
  return nullptr;
}

void YamlNode::erase(std::string_view key) {
  entries.erase(std::remove_if(entries.begin(), entries.end(),
                               [&](const YamlEntry& e) { return e.key == key; }),
                entries.end());
}

YamlNode& YamlNode::at_or_add(std::string_view key, const Mark& where) {
  if (YamlEntry* e = find(key)) return e->value;
  entries.push_back({std::string(key), where, {}});
  entries.back().value.mark = where;
  return entries.back().value;
}

std::string YamlNode::describe() const {
  switch (kind) {
    case Kind::null: return "null";
    case Kind::sequence: return items.empty() ? "an empty list" : "a list";
    case Kind::map: return entries.empty() ? "an empty map" : "a map";
    case Kind::scalar: break;
  }
  constexpr std::size_t kShown = 60;
  std::string shown = text.substr(0, kShown);
  if (text.size() > kShown) shown += "...";
  return quoted ? fmt::format("the string \"{}\"", shown) : fmt::format("'{}'", shown);
}

bool same_content(const YamlNode& a, const YamlNode& b) {
  if (a.kind != b.kind || a.items.size() != b.items.size() || a.entries.size() != b.entries.size())
    return false;
  if (a.is_scalar()) return a.text == b.text && a.quoted == b.quoted;
  for (std::size_t i = 0; i < a.items.size(); ++i)
    if (!same_content(a.items[i], b.items[i])) return false;
  for (const auto& entry : a.entries) {
    const YamlEntry* other = b.find(entry.key);
    if (other == nullptr || !same_content(entry.value, other->value)) return false;
  }
  return true;
}

std::string shortest_double(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  std::string out = fmt::format("{}", value);  // shortest form that reads back equal
  if (out.find_first_of(".en") == std::string::npos) out += ".0";
  return out;
}

bool needs_quotes(std::string_view text) {
  if (text.empty() || read_bool(text) || read_double(text)) return true;
  if (text == "~" || is_null_text(text) || text == ".nan" || text == ".NaN" || text == ".NAN")
    return true;
  const auto plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_./+-~ ()").find(c) != std::string_view::npos;
  };
  if (!std::all_of(text.begin(), text.end(), plain)) return true;
  const char first = text.front();
  if (std::isalnum(static_cast<unsigned char>(first)) == 0 && first != '/' && first != '_' &&
      first != '.' && first != '~')
    return true;
  return std::isdigit(static_cast<unsigned char>(first)) != 0 || text.back() == ' ' ||
         text.find("..") == 0;
}

namespace {

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\t': out += "\\t"; break;
      case '\r': out += "\\r"; break;
      default: out += c;
    }
  }
  return out + "\"";
}

std::string scalar_text(const YamlNode& n) {
  if (n.is_null()) return "null";
  if (n.is_sequence()) return "[]";
  if (n.is_map()) return "{}";
  // Unquoted text is a number, a bool or a word that was plain when it was read.
  return n.quoted || (needs_quotes(n.text) && !read_bool(n.text) && !read_double(n.text))
             ? quote(n.text)
             : n.text;
}

bool is_block(const YamlNode& n) { return !n.items.empty() || !n.entries.empty(); }

bool is_short_list(const YamlNode& n) {
  if (!n.is_sequence() || n.items.empty() || n.items.size() > 16) return false;
  std::size_t width = 0;
  for (const auto& item : n.items) {
    if (is_block(item)) return false;
    width += scalar_text(item).size() + 2;
  }
  return width < 80;
}

void emit(std::string& out, const YamlNode& n, int indent);

void emit_value(std::string& out, const YamlNode& n, int indent) {
  if (is_short_list(n)) {
    out += " [";
    for (std::size_t i = 0; i < n.items.size(); ++i)
      out += (i != 0 ? ", " : "") + scalar_text(n.items[i]);
    out += "]\n";
  } else if (is_block(n)) {
    out += '\n';
    emit(out, n, indent);
  } else {
    out += ' ' + scalar_text(n) + '\n';
  }
}

void emit(std::string& out, const YamlNode& n, int indent) {
  const std::string pad(static_cast<std::size_t>(indent), ' ');
  for (const auto& entry : n.entries) {
    out += pad + (needs_quotes(entry.key) ? quote(entry.key) : entry.key) + ':';
    emit_value(out, entry.value, indent + 2);
  }
  for (const auto& item : n.items) {
    out += pad + '-';
    if (item.is_map() && is_block(item)) {
      std::string body;  // the first key follows the dash
      emit(body, item, indent + 2);
      out += ' ' + body.substr(static_cast<std::size_t>(indent) + 2);
    } else {
      emit_value(out, item, indent + 2);
    }
  }
}

}  // namespace

std::string to_yaml(const YamlNode& node) {
  if (!is_block(node)) return scalar_text(node) + "\n";
  std::string out;
  emit(out, node, 0);
  return out;
}

}  // namespace tenun
