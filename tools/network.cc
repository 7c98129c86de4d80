#include "tenun/tools/network.h"

#include <filesystem>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/log.h"
#include "tenun/train/checkpoint.h"

namespace tenun::tools {

namespace fs = std::filesystem;

std::string config_beside(const std::string& ckpt) {
  check<UsageError>(fs::exists(ckpt), ckpt, "no such checkpoint folder or file");
  for (fs::path p = fs::absolute(ckpt); p.has_parent_path() && p != p.root_path();
       p = p.parent_path())
    if (fs::exists(p / "config.yaml")) return (p / "config.yaml").string();
  fail<UsageError>(
      ckpt, "there is no config.yaml in the folders above it; name the configuration with -c FILE");
}

SamplerOptions& sampler_options(Object& s) {
  if (s.is<HeunSamplerOptions>()) return s.as<HeunSamplerOptions>();
  if (s.is<EulerSamplerOptions>()) return s.as<EulerSamplerOptions>();
  return s.as<AdamLMSamplerOptions>();
}

void check_classes(const std::vector<int64_t>& classes, const Model& model) {
  for (const int64_t c : classes)
    check<UsageError>(c >= 0 && c < model.null_class(), "--classes",
                      "the network knows the classes 0 to {}, not {}", model.null_class() - 1, c);
}

void load_network(Model& model, const std::string& ckpt) {
  logging::info("{}", model.load_weights(ckpt).text);
  const std::string state = ckpt + "/state.json";
  if (!fs::exists(state)) return;
  const Json s = Json::parse(read_file(state), state);
  std::vector<std::string> notices;
  apply_attention_state(model.net(Weights::raw), s.at("attention"), state, &notices);
  apply_attention_state(model.net(Weights::average), s.at("attention"), state, nullptr);
  for (const std::string& n : notices) logging::info("{}", n);
}

}  // namespace tenun::tools
