#include "tenun/train/checkpoint.h"

#include <filesystem>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/version.h"

namespace tenun {
namespace {

namespace fs = std::filesystem;

const char* order_name(TokenOrder order) { return order == TokenOrder::tile_8x8 ? "8x8" : "row"; }

std::string checkpoints(const std::string& run) { return run + "/checkpoints"; }

}  // namespace

Json attention_state(const JiT& net) {
  Json layers = Json::array();
  for (int64_t i = 0; i < net.depth(); ++i) {
    const JiTAttention& a = net.attention(i);
    const AttentionOptions& o = a.options;
    Json l = Json::object({{"method", o.method}});
    if (o.method != "dense")
      l.set("block_q", o.block_q)
          .set("block_k", o.block_k)
          .set("tile", order_name(o.tile))
          .set("topk_ratio", o.topk_ratio)
          .set("topk", o.topk)
          .set("qat", a.qat);
    if (a.is_sla2())
      l.set("mode", name(o.mode))
          .set("tau", o.tau)
          .set("soft_iters", o.soft_iters)
          .set("aux_weight", o.aux_weight);
    layers.push(std::move(l));
  }
  return layers;
}

void apply_attention_state(JiT& net, const Json& state, const std::string& where,
                           std::vector<std::string>* notices) {
  check<ConfigError>(static_cast<int64_t>(state.as_array().size()) == net.depth(), where,
                     "has {} attention layers, the configured network {}", state.as_array().size(),
                     net.depth());
  for (int64_t i = 0; i < net.depth(); ++i) {
    const Json& l = state.as_array()[static_cast<size_t>(i)];
    JiTAttention& a = net.attention(i);
    AttentionOptions& o = a.options;
    const auto same = [&](const char* key, const std::string& saved, const std::string& now) {
      check<ConfigError>(saved == now, where,
                         "block {} was trained with attention {} {}, the configuration says {}; "
                         "set it back, or start anew with --init-from",
                         i, key, saved, now);
    };
    same("method", l.at("method").as_string(), o.method);
    if (o.method == "dense") continue;
    same("block_q", std::to_string(l.at("block_q").as_int()), std::to_string(o.block_q));
    same("block_k", std::to_string(l.at("block_k").as_int()), std::to_string(o.block_k));
    same("tile", l.at("tile").as_string(), order_name(o.tile));
    const auto mode = a.is_sla2() ? from_name<RouterMode>(l.at("mode").as_string()) : o.mode;
    const double ratio = l.at("topk_ratio").as_double();
    const int64_t topk = l.find("topk") != nullptr ? l.at("topk").as_int() : o.topk;
    const bool qat = l.at("qat").as_bool();
    if (notices != nullptr &&
        (mode != o.mode || ratio != o.topk_ratio || topk != o.topk || qat != a.qat))
      notices->push_back(fmt::format(
          "block {}: the checkpoint's schedule state wins: {} routing, top-k {:g}, QAT "
          "{} (configured: {}, {:g}, {})",
          i, name(mode), topk > 0 ? static_cast<double>(topk) : ratio, qat ? "on" : "off",
          name(o.mode), o.topk > 0 ? static_cast<double>(o.topk) : o.topk_ratio,
          a.qat ? "on" : "off"));
    o.mode = mode, o.topk_ratio = ratio, o.topk = topk, a.qat = qat;
    if (!a.is_sla2()) continue;
    o.tau = l.at("tau").as_double();
    o.soft_iters = l.at("soft_iters").as_int();
    o.aux_weight = l.at("aux_weight").as_double();
  }
}

std::string save_checkpoint(const std::string& run, const CheckpointParts& p, bool weights_only) {
  fs::create_directories(checkpoints(run));
  const std::string path = fmt::format("{}/step-{}", checkpoints(run), p.progress.step);
  AtomicDir dir(path);
  const std::map<std::string, std::string> meta = {{"format", "pt"},
                                                   {"tenun.version", version()},
                                                   {"tenun.step", std::to_string(p.progress.step)}};
  save_safetensors(dir.path() + "/model.safetensors", p.model.parameters().state("denoiser."),
                   meta);
  save_safetensors(dir.path() + "/ema.safetensors", p.model.average().state("ema_denoiser."), meta);
  if (!weights_only)
    save_safetensors(dir.path() + "/optimizer.safetensors", p.optimizer.state(), meta);
  Json s = Json::object({{"version", version()},
                         {"step", p.progress.step},
                         {"epoch", p.progress.epoch},
                         {"batch", p.progress.batch}});
  s.set("first_step", p.progress.first_step).set("images", p.progress.images);
  s.set("loss_scale", p.progress.loss_scale).set("good_steps", p.progress.good_steps);
  s.set("optimizer_steps", p.optimizer.steps()).set("ema_updates", p.ema.updates());
  s.set("data", Json::object({{"seed", p.data.seed},
                              {"batch_size", p.data.batch_size},
                              {"dataset_size", p.data.dataset_size},
                              {"accumulate", p.data.accumulate}}));
  s.set("attention", attention_state(p.model.net(Weights::raw)));
  write_file(dir.path() + "/state.json", s.dump(1) + "\n");
  dir.commit();
  return path;
}

void set_last(const std::string& run, int64_t step) {
  replace_link(checkpoints(run) + "/last", fmt::format("step-{}", step));
}

std::optional<std::string> find_resume(const std::string& run, const std::string& resume) {
  if (resume != "auto") {
    check<IoError>(fs::exists(resume + "/state.json"), resume,
                   "is no checkpoint to resume from: it has no state.json");
    return resume;
  }
  const std::string last = checkpoints(run) + "/last";
  if (fs::exists(last + "/state.json")) return last;
  return std::nullopt;
}

std::vector<std::string> load_checkpoint(const std::string& folder, const CheckpointParts& p) {
  std::vector<std::string> notices;
  const std::string where = folder + "/state.json";
  const Json s = Json::parse(read_file(where), where);
  const Json& d = s.at("data");
  const auto same = [&](const char* key, int64_t now) {
    check<ConfigError>(d.at(key).as_int() == now, where,
                       "was written with {} = {}, now it is {}; a continuation would see other "
                       "samples. Set it back, or start anew with --init-from {}",
                       key, d.at(key).as_int(), now, folder);
  };
  same("seed", p.data.seed), same("batch_size", p.data.batch_size),
      same("dataset_size", p.data.dataset_size), same("accumulate", p.data.accumulate);
  apply_attention_state(p.model.net(Weights::raw), s.at("attention"), where, &notices);
  apply_attention_state(p.model.net(Weights::average), s.at("attention"), where, nullptr);
  const auto load = [&](ParameterStore& store, const std::string& file, const std::string& prefix) {
    TensorFile f = load_safetensors(folder + "/" + file);
    for (NamedTensor& t : f.tensors)
      if (t.name.starts_with(prefix)) t.name = t.name.substr(prefix.size());
    const LoadReport r = store.load(f.tensors);
    check<IoError>(r.complete(), folder + "/" + file, "does not fit the configured network: {}", r);
  };
  load(p.model.parameters(), "model.safetensors", "denoiser.");
  load(p.model.average(), "ema.safetensors", "ema_denoiser.");
  check<IoError>(fs::exists(folder + "/optimizer.safetensors"), folder,
                 "holds weights only; use --init-from to start from them");
  p.optimizer.load_state(load_safetensors(folder + "/optimizer.safetensors"),
                         s.at("optimizer_steps").as_int());
  p.progress = {s.at("step").as_int(),      s.at("epoch").as_int(),
                s.at("batch").as_int(),     s.at("first_step").as_int(),
                s.at("images").as_int(),    s.at("loss_scale").as_double(),
                s.at("good_steps").as_int()};
  p.ema.restore(s.at("ema_updates").as_int(), p.progress.step);
  return notices;
}

}  // namespace tenun
