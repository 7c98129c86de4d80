// tenun op: one op on tensors of a file. tenun ops: the list.
#include "tenun/core/check.h"
#include "tenun/ops/cases/golden.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

Attrs attrs_flag(const std::string& text) {
  try {
    const Json json = Json::parse(text, "--attrs");
    check<UsageError>(json.is_object(), "--attrs", "takes a JSON object, {{\"axis\": 1}}, got {}",
                      json.dump());
    return attrs_from_json(json);
  } catch (const IoError& e) {
    throw UsageError(e.what());
  }
}

}  // namespace

int op_command(const Common& common, const OpOptions& o) {
  const OpDef& def = require_op(o.name);
  const DType dtype = dtype_flag(o.dtype);
  check<UsageError>(is_floating(dtype), "--dtype", "takes f64, f32, bf16 or f16, got '{}'",
                    o.dtype);
  const Attrs attrs = attrs_flag(o.attrs);
  check_target(o.output, "-o");
  const Device device = device_flag(common);
  const TensorFile file = load_safetensors(o.input);
  OpArgs args = args_from_file(file, dtype);
  args.attrs = attrs;
  check<UsageError>(!args.names.empty(), o.input,
                    "holds no tensor named in.<input> or param.<name>");
  check_args(def, args);
  for (Var& v : args.values) v = Var(v.value().to(device));
  std::map<std::string, Tensor> cotangents;
  if (o.grad) {
    for (const auto& [name, tensor] : file.tensors)
      if (name.starts_with("cot.")) cotangents[name.substr(4)] = tensor.to(dtype).to(device);
    check<UsageError>(!cotangents.empty(), o.input,
                      "--grad needs the upstream gradients as cot.<output>");
    check<UsageError>(def.differentiable, def.name, "has no gradient");
  }
  std::vector<NamedTensor> out;
  for (auto& [name, tensor] : run_op(def, args, cotangents)) {
    fmt::print("{}  {}\n", name, tensor.describe());
    out.push_back({name, tensor.to(cpu()).dtype() == DType::boolean ? tensor.to(DType::i64)
                                                                    : tensor.to(cpu())});
  }
  save_safetensors(o.output, out, {{"op", def.name}, {"attrs", o.attrs}});
  return 0;
}

int ops_command(const OpsOptions& o) {
  std::vector<const OpDef*> defs;
  for (const std::string& name : o.names) defs.push_back(&require_op(name));
  const bool details = !o.names.empty() || o.markdown;
  if (o.names.empty()) defs = all_ops();
  for (const OpDef* d : defs) {
    std::string inputs, outputs;
    for (const InputDef& i : d->inputs)
      inputs += fmt::format("{}{}{}", inputs.empty() ? "" : ", ", i.name, i.optional ? "?" : "");
    for (const std::string& n : d->outputs) outputs += (outputs.empty() ? "" : ", ") + n;
    if (o.markdown) {
      std::string attrs;
      for (const AttrDef& a : d->attrs)
        attrs += fmt::format("{}`{}`{}", attrs.empty() ? "" : ", ", a.name,
                             a.otherwise.empty() ? "" : " = " + a.otherwise);
      fmt::print("| `{}` | {} | {} | {} | {} |\n", d->name, inputs, attrs, outputs, d->summary);
      continue;
    }
    fmt::print("{:<26} ({}) -> {}   {}\n", d->name, inputs, outputs, d->summary);
    if (!details) continue;
    for (const AttrDef& a : d->attrs)
      fmt::print("    {:<20} {}{}\n", a.name, a.help,
                 a.otherwise.empty() ? " (required)" : " (default " + a.otherwise + ")");
    if (!d->differentiable) fmt::print("    no gradient\n");
  }
  return 0;
}

}  // namespace tenun::tools
