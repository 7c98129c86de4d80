#include "tenun/ops/cases/golden.h"

#include <cmath>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"

namespace tenun {
namespace {

void add_attrs(Attrs& attrs, const Json& object, const std::string& prefix) {
  for (const auto& [key, v] : object.members()) {
    const std::string name = prefix + key;
    if (v.is_object())
      add_attrs(attrs, v, name + ".");
    else if (v.is_bool())
      attrs.set(name, v.as_bool());
    else if (v.is_int())
      attrs.set(name, v.as_int());
    else if (v.is_number())
      attrs.set(name, v.as_double());
    else if (v.is_string())
      attrs.set(name, v.as_string());
    else if (v.is_array()) {
      bool whole = true, text = !v.as_array().empty();
      for (const Json& x : v.as_array()) whole = whole && x.is_int(), text = text && x.is_string();
      std::vector<int64_t> ints;
      std::vector<double> reals;
      std::vector<std::string> texts;
      for (const Json& x : v.as_array()) {
        if (text)
          texts.push_back(x.as_string());
        else if (whole)
          ints.push_back(x.as_int());
        else
          reals.push_back(x.as_double());
      }
      if (text)
        attrs.set(name, texts);
      else if (whole)
        attrs.set(name, ints);
      else
        attrs.set(name, reals);
    }
  }
}

double number(const TensorFile& f, const std::string& key, const std::string& path) {
  const auto it = f.metadata.find(key);
  check<IoError>(it != f.metadata.end(), path, "not a golden file: its metadata have no '{}'", key);
  try {
    return std::stod(it->second);
  } catch (const std::exception&) {
    fail<IoError>(path, "'{}' is not a number: '{}'", key, it->second);
  }
}

struct Tolerance {
  double rtol = 0, atol = 0, rel_l1 = -1;
  double slack = 0;      ///< added to the mean distance that rel_l1 allows a gradient
  bool elements = true;  ///< compare element by element
};

class Comparison {
 public:
  Comparison(GoldenResult& r, const Tolerance& t) : r_(r), t_(t) {}

  void compare(const std::string& name, const Tensor& got, const Tensor& want, bool l1) {
    if (!got.defined()) return problem(fmt::format("{}: missing", name));
    if (got.shape() != want.shape())
      return problem(
          fmt::format("{}: shape {} instead of {}", name, got.shape().str(), want.shape().str()));
    const auto a = doubles(got), b = doubles(want);
    const bool discrete = !is_floating(want.dtype());
    if (discrete && !t_.elements) return;
    size_t bad = 0, at = 0;
    double most = -1, distance = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      if (a[i] == b[i]) {
        if (std::isfinite(b[i])) size += std::abs(b[i]);
        continue;
      }
      if (std::isnan(a[i]) && std::isnan(b[i])) continue;
      const double e = std::abs(a[i] - b[i]),
                   allowed = discrete || std::isinf(b[i]) ? 0 : t_.atol + t_.rtol * std::abs(b[i]);
      distance += e, size += std::abs(b[i]);
      if (!t_.elements && std::isfinite(e)) continue;
      const double share = allowed > 0 ? e / allowed : HUGE_VAL;
      if (!(share <= 1)) ++bad;
      if (!(share <= most)) most = share, at = i;
    }
    if (most > r_.worst || std::isnan(most)) r_.worst = most, r_.where = name;
    if (bad > 0)
      problem(
          fmt::format("{}: {} of {} elements differ; worst at {}: got {:.9g}, expected {:.9g} "
                      "(rtol {:g}, atol {:g})",
                      name, bad, a.size(), at, a[at], b[at], t_.rtol, t_.atol));
    const double slack = name.starts_with("grad.") ? t_.slack : 0,
                 allowed = t_.rel_l1 * size + slack * static_cast<double>(a.size());
    if (l1 && t_.rel_l1 >= 0 && size > 0 && !(distance <= allowed))
      problem(fmt::format("{}: relative L1 distance {:.3g}, at most {:g} allowed", name,
                          distance / size, t_.rel_l1));
  }

 private:
  void problem(std::string text) {
    r_.verdict = GoldenResult::Verdict::failed;
    r_.problems.push_back(std::move(text));
  }
  GoldenResult& r_;
  Tolerance t_;
};

}  // namespace

Attrs attrs_from_json(const Json& object) {
  Attrs attrs;
  add_attrs(attrs, object, "");
  return attrs;
}

OpArgs args_from_file(const TensorFile& file, DType dtype) {
  OpArgs args;
  for (const auto& [name, tensor] : file.tensors) {
    const bool input = name.starts_with("in.");
    if (!input && !name.starts_with("param.")) continue;
    args.names.push_back(input ? name.substr(3) : name);
    args.values.emplace_back(is_floating(tensor.dtype()) ? tensor.to(dtype) : tensor);
  }
  return args;
}

std::vector<std::string> output_names(const OpDef& def, const OpArgs& args) {
  return def.output_names ? def.output_names(args) : def.outputs;
}

