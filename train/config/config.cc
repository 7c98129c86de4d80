#include "tenun/train/config/config.h"

#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "tenun/train/config/describe.h"

namespace tenun {
namespace {

/// Sizes that several objects must agree on. Runs only on a configuration without problems.
void check_agreement(const RunConfig& c, ConfigProblems& problems) {
  if (!c.model.denoiser.is<JiTOptions>()) return;
  const auto& net = c.model.denoiser.as<JiTOptions>();
  const auto differ = [&](const Object& o, const std::string& where, const char* argument,
                          std::int64_t value, const char* net_key, std::int64_t wanted) {
    if (value == wanted) return;
    problems.add(
        o.mark(argument), where + ".init_args." + argument,
        fmt::format("{} {} does not match the denoiser's {} {}", argument, value, net_key, wanted),
        "set both to the same number");
  };
  if (c.model.conditioner.is<LabelConditionerOptions>())
    differ(c.model.conditioner, "model.conditioner", "num_classes",
           c.model.conditioner.as<LabelConditionerOptions>().num_classes, "num_classes",
           net.num_classes);
  const Object& data = c.data.train_dataset;
  if (data.is<ImageFolderOptions>())
    differ(data, "data.train_dataset", "resolution", data.as<ImageFolderOptions>().resolution,
           "input_size", net.input_size);
  if (data.is<BatikDatasetOptions>()) {
    const auto& batik = data.as<BatikDatasetOptions>();
    differ(data, "data.train_dataset", "resolution", batik.resolution, "input_size",
           net.input_size);
    differ(data, "data.train_dataset", batik.classes.empty() ? "num_classes" : "classes",
           batik.class_count(), "num_classes", net.num_classes);
  }
  if (c.model.diffusion_trainer.is<RepaTrainerOptions>()) {
    const auto& repa = c.model.diffusion_trainer.as<RepaTrainerOptions>();
    differ(c.model.diffusion_trainer, "model.diffusion_trainer", "proj_denoiser_dim",
           repa.proj_denoiser_dim, "hidden_size", net.hidden_size);
    if (repa.align_layer > net.depth)
      problems.add(
          c.model.diffusion_trainer.mark("align_layer"),
          "model.diffusion_trainer.init_args.align_layer",
          fmt::format("align_layer {} is past the last of {} blocks", repa.align_layer, net.depth),
          "count blocks from 1");
  }
}

RunConfig build(const YamlNode& root, const std::string& name, ConfigProblems& problems) {
  RunConfig config;
  config.config_name = name;
  Fields fields;
  describe(fields, config);
  fields.read(root, {problems, ""});
  if (problems.empty()) check_agreement(config, problems);
  problems.throw_if_any();
  if (config.model.conditioner.empty() && config.model.denoiser.is<JiTOptions>()) {
    Object labels = make_object("class_label.LabelConditioner", ClassKind::conditioner);
    labels.as<LabelConditionerOptions>().num_classes =
        config.model.denoiser.as<JiTOptions>().num_classes;
    config.model.conditioner = labels;
  }
  return config;
}

void apply_all(YamlNode& root, const std::vector<Override>& overrides, ConfigProblems& problems) {
  for (std::size_t i = 0; i < overrides.size(); ++i)
    apply_override(root, overrides[i], problems, i);
  expand_short_forms(root);
}

struct Found {
  std::string path;
  Object object;
};

/// Every object of the configuration, without the ones inside a class that is not available.
std::vector<Found> all_objects(const RunConfig& config) {
  std::vector<Found> out;
  const auto walk = [&](auto&& self, const Fields& fields, const std::string& prefix) -> void {
    for (const auto& field : fields.all()) {
      const std::string path = prefix.empty() ? field.name : prefix + "." + field.name;
      if (field.nested && field.objects) {
        Fields inner;
        field.nested(inner);
        self(self, inner, path);
      } else if (field.objects) {
        std::vector<const Object*> objects;
        field.objects(objects);
        for (std::size_t i = 0; i < objects.size(); ++i) {
          if (objects[i]->empty()) continue;
          const std::string item = objects.size() > 1 ? fmt::format("{}.{}", path, i) : path;
          out.push_back({item, *objects[i]});
          Object copy = *objects[i];
          if (copy.info().unavailable.empty()) self(self, copy.fields(), item + ".init_args");
        }
      }
    }
  };
  RunConfig copy = config;
  Fields fields;
  describe(fields, copy);
  walk(walk, fields, "");
  return out;
}

}  // namespace

RunConfig load_config(const std::vector<std::string>& files,
                      const std::vector<Override>& overrides) {
  if (files.empty()) throw UsageError("no configuration file: pass -c FILE");
  ConfigProblems problems;
  std::size_t order = 0;
  YamlNode root = YamlNode::map();
  for (const auto& file : files) {
    YamlNode one = load_yaml(file, problems, order);
    if (!one.is_map()) continue;
    if (!root.mark.source) root.mark = one.mark;
    merge_yaml(root, std::move(one));
  }
  if (problems.incomplete()) problems.throw_if_any();
  apply_all(root, overrides, problems);
  return build(root, std::filesystem::path(files.back()).stem().string(), problems);
}

RunConfig parse_config(std::string_view text, const std::string& name,
                       const std::vector<Override>& overrides) {
  ConfigProblems problems;
  YamlNode root = parse_yaml(text, name, problems);
  if (!root.is_map()) problems.throw_if_any();
  apply_all(root, overrides, problems);
  return build(root, std::filesystem::path(name).stem().string(), problems);
}

void require_available(const RunConfig& config) {
  ConfigProblems problems;
  for (const auto& [path, object] : all_objects(config)) {
    const ClassInfo& info = object.info();
    if (!info.unavailable.empty())
      problems.add(object.mark(), path + ".class_path",
                   fmt::format("'{}' is known, but not in this build", info.short_name()),
                   info.unavailable);
  }
  problems.throw_if_any();
}

std::vector<std::string> config_notices(const RunConfig& config) {
  std::set<std::string> lines;
  for (const auto& found : all_objects(config))
    if (!found.object.info().notice.empty()) lines.insert(found.object.info().notice);
  return {lines.begin(), lines.end()};
}

std::string resolved_yaml(const RunConfig& config) {
  RunConfig copy = config;
  Fields fields;
  describe(fields, copy);
  return to_yaml(fields.write());
}

std::string run_directory(const RunConfig& config) {
  if (config.run_dir) return expand_home(*config.run_dir);
  const auto& root = config.trainer.default_root_dir;
  for (const auto& [key, value] : config.tags)
    if (key == "exp" && !value.empty())
      return expand_home(root.value_or("./workdirs")) + "/exp_" + value;
  return expand_home(root.value_or("runs")) + "/" +
         (config.config_name.empty() ? "run" : config.config_name);
}

std::string expand_home(const std::string& path) {
  if (path != "~" && path.rfind("~/", 0) != 0) return path;
  const char* home = std::getenv("HOME");
  return home != nullptr ? home + path.substr(1) : path;
}

}  // namespace tenun
