// Golden files: reference inputs, outputs and gradients of one op in a safetensors file, from any
// framework. The tensors are in.<arg>, param.<name>, cot.<output>, out.<output>, grad.in.<arg>,
// grad.param.<name>; the metadata hold op, attrs (JSON), rtol, atol, rtol32, atol32 and optionally
// max_rel_l1 (in attrs). See docs/golden_files.md.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tenun/core/io/json.h"
#include "tenun/core/io/safetensors.h"
#include "tenun/ops/cases/registry.h"

namespace tenun {

using OpLookup = std::function<const OpDef*(const std::string&)>;

/// {"a": {"b": 1}} becomes a.b = 1; null entries are left out.
[[nodiscard]] Attrs attrs_from_json(const Json& object);
/// A call read from a file: in.x -> x, param.w -> param.w; floating tensors converted to `dtype`.
[[nodiscard]] OpArgs args_from_file(const TensorFile& file, DType dtype);

struct GoldenResult {
  enum class Verdict { passed, failed, skipped, unknown_op } verdict = Verdict::passed;
  std::string op;
  double worst = 0;   ///< largest share of its tolerance that an element uses
  std::string where;  ///< the tensor of `worst`
  std::vector<std::string> problems;
};

/// Runs a golden file in f64, f32 or bf16 on a device. In bf16, which the files give no tolerance
/// for, the reference is the op in f64 on the rounded inputs (which must itself agree with the
/// file), and the relative L1 distance of every tensor must be at most 3 % plus one rounding of the
/// largest upstream gradient (discrete outputs are not compared); an op that takes no bf16 is
/// skipped. IoError for a file that is not a golden file.
[[nodiscard]] GoldenResult check_golden(const std::string& path, const OpLookup& find, DType dtype,
                                        Device device);

/// The names of an op's outputs for these arguments.
[[nodiscard]] std::vector<std::string> output_names(const OpDef& def, const OpArgs& args);

/// Outputs, and with `cotangents` (one per output, undefined where none) the gradients of all
/// floating inputs, by name: "out.y", "grad.in.x", "grad.param.w".
[[nodiscard]] std::map<std::string, Tensor> run_op(const OpDef& def, const OpArgs& args,
                                                   const std::map<std::string, Tensor>& cotangents);

}  // namespace tenun