std::map<std::string, Tensor> run_op(const OpDef& def, const OpArgs& args,
                                     const std::map<std::string, Tensor>& cotangents) {
  std::map<std::string, Tensor> result;
  OpArgs a = args;
  const bool grad = !cotangents.empty() && def.differentiable;
  std::optional<Tape> tape;
  std::vector<Var> params;
  std::vector<std::string> param_names;
  if (grad) {
    tape.emplace();
    for (size_t i = 0; i < a.values.size(); ++i)
      if (a.values[i].defined() && is_floating(a.values[i].dtype())) {
        a.values[i] = Var::parameter(a.values[i].value());
        params.push_back(a.values[i]);
        param_names.push_back((a.names[i].starts_with("param.") ? "grad." : "grad.in.") +
                              a.names[i]);
      }
  }
  const std::vector<Var> out = def.call(a);
  const auto names = output_names(def, args);
  check(out.size() == names.size(), def.name, "made {} outputs, {} are named", out.size(),
        names.size());
  std::vector<Var> losses;
  std::vector<Tensor> seeds;
  for (size_t k = 0; k < out.size(); ++k) {
    if (!out[k].defined()) continue;
    result["out." + names[k]] = out[k].value();
    const auto it = cotangents.find(names[k]);
    if (!grad || it == cotangents.end() || !out[k].requires_grad()) continue;
    losses.push_back(out[k]);
    seeds.push_back(it->second.to(out[k].dtype()));
  }
  if (losses.empty()) return result;
  const auto grads = tape->gradients(losses, params, Tape::Keep::no, seeds);
  for (size_t i = 0; i < grads.size(); ++i)  // no path to an input: its gradient is zero
    result[param_names[i]] = grads[i].defined() ? grads[i] : zeros_like(params[i].value());
  return result;
}

GoldenResult check_golden(const std::string& path, const OpLookup& find, DType dtype,
                          Device device) {
  const TensorFile file = load_safetensors(path);
  const auto meta = [&](const char* key) {
    const auto it = file.metadata.find(key);
    check<IoError>(it != file.metadata.end(), path, "not a golden file: its metadata have no '{}'",
                   key);
    return it->second;
  };
  check<IoError>(meta("golden") == "1", path,
                 "golden format '{}' is not known; this build reads \"1\"", meta("golden"));
  GoldenResult r;
  r.op = meta("op");
  const OpDef* def = find(r.op);
  if (def == nullptr) {
    r.verdict = GoldenResult::Verdict::unknown_op;
    r.problems.push_back(fmt::format("unknown op '{}'", r.op));
    return r;
  }
  // The files give no tolerance for bf16. There the op in f64 is the reference, on the inputs as
  // bf16 rounds them: what is measured is the op's own error. Before it may serve as that, it must
  // agree with the file.
  const bool low = dtype == DType::bf16;
  if (low) {
    GoldenResult exact = check_golden(path, find, DType::f64, device);
    if (exact.verdict != GoldenResult::Verdict::passed) return exact;
  }
  const bool narrow = dtype == DType::f32;
  Tolerance t{number(file, narrow ? "rtol32" : "rtol", path),
              number(file, narrow ? "atol32" : "atol", path)};
  const Attrs attrs = attrs_from_json(Json::parse(meta("attrs"), path));
  if (attrs.has("max_rel_l1")) t.rel_l1 = attrs.real("max_rel_l1");
  if (low) t.elements = false, t.rel_l1 = 0.03;
  const auto run = [&](DType type) {
    const auto prepare = [&](const Tensor& x) {
      return (low && is_floating(x.dtype()) ? x.to(dtype) : x).to(device);
    };
    OpArgs args = args_from_file(file, low ? DType::bf16 : type);
    args.attrs = attrs;
    check_args(*def, args);
    for (Var& v : args.values)
      if (v.defined())
        v = Var((is_floating(v.dtype()) ? v.value().to(type) : v.value()).to(device));
    std::map<std::string, Tensor> cotangents;
    for (const auto& [name, tensor] : file.tensors)
      if (name.starts_with("cot.")) cotangents[name.substr(4)] = prepare(tensor).to(type);
    return run_op(*def, args, cotangents);
  };
  try {
    const auto got = run(dtype);
    // An upstream gradient is rounded too, and that error does not shrink with the result.
    if (low)
      for (const auto& [name, tensor] : file.tensors)
        if (name.starts_with("cot."))
          for (const double g : doubles(tensor)) t.slack = std::max(t.slack, std::abs(g) / 256);
    const auto reference = low ? run(DType::f64) : std::map<std::string, Tensor>{};
    Comparison comparison(r, t);
    for (const auto& [name, tensor] : file.tensors) {
      if (!name.starts_with("out.") && !name.starts_with("grad.")) continue;
      const auto it = got.find(name);
      const auto ref = reference.find(name);
      const Tensor want = ref == reference.end() ? tensor : ref->second.to(cpu());
      const bool l1 = low || name == "out.o" || name.starts_with("grad.in.");
      comparison.compare(name, it == got.end() ? Tensor() : it->second.to(cpu()), want, l1);
    }
  } catch (const DTypeError& e) {
    // Optimizers and samplers keep full precision: they refuse 16 bit.
    r.verdict = low ? GoldenResult::Verdict::skipped : GoldenResult::Verdict::failed;
    r.problems.emplace_back(e.what());
  } catch (const Error& e) {
    r.verdict = GoldenResult::Verdict::failed;
    r.problems.emplace_back(e.what());
  }
  return r;
}

}  // namespace tenun
