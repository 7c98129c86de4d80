// Text -> YamlNode through yaml-cpp's events. The events (rather than yaml-cpp's own nodes) give
// the position of every key, show duplicate keys and let aliases be copied instead of shared.
#include <fmt/core.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <sstream>
#include <unordered_set>
#include <utility>

#include "tenun/train/config/yaml.h"

namespace tenun {
namespace {

/// Stops the parse at a problem after which the rest cannot be trusted.
struct Stop {};

class Builder : public YAML::EventHandler {
 public:
  Builder(std::string_view text, std::shared_ptr<const ConfigSource> source,
          ConfigProblems& problems)
      : text_(text), source_(std::move(source)), problems_(problems) {}

  YamlNode take() { return std::move(root_); }
  int documents() const { return documents_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 2)
      stop(mark, "a second document starts here; a configuration is one document",
           "remove the '---' or pass the files one by one");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node;
    node.mark = at(mark);
    finish(std::move(node), anchor, 1, 0);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end())
      stop(mark, "the alias refers to a value that contains it", "name the shared part separately");
    YamlNode copy = found->second.node;
    if (!copy.is_map() && !copy.is_sequence()) copy.mark = at(mark);
    if (static_cast<int>(stack_.size()) + found->second.depth > kMaxYamlDepth)
      stop(mark, fmt::format("nested more than {} levels deep", kMaxYamlDepth));
    finish(std::move(copy), 0, found->second.size, found->second.depth);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = YamlNode::scalar(value, check_tag(mark, tag) || tag == "!");
    if (tag == "!" && !quote_closes(mark))
      stop(mark, "the quote that opens here is never closed", "close it, or escape quotes inside");
    if (!node.quoted &&
        (value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL"))
      node.kind = YamlNode::Kind::null;
    node.mark = at(mark);
    finish(std::move(node), anchor, 1, 0);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::sequence());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::map());
  }
  void OnMapEnd() override {
    expand_merge_keys();
    close();
  }

  [[noreturn]] void stop(const YAML::Mark& mark, std::string message, std::string hint = "") {
    problems_.add(at(mark), "", std::move(message), std::move(hint));
    throw Stop{};
  }

  Mark at(const YAML::Mark& mark) const { return {source_, mark.line + 1, mark.column + 1}; }

 private:
  struct Frame {
    YamlNode node;
    YAML::anchor_t anchor = 0;
    std::size_t size = 1;
    int depth = 1;
    bool has_key = false;
    std::string key;
    Mark key_mark;
    bool key_quoted = false;
    bool key_dropped = false;       ///< not usable as a key, reported
    std::vector<YamlEntry> merged;  ///< values of `<<`, in order
    std::unordered_set<std::string> keys;
  };
  struct Anchored {
    YamlNode node;
    std::size_t size;
    int depth;
  };

  /// True where the tag asks for a string.
  bool check_tag(const YAML::Mark& mark, const std::string& tag) {
    static const std::string core = "tag:yaml.org,2002:";
    if (tag.empty() || tag == "?" || tag == "!") return false;
    if (tag.compare(0, core.size(), core) == 0) {
      const std::string name = tag.substr(core.size());
      if (name == "str") return true;
      for (const char* known : {"int", "float", "bool", "null", "map", "seq"})
        if (name == known) return false;
    }
    problems_.add(at(mark), "", fmt::format("the tag '{}' is not supported", tag),
                  "write the value without a tag");
    return false;
  }

