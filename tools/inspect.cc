// tenun inspect: what is in a checkpoint or a configuration. tenun trace: the tape of one step.
#include <chrono>
#include <filesystem>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/io/pytorch.h"
#include "tenun/core/random.h"
#include "tenun/tools/commands.h"
#include "tenun/train/checkpoint.h"
#include "tenun/train/config/config.h"
#include "tenun/train/flow.h"

namespace tenun::tools {
namespace {

namespace fs = std::filesystem;

// 131320320 -> 131,320,320
std::string grouped(int64_t n) {
  std::string s = std::to_string(n);
  for (auto at = static_cast<int64_t>(s.size()) - 3; at > 0; at -= 3)
    s.insert(static_cast<size_t>(at), ",");
  return s;
}

std::string mib(double bytes) { return fmt::format("{:.1f} MiB", bytes / 1048576); }

void inspect_config(const std::string& file, const InspectOptions& o) {
  const RunConfig c = load_config({file}, parse_overrides(o.overrides));
  check<ConfigError>(c.model.denoiser.is<JiTOptions>(), "model.denoiser",
                     "'{}' is not available in this build", c.model.denoiser.class_path());
  const auto& options = c.model.denoiser.as<JiTOptions>();
  ParameterStore store;
  const JiT net(store.root(), options);
  fmt::print("{}: {}\n", file, c.model.denoiser.class_name());
  fmt::print("parameters  {} ({} trainable), {} as f32\n", grouped(store.count()),
             grouped(store.trainable_count()), mib(4.0 * static_cast<double>(store.count())));
  fmt::print("tensors     {}\n", store.size());
  fmt::print("tokens      {} + {} in context from block {}\n", options.tokens(),
             options.in_context_len, options.in_context_start);
  fmt::print(
      "compute     {:.2f} GMAC a forward pass and image; a training step about {:.1f} GFLOP an "
      "image\n",
      net.macs() / 1e9, 6 * net.macs() / 1e9);
  const auto batch = static_cast<double>(c.data.train_batch_size),
             tokens = static_cast<double>(options.tokens() + options.in_context_len);
  // Saved for backward, in units of tokens x width: see docs/architecture.md.
  const double saved = batch * tokens * static_cast<double>(options.hidden_size) * 22 * 4 *
                       static_cast<double>(options.depth);
  fmt::print("memory      weights, gradients, AdamW and EMA {}; activations at batch {} about {}\n",
             mib(5 * 4.0 * static_cast<double>(store.count())), c.data.train_batch_size,
             mib(saved));
  log_sla2_config(net, [](const std::string& s) { fmt::print("attention   {}\n", s); });
  if (o.tensors)
    for (const Parameter& p : store)
      fmt::print("  {:<52} {}{}\n", p.name, p.var.value().describe(),
                 p.trainable == Trainable::no ? "  frozen" : "");
}

void inspect_tensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                     const InspectOptions& o) {
  int64_t n = 0;
  double bytes = 0;
  for (const NamedTensor& t : tensors)
    n += t.tensor.numel(), bytes += static_cast<double>(t.tensor.nbytes());
  fmt::print("{}: {} tensors, {} numbers, {}\n", path, tensors.size(), grouped(n), mib(bytes));
  if (o.tensors)
    for (const NamedTensor& t : tensors) fmt::print("  {:<60} {}\n", t.name, t.tensor.describe());
}

void inspect_safetensors(const std::string& path, const InspectOptions& o) {
  const SafetensorsHeader h = load_safetensors_header(path);
  int64_t n = 0;
  double bytes = 0;
  for (const TensorInfo& t : h.tensors)
    n += t.shape.numel(), bytes += static_cast<double>(t.end - t.begin);
  fmt::print("{}: {} tensors, {} numbers, {}\n", path, h.tensors.size(), grouped(n), mib(bytes));
  for (const auto& [key, value] : h.metadata)
    fmt::print("  {} = {}\n", key, value.size() > 100 ? value.substr(0, 100) + "..." : value);
  if (o.tensors)
    for (const TensorInfo& t : h.tensors)
      fmt::print("  {:<60} {}{}\n", t.name, name(t.dtype), t.shape.str());
}

}  // namespace

int inspect_command(const InspectOptions& o) {
  const std::string& p = o.path;
  check<UsageError>(fs::exists(p), p, "no such file or folder");
  if (fs::is_directory(p)) {
    check<UsageError>(
        fs::exists(p + "/state.json"), p,
        "is no checkpoint folder (it has no state.json); for a run, give RUN/checkpoints/last");
    const Json s = Json::parse(read_file(p + "/state.json"), p + "/state.json");
    fmt::print("checkpoint  step {}, epoch {}, {} images seen, written by tenun {}\n",
               s.at("step").as_int(), s.at("epoch").as_int(), s.at("images").as_int(),
               s.at("version").as_string());
    int i = 0;
    for (const Json& l : s.at("attention").as_array())
      fmt::print("  attention {:>2}  {}\n", i++, l.dump());
    for (const char* f : {"model", "ema", "optimizer"})
      if (fs::exists(fmt::format("{}/{}.safetensors", p, f)))
        inspect_safetensors(fmt::format("{}/{}.safetensors", p, f), o);
  } else if (p.ends_with(".yaml") || p.ends_with(".yml")) {
    inspect_config(p, o);
  } else if (p.ends_with(".safetensors")) {
    inspect_safetensors(p, o);
  } else {
    const PytorchFile file(p);
    const PickleValue* state = file.root().find("state_dict");
    inspect_tensors(p, collect_tensors(state != nullptr ? *state : file.root()), o);
  }
  return 0;
}

int trace_command(const Common& common, const TraceOptions& o) {
  const RunConfig c = load_config({o.config}, parse_overrides(o.overrides));
  Model model(c);
  const JiTOptions& m = model.options();
  const auto seed = static_cast<uint64_t>(common.seed < 0 ? c.seed_everything : common.seed);
  const Shape shape{o.batch, m.in_channels, m.input_size, m.input_size};
  std::vector<uint64_t> ids(static_cast<size_t>(o.batch));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = i;
  const Tensor x = sample_noise(shape, ids, seed + 1, 0, 0.5),
               noise = sample_noise(shape, ids, seed, 0, 1),
               t = sample_times(ids, seed, 0, flow_options(c));
  const Tensor x_t = interpolate(x, noise, t), y = Tensor::zeros({o.batch}, DType::i64);
  Tape tape;
  tape.time_ops(true);
  SampleKeys keys;
  for (const uint64_t id : ids) keys.push_back(RandomKey::derive(seed, Purpose::dropout, id));
  Var loss;
  {
    const Autocast guard(autocast_dtype(c.trainer.precision));
    loss = flow_matching_loss(model.net(Weights::raw)(Var(x_t), t, y, {.training = &keys}).image, x,
                              x_t, t, {});
  }
  fmt::print("{}", tape.str());
  const auto start = std::chrono::steady_clock::now();
  tape.backward(loss);
  fmt::print(
      "backward {:.1f} ms\n",
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  return 0;
}

}  // namespace tenun::tools
