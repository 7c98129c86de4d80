// Configuration of a run: YAML files and command line overrides -> RunConfig.
//
//   RunConfig c = load_config({"run.yaml"}, parse_overrides({"--trainer.max_steps=100"}));
//   require_available(c);                      // every class exists in this build
//   const auto& net = c.model.denoiser.as<JiTOptions>();
//   if (c.model.diffusion_sampler.is<HeunSamplerOptions>()) ...
//   write_file(run_directory(c) + "/config.yaml", resolved_yaml(c));    // parses to the same
//
// Later files win over earlier ones, flags win over files. Everything that is wrong is reported in
// one ConfigProblemsError (a ConfigError), as "file:line:column: message; hint" lines in order.
// The schema is PixelGen's (Lightning style: class_path and init_args) plus Tenun's own keys;
// docs/config.md lists it, written by config_reference_markdown().
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tenun/train/config/options_run.h"
#include "tenun/train/config/yaml.h"

namespace tenun {

/// Reads, merges, checks. Classes that this build lacks are accepted: see require_available().
[[nodiscard]] RunConfig load_config(const std::vector<std::string>& files,
                                    const std::vector<Override>& overrides = {});

/// The same from one text; `name` stands in for the file name. `base` is not followed.
[[nodiscard]] RunConfig parse_config(std::string_view text, const std::string& name,
                                     const std::vector<Override>& overrides = {});

/// Throws ConfigProblemsError naming each class that is known but not in this build.
void require_available(const RunConfig& config);

/// What differs from the original, one line per class in use, for the log.
[[nodiscard]] std::vector<std::string> config_notices(const RunConfig& config);

/// Every setting with its value, as YAML that load_config() reads back to the same.
[[nodiscard]] std::string resolved_yaml(const RunConfig& config);

/// `run_dir`, or <default_root_dir or ./workdirs>/exp_<tags.exp>, or <default_root_dir or
/// runs>/<config name> without tags.
[[nodiscard]] std::string run_directory(const RunConfig& config);

/// "~/x" with the home folder; other paths as they are.
[[nodiscard]] std::string expand_home(const std::string& path);

/// All keys and classes as Markdown: the text of docs/config.md.
[[nodiscard]] std::string config_reference_markdown();

/// A commented configuration to start from, for `tenun init`.
[[nodiscard]] std::string starter_config_yaml();

}  // namespace tenun
