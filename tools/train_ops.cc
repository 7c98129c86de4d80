// Losses, optimizers, EMA and samplers under the names of golden files, for `tenun check` and
// `tenun op`.
#include <cmath>

#include "tenun/core/check.h"
#include "tenun/tools/table.h"
#include "tenun/train/flow.h"
#include "tenun/train/optimizer.h"
#include "tenun/train/samplers.h"

namespace tenun::tools {
namespace {

std::vector<Var> wrap(std::vector<Tensor> t) { return {t.begin(), t.end()}; }

// Runs an optimizer on one parameter over the steps of `grads` (T, ...).
template <class O>
std::vector<Var> run_optimizer(const OpArgs& a, const O& make,
                               const std::vector<std::string>& states) {
  const Tensor start = a.tensor("param"), grads = a.tensor("grads");
  ParameterStore store(0, start.dtype(), start.device());
  const Param p = store.root().add("param", start.shape(), Init::constant(start));
  const std::unique_ptr<Optimizer> opt = make(std::vector<Parameter*>{p.get()});
  for (int64_t i = 0; i < grads.dim(0); ++i) {
    p.get()->var.set_grad(grads.select(0, i).clone());
    opt->step();
  }
  std::vector<Tensor> out{p.value()};
  for (const std::string& s : states) {
    const auto all = opt->state();
    for (const NamedTensor& n : all)
      if (n.name == s + ".param") out.push_back(n.tensor);
  }
  return wrap(out);
}

AdamWOptions adamw_options(const Attrs& a) {
  AdamWOptions o;
  o.lr = a.real("lr", o.lr), o.eps = a.real("eps", o.eps),
  o.weight_decay = a.real("weight_decay", o.weight_decay);
  const auto betas = a.reals("betas", std::vector<double>{o.betas[0], o.betas[1]});
  check(betas.size() == 2, "optim.adamw", "betas needs two numbers");
  o.betas = {betas[0], betas[1]};
  return o;
}

SgdOptions sgd_options(const Attrs& a) {
  SgdOptions o;
  o.lr = a.real("lr", o.lr), o.momentum = a.real("momentum", 0.0),
  o.dampening = a.real("dampening", 0.0);
  o.weight_decay = a.real("weight_decay", 0.0), o.nesterov = a.flag("nesterov", false);
  return o;
}

// net(x, t, y) = 0.6 x + 0.3 sin(5 t) + 0.1 y
Tensor toy_network(const Tensor& x, const Tensor& t, const Tensor& y) {
  const std::vector<double> xs = x.values<double>(), ts = t.values<double>(),
                            ys = y.values<double>();
  const size_t each = xs.size() / ts.size();
  std::vector<double> out(xs.size());
  for (size_t i = 0; i < xs.size(); ++i)
    out[i] = 0.6 * xs[i] + 0.3 * std::sin(5 * ts[i / each]) + 0.1 * ys[i / each];
  return f64_tensor(out, x.shape()).to(x.dtype()).to(x.device());
}

template <class O>
std::vector<Var> run_sampler(const OpArgs& a, const char* class_path) {
  check(a.attrs.text("net", "toy") == "toy", "sampler", "knows one network here: toy");
  Object config = make_object(class_path, ClassKind::sampler);
  auto& o = config.as<O>();
  o.num_steps = a.attrs.integer("num_steps");
  o.guidance = a.attrs.real("guidance", 1.0);
  o.timeshift = a.attrs.real("timeshift", 1.0);
  const auto interval = a.attrs.reals("interval", std::vector<double>{0, 1});
  check(interval.size() == 2, "sampler", "interval needs two numbers");
  o.guidance_interval_min = interval[0], o.guidance_interval_max = interval[1];
  if constexpr (std::is_same_v<O, HeunSamplerOptions>) o.exact_henu = a.attrs.flag("exact", true);
  if constexpr (std::is_same_v<O, AdamLMSamplerOptions>) o.order = a.attrs.integer("order", 2);
  const SampleResult r = sample(config, toy_network, a.tensor("x0"), a.tensor("cond"),
                                a.tensor("uncond"), a.attrs.real("t_eps", 0.05));
  return wrap({r.x, Tensor::scalar(static_cast<double>(r.evaluations), DType::i64)});
}

OpDef sampler_def(const std::string& name, const std::string& summary, std::vector<AttrDef> more,
                  std::function<std::vector<Var>(const OpArgs&)> call) {
  std::vector<AttrDef> attrs = {
      {"net", "toy", "the network: toy"},          {"num_steps", "", "intervals"},
      {"guidance", "1", "guidance scale"},         {"timeshift", "1", "shift of the time grid"},
      {"interval", "[0, 1]", "guidance interval"}, {"t_eps", "0.05", "lower bound of 1 - t"}};
  attrs.insert(attrs.end(), more.begin(), more.end());
  return {.name = name,
          .summary = summary,
          .inputs = {{"x0"}, {"cond", false, true}, {"uncond", false, true}},
          .attrs = attrs,
          .outputs = {"x", "nfe"},
          .call = std::move(call),
          .reference = {},
          .cases = {},
          .differentiable = false};
}

}  // namespace

void add_train_ops(OpTable& table) {
  table.add({.name = "loss.flow_matching",
             .summary = "flow matching loss of an image prediction, both denominators clamped",
             .inputs = {{"pred"},
                        {.name = "x", .constant = true},
                        {.name = "x_t", .constant = true},
                        {.name = "t", .constant = true}},
             .attrs = {{"t_eps", "0.05", "lower bound of 1 - t"}},
             .outputs = {"loss"},
             .call =
                 [](const OpArgs& a) {
                   return one(flow_matching_loss(a["pred"], a.tensor("x"), a.tensor("x_t"),
                                                 a.tensor("t"),
                                                 {.t_eps = a.attrs.real("t_eps", 0.05)}));
                 },
             .reference = {},
             .cases = {{"basic", {{2, 3, 4, 4}, {2, 3, 4, 4}, {2, 3, 4, 4}, {{2}, Fill::unit}}}}});
  const std::vector<AttrDef> adam = {{"lr", "1e-3", "learning rate"},
                                     {"betas", "[0.9, 0.999]", "decay of the moments"},
                                     {"eps", "1e-8", "added to the root"},
                                     {"weight_decay", "0.01", "decoupled decay"}};
  table.add({.name = "optim.adamw",
             .summary = "AdamW over the gradients of T steps",
             .inputs = {{"param"}, {"grads"}},
             .attrs = adam,
             .outputs = {"param", "exp_avg", "exp_avg_sq"},
             .call =
                 [](const OpArgs& a) {
                   return run_optimizer(a,
                                        [&](auto p) {
                                          return std::make_unique<AdamW>(std::move(p),
                                                                         adamw_options(a.attrs));
                                        },
                                        {"exp_avg", "exp_avg_sq"});
                 },
             .reference = {},
             .cases = {},
             .differentiable = false});
  table.add(
      {.name = "optim.sgd",
       .summary = "SGD over the gradients of T steps",
       .inputs = {{"param"}, {"grads"}},
       .attrs = {{"lr", "1e-3", "learning rate"},
                 {"momentum", "0", "momentum"},
                 {"dampening", "0", "dampening"},
                 {"weight_decay", "0", "L2 penalty"},
                 {"nesterov", "false", "Nesterov momentum"}},
       .outputs = {"param", "momentum_buffer"},
       .call =
           [](const OpArgs& a) {
             return run_optimizer(
                 a,
                 [&](auto p) { return std::make_unique<Sgd>(std::move(p), sgd_options(a.attrs)); },
                 {"momentum_buffer"});
           },
       .reference = {},
       .cases = {},
       .differentiable = false,
       .output_names =
           [](const OpArgs& a) {
             return a.attrs.real("momentum", 0.0) > 0
                        ? std::vector<std::string>{"param", "momentum_buffer"}
                        : std::vector<std::string>{"param"};
           }});
  table.add({.name = "ema",
             .summary = "exponential moving average over T steps",
             .inputs = {{"initial"}, {"params"}},
             .attrs = {{"decay", "0.9999", "share kept"}},
             .outputs = {"ema"},
             .call =
                 [](const OpArgs& a) {
                   const Tensor start = a.tensor("initial");
                   const Init init = Init::constant(start);
                   ParameterStore weights(0, start.dtype(), start.device()),
                       average(0, start.dtype(), start.device());
                   const Param w = weights.root().add("w", start.shape(), init),
                               e = average.root().add("w", start.shape(), init);
                   Ema ema(average, weights, {.decay = a.attrs.real("decay", 0.9999)});
                   for (int64_t i = 0; i < a.tensor("params").dim(0); ++i) {
                     w.get()->var.mutable_value().copy_(a.tensor("params").select(0, i));
                     ema.update(i + 1);
                   }
                   return wrap({e.value()});
                 },
             .reference = {},
             .cases = {},
             .differentiable = false});
  table.add(sampler_def("sampler.heun_jit", "Heun's method with guidance",
                        {{"exact", "true", "two evaluations per interval"}}, [](const OpArgs& a) {
                          return run_sampler<HeunSamplerOptions>(a, "sampling.HeunSamplerJiT");
                        }));
  table.add(
      sampler_def("sampler.euler_jit", "Euler's method with guidance", {}, [](const OpArgs& a) {
        return run_sampler<EulerSamplerOptions>(a, "sampling.EulerSamplerJiT");
      }));
  table.add(sampler_def("sampler.adams_jit", "Adams-Bashforth with guidance",
                        {{"order", "2", "1 to 4"}}, [](const OpArgs& a) {
                          return run_sampler<AdamLMSamplerOptions>(
                              a, "adam_sampling.AdamLMSamplerJiT");
                        }));
}

}  // namespace tenun::tools
