// Inheritance (`base`), merging and command line overrides.
#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "tenun/train/config/yaml.h"

namespace tenun {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMaxBases = 64;
constexpr int kMaxBaseDepth = 16;

bool is_object(const YamlNode& n) { return n.is_map() && n.find("class_path") != nullptr; }

/// "a.b.C": what stands for an object without arguments.
bool looks_like_class(const YamlNode& n) {
  return n.is_scalar() && !n.text.empty() &&
         std::isalpha(static_cast<unsigned char>(n.text[0])) != 0 &&
         n.text.find_first_of(" :/") == std::string::npos;
}

void to_object(YamlNode& n) {
  YamlNode object = YamlNode::map();
  object.mark = n.mark;
  object.entries.push_back({"class_path", n.mark, std::move(n)});
  n = std::move(object);
}

bool is_object_key(std::string_view key) { return key == "class_path" || key == "init_args"; }

struct Loader {
  ConfigProblems& problems;
  std::size_t& order;
  std::vector<std::string> open{};  // canonical names, outermost first
  std::size_t files = 0;

  YamlNode load(const std::string& file, const Mark& from) {
    std::error_code ignored;
    const std::string canonical = fs::weakly_canonical(file, ignored).string();
    if (std::find(open.begin(), open.end(), canonical) != open.end()) {
      problems.add(from, "base", fmt::format("'{}' inherits from itself", file),
                   "remove one 'base' of the cycle");
      return incomplete();
    }
    if (static_cast<int>(open.size()) >= kMaxBaseDepth || ++files > kMaxBases) {
      problems.add(from, "base",
                   fmt::format("more than {} files inherit from each other", kMaxBases),
                   "flatten the chain of 'base'");
      return incomplete();
    }
    std::ifstream in(file, std::ios::binary);
    if (!in || fs::is_directory(file, ignored)) {
      problems.add(from, from.line > 0 ? "base" : "", fmt::format("cannot read '{}'", file),
                   from.line > 0 ? "the path is relative to the file that names it"
                                 : "give the path of an existing YAML file");
      return incomplete();
    }
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    const std::size_t before = problems.size();
    YamlNode root = parse_yaml(text, file, problems, order++);
    if (!root.is_map()) {
      if (problems.size() == before)
        problems.add(root.mark, "",
                     fmt::format("expected a map of settings at the top, got {}", root.describe()),
                     "write 'model:', 'data:' and 'trainer:' sections");
      return incomplete();
    }
    root.entries.erase(std::remove_if(root.entries.begin(), root.entries.end(),
                                      [](const YamlEntry& e) {
                                        return e.key.rfind("x-", 0) == 0 ||
                                               e.key.rfind('.', 0) == 0;
                                      }),
                       root.entries.end());
    open.push_back(canonical);
    YamlNode merged = bases_of(root, fs::path(file).parent_path());
    open.pop_back();
    if (!merged.is_map()) return root;
    merge_yaml(merged, std::move(root));
    return merged;
  }

  YamlNode incomplete() {
    problems.set_incomplete();
    return {};
  }

  YamlNode bases_of(YamlNode& root, const fs::path& folder) {
    const YamlEntry* base = root.find("base");
    if (base == nullptr) return {};
    const YamlNode value = base->value;
    const Mark key_mark = base->key_mark;
    root.erase("base");
    std::vector<YamlNode> names;
    if (value.is_sequence())
      names = value.items;
    else
      names.push_back(value);
    YamlNode merged;
    for (const auto& name : names) {
      if (!name.is_scalar()) {
        problems.add(
            name.mark, "base",
            fmt::format("'base' takes a file name or a list of them, got {}", name.describe()),
            "write 'base: other.yaml'");
        continue;
      }
      YamlNode one = load((folder / name.text).string(), name.mark);
      if (!merged.is_map())
        merged = std::move(one);
      else if (one.is_map())
        merge_yaml(merged, std::move(one));
    }
    return merged;
  }
};

/// "a.b[0].c" -> a, b, 0, c; empty on a malformed path.
std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < path.size(); ++i) {
    const char c = path[i];
    if (c == '.') {
      if (parts.back().empty()) return {};
      parts.emplace_back();
    } else if (c == '[') {
      const auto close = path.find(']', i);
      if (close == std::string_view::npos || parts.back().empty()) return {};
      parts.emplace_back(path.substr(i + 1, close - i - 1));
      i = close;
      if (i + 1 < path.size() && path[i + 1] != '.' && path[i + 1] != '[') return {};
    } else {
      parts.back() += c;
    }
  }
  return parts.back().empty() ? std::vector<std::string>{} : parts;
}