  /// yaml-cpp takes a quoted scalar without its closing quote; block scalars pass as well.
  bool quote_closes(const YAML::Mark& mark) const {
    if (mark.pos < 0) return true;
    std::size_t i = static_cast<std::size_t>(mark.pos);
    while (i < text_.size() && (text_[i] == '!' || text_[i] == '&')) {  // a tag or an anchor first
      i = text_.find_first_of(" \t\r\n", i);
      i = i == std::string_view::npos ? text_.size() : text_.find_first_not_of(" \t\r\n", i);
    }
    if (i >= text_.size() || (text_[i] != '"' && text_[i] != '\'')) return true;
    const char quote = text_[i];
    for (++i; i < text_.size(); ++i) {
      if (quote == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote) {
        if (quote == '"' || i + 1 >= text_.size() || text_[i + 1] != quote) return true;
        ++i;
      }
    }
    return false;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode node) {
    check_tag(mark, tag);
    if (static_cast<int>(stack_.size()) >= kMaxYamlDepth)
      stop(mark, fmt::format("nested more than {} levels deep", kMaxYamlDepth));
    node.mark = at(mark);
    stack_.emplace_back();
    stack_.back().node = std::move(node);
    stack_.back().anchor = anchor;
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    finish(std::move(frame.node), frame.anchor, frame.size, frame.depth);
  }

  /// A complete value: it becomes an anchor, the root, an item, a key or the value of a key.
  void finish(YamlNode node, YAML::anchor_t anchor, std::size_t size, int depth) {
    count_ += anchor != 0 ? 2 * size : size;
    if (count_ > 4 * kMaxYamlNodes || size > kMaxYamlNodes) {
      problems_.add(node.mark, "",
                    fmt::format("the document expands to more than {} values", kMaxYamlNodes),
                    "aliases of aliases multiply");
      throw Stop{};
    }
    if (anchor != 0) anchors_[anchor] = {node, size, depth};
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& parent = stack_.back();
    parent.size += size;
    parent.depth = std::max(parent.depth, depth + 1);
    if (parent.node.is_sequence()) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      take_key(parent, node);
    } else {
      take_value(parent, std::move(node));
    }
  }

  void take_key(Frame& parent, const YamlNode& node) {
    parent.has_key = true;
    parent.key_mark = node.mark;
    parent.key_quoted = node.quoted;
    parent.key = node.is_null() ? "null" : node.text;
    if (node.is_map() || node.is_sequence()) {
      problems_.add(node.mark, "", "a key must be plain text, not a map or a list",
                    "braces in YAML begin a map: quote the key");
      parent.key_dropped = true;
    }
  }

  void take_value(Frame& parent, YamlNode node) {
    parent.has_key = false;
    if (std::exchange(parent.key_dropped, false)) return;
    if (!parent.keys.insert(parent.key).second) {
      const YamlEntry* first = parent.node.find(parent.key);
      problems_.add(parent.key_mark, parent.key, fmt::format("duplicate key '{}'", parent.key),
                    first != nullptr
                        ? fmt::format("the first one is in line {}", first->key_mark.line)
                        : "write the merge key once, with a list of aliases");
      return;
    }
    // A value left empty is marked where the next thing begins: point to its key instead.
    if (node.is_null() && node.mark.line != parent.key_mark.line) node.mark = parent.key_mark;
    YamlEntry entry{parent.key, parent.key_mark, std::move(node)};
    if (parent.key == "<<" && !parent.key_quoted)
      parent.merged.push_back(std::move(entry));
    else
      parent.node.entries.push_back(std::move(entry));
  }

  /// `<<: *map` or `<<: [*map, *map]`: own keys win, then earlier maps.
  void expand_merge_keys() {
    Frame& frame = stack_.back();
    for (auto& merge : frame.merged) {
      std::vector<YamlNode> maps;
      if (merge.value.is_sequence())
        maps = std::move(merge.value.items);
      else
        maps.push_back(std::move(merge.value));
      for (auto& map : maps) {
        if (!map.is_map()) {
          problems_.add(map.mark, "<<",
                        fmt::format("the merge key '<<' takes a map or a list of maps, got {}",
                                    map.describe()),
                        "write '<<: *anchor_of_a_map'");
          continue;
        }
        for (auto& entry : map.entries)
          if (frame.keys.insert(entry.key).second) frame.node.entries.push_back(std::move(entry));
      }
    }
    frame.merged.clear();
  }

  std::string_view text_;
  std::shared_ptr<const ConfigSource> source_;
  ConfigProblems& problems_;
  YamlNode root_;
  std::vector<Frame> stack_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  std::size_t count_ = 0;
  int documents_ = 0;
};

