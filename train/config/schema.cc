#include "tenun/train/config/schema.h"

#include <fmt/core.h>

#include <algorithm>

#include "tenun/train/config/scalars.h"

namespace tenun {
namespace {

/// Checks a value against the words of an ignored field's type: "int or string or null", "any".
bool fits(const YamlNode& n, const std::string& type) {
  const auto says = [&](const char* word) { return type.find(word) != std::string::npos; };
  if (says("any")) return true;
  if (n.is_null()) return says("null");
  if (n.is_sequence()) return says("list");
  if (n.is_map()) return says("map");
  if (says("string")) return true;
  if (n.quoted) return false;
  if (says("false")) return read_bool(n.text) == false;
  return (says("bool") && read_bool(n.text)) || (says("int") && read_int(n.text)) ||
         (says("number") && read_double(n.text));
}

}  // namespace

Field& Fields::start(std::string name, std::string doc, const Rule& rule, std::string type) {
  Field f;
  f.name = std::move(name);
  f.doc = std::move(doc);
  f.type = std::move(type);
  f.rule = rule;
  fields_.push_back(std::move(f));
  return fields_.back();
}

void Fields::nest(std::string name, std::string doc, std::function<void(Fields&)> describe_member) {
  Field& f = start(std::move(name), std::move(doc), {}, "map");
  f.nested = describe_member;
  f.read = [describe_member](const YamlNode& n, const ReadContext& c) {
    Fields inner;
    describe_member(inner);
    inner.read(n, c);
  };
  f.write = [describe_member] {
    Fields inner;
    describe_member(inner);
    return inner.write();
  };
  f.objects = [describe_member](std::vector<const Object*>& out) {
    Fields inner;
    describe_member(inner);
    for (const auto& field : inner.fields_)
      if (field.objects) field.objects(out);
  };
}

void Fields::ignored(const std::vector<std::string>& names, const std::string& type,
                     const std::string& doc) {
  for (const auto& name : names) {
    Field& f = start(name, doc, {}, type);
    f.stored = false;
    f.read = [type](const YamlNode& n, const ReadContext& c) {
      if (!fits(n, type))
        c.problems.add(n.mark, c.path, fmt::format("expected {}, got {}", type, n.describe()), "");
    };
  }
}

const Field* Fields::find(std::string_view name) const {
  for (const auto& f : fields_) {
    if (f.name == name) return &f;
    for (const auto& other : f.rule.aliases)
      if (other == name) return &f;
  }
  return nullptr;
}

/// The field that `key` was meant to be, and why: its own name, a synonym, or a nested field.
std::pair<std::string, std::string> Fields::suggest(const std::string& key) const {
  std::vector<std::string> words;
  std::vector<std::string> names;
  for (const auto& f : fields_) {
    const auto offer = [&](const std::string& word) {
      words.push_back(word);
      names.push_back(f.name);
    };
    offer(f.name);
    for (const auto& w : f.rule.aliases) offer(w);
    for (const auto& w : f.rule.synonyms) offer(w);
  }
  const std::string near = nearest_word(key, words);
  for (std::size_t i = 0; i < words.size(); ++i)
    if (!near.empty() && words[i] == near) return {names[i], "did you mean"};
  for (const auto& f : fields_) {
    if (!f.nested) continue;
    Fields inner;
    f.nested(inner);
    if (inner.find(key) != nullptr) return {f.name + "." + key, "did you mean"};
  }
  return {"", ""};
}

void Fields::read(const YamlNode& map, const ReadContext& c) const {
  const std::string where = c.path.empty() ? "the top level" : fmt::format("'{}'", c.path);
  if (map.is_null()) {  // an empty section has its defaults, if nothing in it is required
    YamlNode none = YamlNode::map();
    none.mark = map.mark;
    return read(none, c);
  }
  if (!map.is_map()) {
    c.problems.add(map.mark, c.path,
                   fmt::format("expected a map of settings, got {}", map.describe()),
                   "write 'name: value' pairs");
    return;
  }
  const std::size_t before = c.problems.size();
  std::vector<const Field*> seen;
  for (const auto& entry : map.entries) {
    const Field* field = find(entry.key);
    if (field == nullptr && rest_ != nullptr) {
      rest_->entries.push_back(entry);
      continue;
    }
    if (field == nullptr) {
      const auto [name, why] = suggest(entry.key);
      std::string hint = name.empty() ? "" : fmt::format("{} '{}'?", why, name);
      if (hint.empty() && fields_.empty()) hint = "it takes no settings";
      c.problems.add(entry.key_mark, c.at(entry.key).path,
                     fmt::format("unknown key '{}' in {}", entry.key, where), hint);
      continue;
    }
    if (std::find(seen.begin(), seen.end(), field) != seen.end()) {
      c.problems.add(entry.key_mark, c.at(entry.key).path,
                     fmt::format("'{}' is set twice, under two names", field->name),
                     fmt::format("keep '{}'", field->name));
      continue;
    }
    seen.push_back(field);
    // null keeps the default where Lightning's own default is null (an object decides itself).
    if (entry.value.is_null() && field->rule.nullable && !field->rule.kind) continue;
    field->read(entry.value, c.at(entry.key));
  }
  for (const auto& field : fields_) {
    const bool section = field.nested && field.objects;
    if (section && std::find(seen.begin(), seen.end(), &field) == seen.end()) {
      YamlNode none = YamlNode::map();  // a section left out may still lack something
      none.mark = map.mark;
      field.read(none, c.at(field.name));
    }
    if (!field.rule.required || std::find(seen.begin(), seen.end(), &field) != seen.end()) continue;
    c.problems.add(map.mark, c.at(field.name).path,
                   fmt::format("missing required key '{}' in {}", field.name, where),
                   fmt::format("{} ({})", field.doc, field.type));
  }
  if (c.problems.size() != before) return;
  for (const auto& check : checks_) {
    if (const auto complaint = check()) {
      const YamlEntry* entry = map.find(complaint->key);
      c.problems.add(entry != nullptr ? entry->value.mark : map.mark, c.at(complaint->key).path,
                     complaint->message, complaint->hint);
    }
  }
}

YamlNode Fields::write() const {
  YamlNode map = YamlNode::map();
  for (const auto& f : fields_)
    if (f.stored) map.entries.push_back({f.name, {}, f.write()});
  if (rest_ != nullptr)
    map.entries.insert(map.entries.end(), rest_->entries.begin(), rest_->entries.end());
  return map;
}

}  // namespace tenun
