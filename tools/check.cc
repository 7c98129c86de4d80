// tenun check: verifies golden files. tenun gradcheck: finite differences for the op table.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "tenun/autograd/gradcheck.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/core/random.h"
#include "tenun/ops/cases/golden.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

std::vector<std::string> golden_files(const std::vector<std::string>& paths) {
  namespace fs = std::filesystem;
  std::vector<std::string> files;
  for (const std::string& p : paths) {
    if (fs::is_directory(p)) {
      std::vector<std::string> inside;
      for (const auto& e : fs::directory_iterator(p))
        if (e.path().extension() == ".safetensors") inside.push_back(e.path().string());
      check<UsageError>(!inside.empty(), p, "the folder holds no .safetensors file");
      std::sort(inside.begin(), inside.end());
      files.insert(files.end(), inside.begin(), inside.end());
    } else {
      check<UsageError>(fs::exists(p), p, "no such file or folder");
      files.push_back(p);
    }
  }
  return files;
}

// The gradients of all outputs, weighted by fixed random numbers, for the inputs that have one.
std::vector<Tensor> weighted_gradients(const std::function<std::vector<Var>(const OpArgs&)>& call,
                                       OpArgs args) {
  Tape tape;
  std::vector<Var> parameters, results;
  std::vector<Tensor> seeds;
  for (Var& v : args.values)
    if (v.defined() && is_floating(v.dtype()))
      v = Var::parameter(v.value()), parameters.push_back(v);
  for (const Var& y : call(args))
    if (y.defined() && is_floating(y.dtype())) {
      seeds.push_back(empty_like(y.value()));
      fill_normal(seeds.back(), RandomKey::derive(1, Purpose::test, seeds.size()));
      results.push_back(y);
    }
  return tape.gradients(results, parameters, Tape::Keep::no, seeds);
}

// A straight-through op has the gradient of its surrogate by definition: compare the two backward
// passes, there are no slopes to take differences of.
GradcheckResult compare_with_surrogate(const OpDef& d, const OpArgs& args) {
  const auto mine = weighted_gradients(d.call, args),
             theirs = weighted_gradients(d.surrogate, args);
  GradcheckResult r;
  for (size_t k = 0; k < mine.size(); ++k) {
    check<AutogradError>(mine[k].defined() == theirs[k].defined(), d.name,
                         "input {} has a gradient here, but not in the surrogate, or vice versa",
                         k);
    if (!mine[k].defined()) continue;
    const auto a = doubles(mine[k]), b = doubles(theirs[k]);
    for (size_t i = 0; i < a.size(); ++i, ++r.compared) {
      const double error = std::abs(a[i] - b[i]) / (1 + std::abs(b[i]));
      if (!(error <= r.max_error)) r.max_error = error;
      if (!(error <= 1e-9) && r.ok) {
        r.ok = false;
        r.message = fmt::format("input {}, element {}: surrogate {:.9g}, backward {:.9g}", k, i,
                                b[i], a[i]);
      }
    }
  }
  return r;
}

GradcheckResult check_gradients(const OpDef& d, const OpCase& c, Device device) {
  OpArgs args = make_case(d, c, DType::f64);
  std::vector<Tensor> x;
  GradcheckOptions options;
  for (size_t k = 0; k < args.values.size(); ++k) {
    Var& v = args.values[k];
    if (v.defined()) v = Var(v.value().to(device));
    x.push_back(v.value());
    options.constant.push_back(!v.defined() || !is_floating(v.dtype()) ||
                               (k < d.inputs.size() && d.inputs[k].constant));
  }
  if (d.surrogate) return compare_with_surrogate(d, args);
  return gradcheck(
      [&](std::span<const Var> in) {
        OpArgs a = args;
        a.values.assign(in.begin(), in.end());
        return d.call(a);
      },
      x, options);
}

}  // namespace

int check_command(const Common& common, const CheckOptions& o) {
  const DType dtype = dtype_flag(o.dtype);
  check<UsageError>(dtype == DType::f64 || dtype == DType::f32 || dtype == DType::bf16, "check",
                    "--dtype takes f64, f32 or bf16, got {}", o.dtype);
  const Device device = device_flag(common);
  int passed = 0, failed = 0, skipped = 0, unknown_files = 0;
  std::set<std::string> unknown;
  for (const std::string& file : golden_files(o.paths)) {
    GoldenResult r;
    try {
      r = check_golden(file, find_op, dtype, device);
    } catch (const Error& e) {
      r.verdict = GoldenResult::Verdict::failed;
      r.problems.emplace_back(e.what());
    }
    const std::string label = std::filesystem::path(file).stem().string();
    if (r.verdict == GoldenResult::Verdict::passed) {
      ++passed;
      if (o.all)
        fmt::print("ok      {:<44} {} of the tolerance used{}\n", label,
                   fmt::format("{:.2g}", r.worst), r.where.empty() ? "" : " in " + r.where);
      continue;
    }
    if (r.verdict == GoldenResult::Verdict::unknown_op) {
      unknown.insert(r.op);
      ++unknown_files;
      fmt::print("unknown {:<44} {}\n", label, r.problems[0]);
      continue;
    }
    if (r.verdict == GoldenResult::Verdict::skipped) {
      ++skipped;
      fmt::print("skipped {:<44} {}\n", label, r.problems[0]);
      continue;
    }
    ++failed;
    fmt::print("FAILED  {}\n", label);
    for (const std::string& p : r.problems) fmt::print("        {}\n", p);
  }
  if (!unknown.empty()) {
    std::string list;
    for (const std::string& n : unknown) list += (list.empty() ? "" : ", ") + n;
    fmt::print(stderr, "unknown ops: {}\n", list);
  }
  fmt::print("{} passed, {} failed, {} skipped\n", passed, failed + unknown_files, skipped);
  return failed > 0 ? 1 : !unknown.empty() ? 2 : 0;
}

int gradcheck_command(const Common& common, const GradcheckCommandOptions& o) {
  const Device device = device_flag(common);
  std::vector<const OpDef*> defs;
  for (const std::string& name : o.ops) defs.push_back(&require_op(name));
  if (o.ops.empty()) defs = all_ops();
  int passed = 0, failed = 0, skipped = 0;
  fmt::print("{:<26} {:<28} {:>10}  {:>9}  verdict\n", "op", "case", "max error", "slopes");
  for (const OpDef* d : defs)
    for (const OpCase& c : d->cases) {
      if (!d->differentiable || (!c.smooth && !d->surrogate)) {
        ++skipped;
        continue;
      }
      GradcheckResult r;
      try {
        r = check_gradients(*d, c, device);
      } catch (const DeviceError& e) {  // the other ops may have their kernels
        r.ok = false;
        r.message = e.what();
      }
      (r.ok ? passed : failed)++;
      fmt::print("{:<26} {:<28} {:>10.2e}  {:>9}  {}{}\n", d->name, c.name, r.max_error, r.compared,
                 r.ok ? "ok" : "FAILED ",
                 r.ok ? (d->surrogate ? " (as its surrogate)" : "") : r.message);
    }
  fmt::print("{} passed, {} failed, {} skipped\n", passed, failed, skipped);
  if (skipped > 0)
    fmt::print(stderr, "skipped: cases without a gradient (integer outputs, discrete choices)\n");
  return failed > 0 ? 1 : 0;
}

}  // namespace tenun::tools