/// Length of the valid UTF-8 sequence at s[i], 0 if there is none (overlong forms, surrogates and
/// the control characters that YAML forbids included).
std::size_t utf8_length(std::string_view s, std::size_t i) {
  const auto byte = [&](std::size_t k) -> unsigned {
    return k < s.size() ? static_cast<unsigned char>(s[k]) : 0U;
  };
  const auto tail = [&](std::size_t k) { return (byte(k) & 0xC0U) == 0x80U; };
  const unsigned b = byte(i);
  if (b < 0x80) return (b >= 0x20 && b != 0x7F) || b == '\n' || b == '\t' || b == '\r' ? 1 : 0;
  if (b >= 0xC2 && b <= 0xDF) return tail(i + 1) ? 2 : 0;
  if (b >= 0xE0 && b <= 0xEF) {
    const unsigned next = byte(i + 1);
    if ((b == 0xE0 && next < 0xA0) || (b == 0xED && next > 0x9F)) return 0;
    return tail(i + 1) && tail(i + 2) ? 3 : 0;
  }
  if (b >= 0xF0 && b <= 0xF4) {
    const unsigned next = byte(i + 1);
    if ((b == 0xF0 && next < 0x90) || (b == 0xF4 && next > 0x8F)) return 0;
    return tail(i + 1) && tail(i + 2) && tail(i + 3) ? 4 : 0;
  }
  return 0;
}

bool check_characters(std::string_view text, const std::shared_ptr<const ConfigSource>& source,
                      ConfigProblems& problems) {
  int line = 1, column = 1;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text, i);
    if (length == 0) {
      const unsigned byte = static_cast<unsigned char>(text[i]);
      problems.add({source, line, column}, "",
                   byte < 0x80 ? fmt::format("the control character 0x{:02x} is not allowed", byte)
                               : fmt::format("byte 0x{:02x} is not valid UTF-8", byte),
                   "save the file as UTF-8 text");
      return false;
    }
    if (text[i] == '\n')
      ++line, column = 1;
    else
      ++column;
    i += length;
  }
  return true;
}

/// The first line up to `last` that a tab indents, 0 if there is none.
int tab_indented_line(std::string_view text, int last) {
  for (int line = 1; line <= last && !text.empty(); ++line) {
    const auto end = text.find('\n');
    const auto first = text.substr(0, end).find_first_not_of(" \t");
    if (text.substr(0, first).find('\t') != std::string_view::npos &&
        first != std::string_view::npos)
      return line;
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return 0;
}

}  // namespace

YamlNode parse_yaml(std::string_view text, const std::string& name, ConfigProblems& problems,
                    std::size_t order) {
  auto source = std::make_shared<ConfigSource>();
  source->name = name;
  source->order = order;
  const Mark start{source, 1, 1};
  if (text.size() > kMaxYamlBytes) {
    problems.add(start, "", fmt::format("larger than {} MiB", kMaxYamlBytes >> 20),
                 "is this a configuration file?");
    return {};
  }
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  if (!check_characters(text, source, problems)) return {};
  Builder builder(text, source, problems);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Stop&) {
    return {};
  } catch (const YAML::Exception& e) {
    const bool known = e.mark.line >= 0;
    if (const int tab = known ? tab_indented_line(text, e.mark.line + 1) : 0; tab > 0) {
      problems.add({source, tab, 1}, "", "not valid YAML: a tab cannot indent",
                   "use spaces for indentation");
      return {};
    }
    problems.add(known ? builder.at(e.mark) : start, "", fmt::format("not valid YAML: {}", e.msg),
                 "check indentation, quotes and brackets above this place");
    return {};
  }
  YamlNode root = builder.take();
  if (!root.mark.source) root.mark = start;
  expand_short_forms(root);
  return root;
}

}  // namespace tenun