std::optional<std::size_t> list_index(const std::string& text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

void set_marks(YamlNode& n, const Mark& mark) {
  n.mark = mark;
  for (auto& item : n.items) set_marks(item, mark);
  for (auto& entry : n.entries) {
    entry.key_mark = mark;
    set_marks(entry.value, mark);
  }
}

/// Walks down one override's path and sets its value there.
struct Setter {
  const std::vector<std::string>& path;
  const std::string& key;
  const Mark& mark;
  YamlNode value;
  ConfigProblems& problems;

  void set(YamlNode& node, std::size_t i) {
    if (i == path.size()) {
      merge_yaml(node, std::move(value));
      return;
    }
    if (node.is_sequence()) {
      const auto index = list_index(path[i]);
      const std::size_t size = node.items.size();
      if (index && *index < size) return set(node.items[*index], i + 1);
      problems.add(mark, key, fmt::format("'{}' is not an index of a list of {}", path[i], size),
                   size == 0 ? "the list is empty" : fmt::format("use 0 to {}", size - 1));
      return;
    }
    if (is_object_key(path[i]) && looks_like_class(node)) to_object(node);
    const std::string name = is_object(node) && path[i] == "type" ? "class_path" : path[i];
    if (is_object(node) && !is_object_key(name)) {  // `optimizer.lr` is `optimizer.init_args.lr`
      YamlNode& args = node.at_or_add("init_args", mark);
      if (!args.is_map()) make_map(args);
      return set_entry(args, name, i);
    }
    if (!node.is_map()) make_map(node);
    if (name == "class_path" && i + 1 == path.size()) {
      const YamlEntry* old = node.find("class_path");
      if (old != nullptr && !same_content(old->value, value)) node.erase("init_args");
    }
    set_entry(node, name, i);
  }

  void set_entry(YamlNode& map, const std::string& name, std::size_t i) {
    YamlNode& child = map.at_or_add(name, mark);
    map.find(name)->key_mark = mark;
    set(child, i + 1);
  }

  void make_map(YamlNode& node) const {
    node = YamlNode::map();
    node.mark = mark;
  }
};

}  // namespace

void expand_short_forms(YamlNode& node) {
  for (auto& item : node.items) expand_short_forms(item);
  for (auto& entry : node.entries)
    if (entry.key != "tags") expand_short_forms(entry.value);
  const YamlEntry* type = node.find("type");
  if (type == nullptr || !type->value.is_scalar() || node.find("class_path") != nullptr) return;
  YamlNode args = YamlNode::map();
  args.mark = node.mark;
  YamlEntry path = *type;
  path.key = "class_path";
  for (auto& entry : node.entries)
    if (entry.key != "type") args.entries.push_back(std::move(entry));
  node.entries.clear();
  node.entries.push_back(std::move(path));
  if (!args.entries.empty()) node.entries.push_back({"init_args", node.mark, std::move(args)});
}

YamlNode load_yaml(const std::string& file, ConfigProblems& problems, std::size_t& order) {
  auto source = std::make_shared<ConfigSource>();
  source->name = file;
  source->order = order;
  Loader loader{problems, order};
  return loader.load(file, {source, 0, 0});
}

YamlNode load_yaml(const std::string& file, ConfigProblems& problems) {
  std::size_t order = 0;
  return load_yaml(file, problems, order);
}

void merge_yaml(YamlNode& target, YamlNode over) {
  if (over.is_map() && looks_like_class(target) &&
      (is_object(over) || over.find("init_args") != nullptr))
    to_object(target);
  if (!over.is_map() || !target.is_map()) {
    target = std::move(over);
    return;
  }
  if (is_object(target)) {
    if (const YamlEntry* path = over.find("class_path")) {
      const YamlNode& old = target.find("class_path")->value;
      if (!same_content(old, path->value)) target.erase("init_args");
    } else {
      // `optimizer: {lr: 1e-3}` over an object means its arguments.
      YamlNode args = YamlNode::map();
      args.mark = over.mark;
      std::vector<YamlEntry> kept;
      for (auto& entry : over.entries)
        (is_object_key(entry.key) ? kept : args.entries).push_back(std::move(entry));
      over.entries = std::move(kept);
      if (!args.entries.empty()) {
        YamlNode& own = over.at_or_add("init_args", over.mark);
        if (!own.is_map()) own = YamlNode::map();
        merge_yaml(own, std::move(args));
      }
    }
  }
  for (auto& entry : over.entries) {
    if (YamlEntry* mine = target.find(entry.key)) {
      mine->key_mark = entry.key_mark;
      merge_yaml(mine->value, std::move(entry.value));
    } else {
      target.entries.push_back(std::move(entry));
    }
  }
}

std::vector<Override> parse_overrides(const std::vector<std::string>& arguments) {
  std::vector<Override> out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& flag = arguments[i];
    const bool dashes = flag.rfind("--", 0) == 0;
    const std::string body = dashes ? flag.substr(2) : flag;
    const auto equals = body.find('=');
    if (equals != std::string::npos && equals > 0) {
      out.push_back({body.substr(0, equals), body.substr(equals + 1), flag});
    } else if (dashes && !body.empty() && i + 1 < arguments.size() &&
               arguments[i + 1].rfind("--", 0) != 0) {
      out.push_back({body, arguments[i + 1], flag + " " + arguments[i + 1]});
      ++i;
    } else {
      throw UsageError(
          fmt::format("'{}' sets nothing: write --key.path=value or --key.path value", flag));
    }
  }
  return out;
}

void apply_override(YamlNode& root, const Override& change, ConfigProblems& problems,
                    std::size_t number) {
  auto source = std::make_shared<ConfigSource>();
  source->name = change.flag;
  source->order = (static_cast<std::size_t>(1) << 32) + number;  // after every file
  source->is_flag = true;
  const Mark mark{source, 0, 0};
  const auto path = split_path(change.key);
  if (path.empty() || static_cast<int>(path.size()) > kMaxYamlDepth / 2) {
    problems.add(mark, change.key, fmt::format("'{}' is not a path of keys", change.key),
                 "write --trainer.max_steps=1000 or --trainer.callbacks.0.init_args.decay=0.99");
    return;
  }
  ConfigProblems syntax;
  YamlNode value = parse_yaml(change.value, change.flag, syntax);
  if (!syntax.empty()) {
    problems.add(mark, change.key, fmt::format("the value '{}' is not valid YAML", change.value),
                 "quote it for the shell and for YAML");
    return;
  }
  set_marks(value, mark);
  Setter{path, change.key, mark, std::move(value), problems}.set(root, 0);
}

}  // namespace tenun
