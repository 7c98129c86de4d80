// Networks under the names of golden files, for `tenun check` and `tenun op`.
#include "tenun/core/check.h"
#include "tenun/models/jit.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

JiTOptions jit_options(const Attrs& a) {
  JiTOptions o;
  o.input_size = a.integer("input_size", o.input_size);
  o.patch_size = a.integer("patch_size", o.patch_size);
  o.in_channels = a.integer("in_channels", o.in_channels);
  o.hidden_size = a.integer("hidden_size", o.hidden_size);
  o.depth = a.integer("depth", o.depth);
  o.num_heads = a.integer("num_heads", o.num_heads);
  o.mlp_ratio = a.real("mlp_ratio", o.mlp_ratio);
  o.num_classes = a.integer("num_classes", o.num_classes);
  o.bottleneck_dim = a.integer("bottleneck_dim", o.bottleneck_dim);
  o.use_bottleneck = a.flag("use_bottleneck", o.use_bottleneck);
  o.in_context_len = a.integer("in_context_len", o.in_context_len);
  o.in_context_start = a.integer("in_context_start", o.in_context_start);
  return o;
}

// The parameters of the file, loaded strictly: the same names in the same order.
std::vector<Var> run_jit(const OpArgs& a) {
  ParameterStore store(0, a["x"].dtype(), a["x"].device());
  const JiT net(store.root(), jit_options(a.attrs));
  size_t given = 0;
  auto it = store.begin();
  for (size_t i = 0; i < a.names.size(); ++i) {
    if (!a.names[i].starts_with("param.")) continue;
    ++given;
    const std::string name = a.names[i].substr(6);
    check<ShapeError>(it != store.end() && it->name == name, "module.jit",
                      "parameter {} is '{}', the network's is '{}'", given, name,
                      it == store.end() ? "none" : it->name);
    check<ShapeError>(a.values[i].shape() == it->var.shape(), "module.jit",
                      "'{}' is {}, the network's {}", name, a.values[i].value().describe(),
                      it->var.value().describe());
    it->var = a.values[i];
    ++it;
  }
  check<ShapeError>(it == store.end(), "module.jit", "{} parameters given, the network has {}",
                    given, store.size());
  JiTForward f;
  f.return_layer = a.attrs.integer("return_layer", -1);
  f.return_last = a.attrs.flag("return_last", false);
  const JiTOutput out = net(a["x"], a.tensor("t"), a.tensor("y"), f);
  std::vector<Var> result{out.image};
  if (f.return_layer >= 0) result.push_back(out.feature);
  if (f.return_last) result.push_back(out.last);
  return result;
}

}  // namespace

void add_model_ops(OpTable& table) {
  table.add({.name = "module.jit",
             .summary = "the JiT network in evaluation mode",
             .inputs = {{"x"}, {"t"}, {"y", false, true}, {"param.*", true}},
             .attrs = {{"input_size", "256", "pixels"},
                       {"patch_size", "16", "pixels"},
                       {"in_channels", "3", "channels"},
                       {"hidden_size", "1024", "width"},
                       {"depth", "24", "blocks"},
                       {"num_heads", "16", "heads"},
                       {"mlp_ratio", "4", "of the feed-forward width"},
                       {"attn_drop", "0", "no effect here"},
                       {"proj_drop", "0", "no effect here"},
                       {"num_classes", "1000", "without the null class"},
                       {"bottleneck_dim", "128", "of the patch embedding"},
                       {"use_bottleneck", "true", "two-step patch embedding"},
                       {"in_context_len", "32", "class tokens"},
                       {"in_context_start", "8", "the block before which they enter"},
                       {"return_layer", "-1", "capture the tokens after so many blocks"},
                       {"return_last", "false", "capture the last tokens"}},
             .outputs = {"y"},
             .call = run_jit,
             .reference = {},
             .cases = {},
             .output_names = [](const OpArgs& a) {
               std::vector<std::string> names{"y"};
               if (a.attrs.integer("return_layer", -1) >= 0) names.emplace_back("feature");
               if (a.attrs.flag("return_last", false)) names.emplace_back("last");
               return names;
             }});
}

}  // namespace tenun::tools
