// The ops that the program knows by name: the table of ops/, and the modules, losses, optimizers
// and samplers that golden files check.
#pragma once
#include <string>
#include <vector>

#include "tenun/ops/cases/registry.h"

namespace tenun::tools {

/// Adds losses, optimizers, EMA and samplers.
void add_train_ops(OpTable& table);
/// Adds networks.
void add_model_ops(OpTable& table);

[[nodiscard]] const OpDef* find_op(const std::string& name);
[[nodiscard]] std::vector<const OpDef*> all_ops();
/// "; did you mean 'x'?" for the nearest of the names, or nothing.
[[nodiscard]] std::string did_you_mean(const std::string& word,
                                       const std::vector<std::string>& names);
/// UsageError with a suggestion if there is no such op.
[[nodiscard]] const OpDef& require_op(const std::string& name);

}  // namespace tenun::tools
