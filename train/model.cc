#include "tenun/train/model.h"

#include <filesystem>
#include <map>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/core/io/pytorch.h"
#include "tenun/train/flow.h"

namespace tenun {
namespace {

namespace fs = std::filesystem;

std::vector<NamedTensor> read_tensors(const std::string& path) {
  std::vector<NamedTensor> all;
  const auto add = [&](const std::string& file) {
    TensorFile f = load_safetensors(file);
    all.insert(all.end(), f.tensors.begin(), f.tensors.end());
  };
  if (fs::is_directory(path)) {
    check<IoError>(
        fs::exists(path + "/model.safetensors"), path,
        "holds no model.safetensors; give a checkpoint folder such as RUN/checkpoints/last");
    add(path + "/model.safetensors");
    if (fs::exists(path + "/ema.safetensors")) add(path + "/ema.safetensors");
    return all;
  }
  check<IoError>(fs::exists(path), path, "no such file or folder");
  if (path.ends_with(".safetensors") || path.ends_with(".safetensors.index.json")) {
    add(path);
    return all;
  }
  const PytorchFile file(path);
  const PickleValue* state = file.root().find("state_dict");
  if (state != nullptr) return collect_tensors(*state);
  // The official JiT checkpoints: `model` and two averages.
  const PickleValue* model = file.root().find("model");
  if (model == nullptr) return collect_tensors(file.root());
  all = collect_tensors(*model);
  if (const PickleValue* ema = file.root().find("model_ema1"))
    for (NamedTensor& t : collect_tensors(*ema))
      all.push_back(
          {"ema_denoiser." + (t.name.starts_with("net.") ? t.name.substr(4) : t.name), t.tensor});
  return all;
}

// Between the key layouts of dense (and native sla2) attention and PixelGen's SLA2 module.
std::string other_layout(const std::string& name) {
  const size_t at = name.find(".attn.");
  if (at == std::string::npos) return "";
  const std::string head = name.substr(0, at + 6), rest = name.substr(at + 6);
  if (rest.starts_with("sla2.")) return head + rest.substr(5);
  return head + "sla2." + rest;
}

struct Fill {
  std::vector<std::string> missing, mismatched, remapped;
  size_t loaded = 0;
};

Fill fill(ParameterStore& store, const std::map<std::string, Tensor>& tensors) {
  Fill f;
  for (Parameter& p : store) {
    auto it = tensors.find(p.name);
    if (it == tensors.end()) {
      const std::string other = other_layout(p.name);
      // Norm biases and a router have no counterpart; only what both layouts have is taken over.
      if (!other.empty()) it = tensors.find(other);
      if (it != tensors.end()) f.remapped.push_back(other + " -> " + p.name);
    }
    if (it == tensors.end()) {
      f.missing.push_back(p.name);
    } else if (it->second.shape() != p.var.shape()) {
      f.mismatched.push_back(fmt::format("{}: file {}, model {}", p.name, it->second.describe(),
                                         p.var.value().describe()));
    } else {
      p.var.mutable_value().copy_(it->second.to(p.var.device()));
      ++f.loaded;
    }
  }
  return f;
}

// Parameters that a method adds, and that start from their initial values if a dense file has none.
bool optional_parameter(const std::string& name) {
  return name.find(".attn.sla2.alpha") != std::string::npos ||
         name.find(".attn.sla2.router.") != std::string::npos ||
         name.find(".attn.sla2.proj_l.") != std::string::npos ||
         name.find(".attn.sla.proj.") != std::string::npos ||
         name.find(".attn.vsa.gate_c.") != std::string::npos ||
         name.ends_with("attn.sla2.q_norm.bias") || name.ends_with("attn.sla2.k_norm.bias") ||
         name == "pos_embed";
}

}  // namespace

DType autocast_dtype(const std::string& precision) {
  if (precision == "32-true" || precision == "32" || precision == "fp32") return DType::f32;
  if (precision == "bf16-mixed" || precision == "bf16") return DType::bf16;
  if (precision == "16-mixed" || precision == "16") return DType::f16;
  fail<ConfigError>("trainer.precision",
                    "'{}' is not available; use 32-true, bf16-mixed or 16-mixed", precision);
}

Device run_device(const RunConfig& config) {
  const std::string& name = config.trainer.accelerator;
  if (name == "auto") return has_device(DeviceType::cuda) ? Device{DeviceType::cuda, 0} : cpu();
  const Device device = device_from_name(name);
  try {
    (void)device_ops(device.type);
  } catch (const DeviceError& e) {
    fail<ConfigError>("trainer.accelerator", "{}: {}", name, e.what());
  }
  return device;
}

const FlowTrainerOptions& flow_options(const RunConfig& config) {
  const Object& t = config.model.diffusion_trainer;
  if (t.is<FlowTrainerOptions>()) return t.as<FlowTrainerOptions>();
  if (t.is<RepaTrainerOptions>()) return t.as<RepaTrainerOptions>().flow;
  fail<ConfigError>("model.diffusion_trainer", "'{}' is not available in this build",
                    t.class_path());
}

Model::Model(const RunConfig& config, Device device)
    : raw_store_(static_cast<uint64_t>(config.seed_everything), DType::f32, device),
      average_store_(static_cast<uint64_t>(config.seed_everything), DType::f32, device) {
  check<ConfigError>(config.model.denoiser.is<JiTOptions>(), "model.denoiser",
                     "'{}' is not available in this build; use JiT or JiTSLA2",
                     config.model.denoiser.class_path());
  const auto& o = config.model.denoiser.as<JiTOptions>();
  raw_ = std::make_unique<JiT>(raw_store_.root(), o);
  average_ =
      std::make_unique<JiT>(average_store_.root(), o);  // the same seed and names: the same values
  for (Parameter& p : average_store_) p.var = p.var.detach();
  noise_scale_ = flow_options(config).noise_scale;
  t_eps_ = flow_options(config).t_eps;
}

WeightsReport Model::load_weights(const std::string& path) {
  std::map<std::string, Tensor> raw, average;
  for (NamedTensor& t : read_tensors(path)) {
    std::string n = t.name;
    std::map<std::string, Tensor>* into = &raw;
    if (n.starts_with("ema_denoiser."))
      n = n.substr(13), into = &average;
    else if (n.starts_with("denoiser."))
      n = n.substr(9);
    else if (n.starts_with("net."))
      n = n.substr(4);
    else if (n.starts_with("diffusion_trainer."))
      continue;
    for (size_t at = n.find("_orig_mod."); at != std::string::npos; at = n.find("_orig_mod."))
      n.erase(at, 10);
    (*into)[n] = t.tensor;
  }
  check<IoError>(!raw.empty() || !average.empty(), path, "holds no tensors");
  if (raw.empty()) raw = average;
  if (average.empty()) average = raw;
  WeightsReport r;
  const Fill a = fill(raw_store_, raw), b = fill(average_store_, average);
  for (const Fill* f : {&a, &b}) {
    std::string lacking, wrong;
    for (const std::string& n : f->missing)
      if (!optional_parameter(n)) lacking += (lacking.empty() ? "" : ", ") + n;
    for (const std::string& n : f->mismatched) wrong += (wrong.empty() ? "" : "; ") + n;
    check<IoError>(
        lacking.empty() && wrong.empty(), path,
        "does not fit the configured network{}{}{}{}; was it trained with another configuration?",
        lacking.empty() ? "" : "; missing: ", lacking,
        wrong.empty() ? "" : "; of another shape: ", wrong);
  }
  r.remapped = a.remapped;
  r.text = fmt::format("{}: {} tensors loaded", path, a.loaded);
  if (!a.remapped.empty())
    r.text +=
        fmt::format(", {} of them under the names of another attention layout", a.remapped.size());
  if (!a.missing.empty()) {
    r.text += fmt::format(", {} keep their initial values:", a.missing.size());
    for (const std::string& n : a.missing) r.text += " " + n;
  }
  return r;
}

SampleResult Model::sample(const Object& sampler, const Request& r) const {
  const NoGrad guard;
  const int64_t s = options().input_size, ch = options().in_channels,
                n = static_cast<int64_t>(r.labels.size());
  for (const int64_t l : r.labels)
    check(l >= 0 && l <= null_class(), "sample", "class {} is outside 0..{}", l, null_class() - 1);
  const JiT& network = net(r.weights);
  const Denoiser denoiser = [&](const Tensor& x, const Tensor& t, const Tensor& y) {
    const Autocast cast(r.autocast);
    return network(x, t, y).image.value();
  };
  SampleResult all;
  all.x = Tensor({n, ch, s, s}, DType::f32);
  for (int64_t first = 0; first < n; first += r.batch) {
    const int64_t count = std::min(r.batch, n - first);
    std::vector<uint64_t> ids;
    for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<uint64_t>(first + i));
    const Tensor noise =
        sample_noise({count, ch, s, s}, ids, r.seed, ~uint64_t{0}, noise_scale_).to(device());
    const Tensor cond = Tensor::from(
        std::vector<int64_t>(r.labels.begin() + first, r.labels.begin() + first + count), {count});
    SampleResult part = tenun::sample(
        sampler, denoiser, noise, cond,
        Tensor::full({count}, static_cast<double>(null_class()), DType::i64), t_eps_, r.options);
    all.x.slice(0, first, first + count).copy_(part.x.to(cpu()));
    all.evaluations += part.evaluations;
    for (size_t k = 0; k < part.trajectory.size(); ++k) {
      if (first == 0) all.trajectory.emplace_back(Shape{n, ch, s, s}, DType::f32);
      all.trajectory[k].slice(0, first, first + count).copy_(part.trajectory[k].to(cpu()));
    }
  }
  return all;
}

}  // namespace tenun
