#include "tenun/train/config/registry.h"

#include <fmt/core.h>

#include <algorithm>

#include "tenun/core/check.h"
#include "tenun/train/config/schema.h"

namespace tenun {
namespace {

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto dot = path.find('.');
    parts.push_back(path.substr(0, dot));
    if (dot == std::string_view::npos) return parts;
    path.remove_prefix(dot + 1);
  }
}

std::size_t common_suffix(std::string_view a, std::string_view b) {
  const auto x = split(a);
  const auto y = split(b);
  std::size_t n = 0;
  while (n < x.size() && n < y.size() && x[x.size() - 1 - n] == y[y.size() - 1 - n]) ++n;
  return n;
}

std::string last_parts(const std::string& path, int count) {
  std::size_t at = path.size();
  for (int i = 0; i < count; ++i) {
    if (at == 0) break;
    const auto dot = path.rfind('.', at - 1);
    if (dot == std::string::npos) return path;
    at = dot;
  }
  return path.substr(at + 1);
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& w : words) out += (out.empty() ? "" : ", ") + w;
  return out;
}

}  // namespace

const char* kind_name(ClassKind kind) {
  switch (kind) {
    case ClassKind::denoiser: return "denoiser";
    case ClassKind::trainer: return "diffusion trainer";
    case ClassKind::sampler: return "sampler";
    case ClassKind::scheduler: return "noise scheduler";
    case ClassKind::conditioner: return "conditioner";
    case ClassKind::vae: return "vae";
    case ClassKind::encoder: return "encoder";
    case ClassKind::optimizer: return "optimizer";
    case ClassKind::lr_scheduler: return "learning rate schedule";
    case ClassKind::callback: return "callback";
    case ClassKind::logger: return "logger";
    case ClassKind::dataset: return "dataset";
    case ClassKind::plugin: return "plugin";
    case ClassKind::guidance_fn: return "guidance function";
    case ClassKind::step_fn: return "step function";
    case ClassKind::loss_weight_fn: return "loss weight function";
    case ClassKind::lms_transform_fn: return "time transform";
  }
  return "class";
}

std::string kind_phrase(ClassKind kind) {
  const std::string name = kind_name(kind);
  const bool vowel = std::string_view("aeiou").find(name[0]) != std::string_view::npos;
  return (vowel ? "an " : "a ") + name;
}

bool is_function_kind(ClassKind kind) {
  return kind == ClassKind::guidance_fn || kind == ClassKind::step_fn ||
         kind == ClassKind::loss_weight_fn || kind == ClassKind::lms_transform_fn;
}

std::string ClassInfo::short_name() const { return last_parts(path, 2); }
std::string ClassInfo::class_name() const { return last_parts(path, 1); }

Object::Object(const ClassInfo& info) : info_(&info), path_(info.path), value_(info.make()) {}

std::string Object::class_name() const { return empty() ? "" : info_->class_name(); }

const ClassInfo& Object::info() const {
  check<ConfigError>(!empty(), "Object", "nothing is configured here (null)");
  return *info_;
}

Fields Object::fields() {
  Fields f;
  if (!empty()) info_->describe(f, value_);
  return f;
}

Mark Object::mark(const std::string& argument) const {
  const auto found = argument_marks_.find(argument);
  return found != argument_marks_.end() ? found->second : mark_;
}

void Object::set_position(std::string path, const Mark& mark, const YamlNode* args) {
  path_ = std::move(path);
  mark_ = mark;
  argument_marks_.clear();
  if (args == nullptr) return;
  for (const auto& e : args->entries) argument_marks_[e.key] = e.key_mark;
}

void Object::wrong_type(const char* wanted) const {
  fail<ConfigError>("Object", "{} does not have options of type {}",
                    empty() ? std::string("null") : path_, wanted);
}

ClassInfo& ClassRegistry::add(ClassInfo info) {
  classes_.push_back(std::move(info));
  return classes_.back();
}

const ClassRegistry& ClassRegistry::instance() {
  static const ClassRegistry registry = [] {
    ClassRegistry r;
    r.classes_.reserve(128);  // add() hands out references
    register_config_classes(r);
    return r;
  }();
  return registry;
}

ClassRegistry::Match ClassRegistry::find(std::string_view class_path, ClassKind kind) const {
  const bool bare = class_path.find('.') == std::string_view::npos;
  std::size_t longest = 0;
  std::vector<const ClassInfo*> found;
  for (const auto& info : classes_) {
    std::size_t n = common_suffix(class_path, info.path);
    for (const auto& other : info.aliases) n = std::max(n, common_suffix(class_path, other));
    if (n < (bare ? 1U : 2U) || n < longest) continue;
    if (n > longest) found.clear();
    longest = n;
    found.push_back(&info);
  }
  if (found.size() > 1) {
    std::vector<const ClassInfo*> fitting;
    for (const auto* info : found)
      if (info->kind == kind) fitting.push_back(info);
    if (!fitting.empty()) found = std::move(fitting);
  }
  const std::string name(class_path);
  if (found.size() == 1) {
    if (found[0]->kind == kind) return {found[0], "", ""};
    return {nullptr,
            fmt::format("'{}' is {}, but {} is expected here", name, kind_phrase(found[0]->kind),
                        kind_phrase(kind)),
            ""};
  }
  std::vector<std::string> names;
  if (found.size() > 1) {
    for (const auto* info : found) names.push_back(info->short_name());
    return {nullptr, fmt::format("'{}' is ambiguous", name), "write one of " + join(names)};
  }
  // Nothing: suggest a class of the right kind, by class name and by module.Class.
  std::vector<std::string> available;
  const std::string last = last_parts(name, 1);
  std::vector<std::string> same_class;
  for (const auto& info : classes_) {
    if (info.kind != kind) continue;
    names.push_back(info.class_name());
    names.push_back(info.short_name());
    if (info.class_name() == last) same_class.push_back(info.short_name());
    if (info.unavailable.empty()) available.push_back(info.short_name());
  }
  std::string near = nearest_word(last_parts(name, 2), names);
  if (near.empty()) near = nearest_word(last, names);
  std::string hint;
  if (!same_class.empty() && same_class.size() > 1)
    hint = "write one of " + join(same_class);
  else if (!near.empty() || !same_class.empty())
    hint = fmt::format("did you mean '{}'?", same_class.empty() ? near : same_class[0]);
  else
    hint = "known: " + join(available);
  return {nullptr, fmt::format("unknown {} class '{}'", kind_name(kind), name), hint};
}

Object make_object(std::string_view class_path, ClassKind kind) {
  const auto match = ClassRegistry::instance().find(class_path, kind);
  check<ConfigError>(match.info != nullptr, "make_object", "{}", match.message);
  return Object(*match.info);
}

}  // namespace tenun
