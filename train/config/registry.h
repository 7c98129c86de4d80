// The classes that a configuration can name, and `Object`: one of them with its options.
//
// A class is found by the longest suffix that its registered path shares with `class_path`, at
// least `module.Class`; a bare class name is enough where only one class has it.
//
//   const auto& o = config.model.diffusion_sampler.as<HeunSamplerOptions>();
//   if (config.model.denoiser.is<JiTOptions>()) ...
#pragma once
#include <any>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <typeinfo>
#include <vector>

#include "tenun/train/config/class_kind.h"
#include "tenun/train/config/problems.h"
#include "tenun/train/config/yaml.h"

namespace tenun {

class Fields;

struct ClassInfo {
  ClassKind kind{};
  std::string path;                  ///< full dotted path, as PixelGen writes it
  std::vector<std::string> aliases;  ///< other full paths
  std::string doc;
  std::string unavailable;  ///< empty, or when it arrives and what to use meanwhile
  std::string notice;       ///< what differs from the original, to be logged once
  std::function<std::any()> make;
  std::function<void(Fields&, std::any&)> describe;

  /// "module.Class".
  [[nodiscard]] std::string short_name() const;
  /// "Class".
  [[nodiscard]] std::string class_name() const;
};

/// A class and its options, or nothing (null).
class Object {
 public:
  Object() = default;
  explicit Object(const ClassInfo& info);

  [[nodiscard]] bool empty() const { return info_ == nullptr; }
  explicit operator bool() const { return !empty(); }
  /// "HeunSamplerJiT"; "" if empty.
  [[nodiscard]] std::string class_name() const;
  /// As it was written, or the registered path of a default.
  [[nodiscard]] const std::string& class_path() const { return path_; }
  [[nodiscard]] const ClassInfo& info() const;

  template <class T>
  [[nodiscard]] bool is() const {
    return std::any_cast<T>(&value_) != nullptr;
  }
  /// The options; throws ConfigError if they are of another type.
  template <class T>
  [[nodiscard]] const T& as() const {
    if (const T* value = std::any_cast<T>(&value_)) return *value;
    wrong_type(typeid(T).name());
  }
  template <class T>
  [[nodiscard]] T& as() {
    if (T* value = std::any_cast<T>(&value_)) return *value;
    wrong_type(typeid(T).name());
  }

  /// The members, bound to this object.
  [[nodiscard]] Fields fields();
  /// Where the class, or one of its arguments, was written.
  [[nodiscard]] Mark mark(const std::string& argument = "") const;
  void set_position(std::string path, const Mark& mark, const YamlNode* args);

 private:
  [[noreturn]] void wrong_type(const char* wanted) const;

  const ClassInfo* info_ = nullptr;
  std::string path_;
  std::any value_;
  Mark mark_;
  std::map<std::string, Mark> argument_marks_;
};

/// All classes; filled once by register_config_classes().
class ClassRegistry {
 public:
  static const ClassRegistry& instance();

  struct Match {
    const ClassInfo* info = nullptr;
    std::string message;  ///< why nothing was found
    std::string hint;
  };
  [[nodiscard]] Match find(std::string_view class_path, ClassKind kind) const;
  [[nodiscard]] const std::vector<ClassInfo>& all() const { return classes_; }

  ClassInfo& add(ClassInfo info);
  /// Adds a class with options T. `make` runs when the class is used, not when it is registered,
  /// since the defaults of T may be objects of this registry.
  template <class T>
  ClassInfo& add(
      ClassKind kind, std::string path, std::string doc, T (*make)() = [] { return T{}; }) {
    return add<T>(kind, std::move(path), std::move(doc), make,
                  [](auto& f, T& o) { describe(f, o); });
  }
  template <class T, class Describe>
  ClassInfo& add(ClassKind kind, std::string path, std::string doc, T (*make)(), Describe how) {
    ClassInfo info;
    info.kind = kind;
    info.path = std::move(path);
    info.doc = std::move(doc);
    info.make = [make] { return std::any(make()); };
    info.describe = [how](Fields& f, std::any& value) { how(f, std::any_cast<T&>(value)); };
    return add(std::move(info));
  }

 private:
  std::vector<ClassInfo> classes_;
};

/// The whole list, in the order of the reference. In classes_*.cc.
void register_config_classes(ClassRegistry& registry);

/// A default object by class path, which must be registered.
[[nodiscard]] Object make_object(std::string_view class_path, ClassKind kind);

}  // namespace tenun
