// Text generated from the registry: docs/config.md and the starter configuration.
#include <fmt/core.h>

#include "tenun/train/config/config.h"
#include "tenun/train/config/describe.h"

namespace tenun {
namespace {

constexpr ClassKind kKinds[] = {
    ClassKind::denoiser,     ClassKind::trainer,     ClassKind::sampler,
    ClassKind::optimizer,    ClassKind::lr_scheduler, ClassKind::callback,
    ClassKind::logger,       ClassKind::dataset,     ClassKind::conditioner,
    ClassKind::vae,          ClassKind::encoder,     ClassKind::plugin,
    ClassKind::scheduler,    ClassKind::guidance_fn, ClassKind::step_fn,
    ClassKind::loss_weight_fn, ClassKind::lms_transform_fn};

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

/// A default as one line: objects by their class, lists in brackets.
std::string inline_text(const YamlNode& n) {
  if (const YamlEntry* path = n.find("class_path")) return path->value.text;
  if (n.is_map()) return "{}";
  if (n.is_sequence()) {
    std::string out;
    for (const auto& item : n.items) out += (out.empty() ? "" : ", ") + inline_text(item);
    return "[" + out + "]";
  }
  std::string text = to_yaml(n);
  text.pop_back();
  return text;
}

std::string meaning(const Field& f) {
  std::string out = f.doc;
  const std::string range = rule_text(f.rule);
  if (!range.empty()) out += "; " + range;
  for (const auto& [from, to] : f.rule.rewrites)
    if (!to.empty()) out += fmt::format("; `{}` means `{}`", from, to);
  for (const auto& name : f.rule.aliases) out += fmt::format("; also `{}`", name);
  if (!f.rule.later.empty()) {
    out += "; known, but not in this build:";
    for (const auto& [word, why] : f.rule.later) out += " " + word;
  }
  return out;
}

void table(std::string& out, const Fields& fields, const std::string& prefix) {
  for (const auto& f : fields.all()) {
    if (!f.stored) continue;
    const std::string name = prefix + f.name;
    const bool group = f.nested && f.type == "map";
    const std::string value = f.rule.required ? "required" : group ? "" : inline_text(f.write());
    out += fmt::format("| `{}` | {} | {} | {} |\n", name, f.type,
                       value.empty() || f.rule.required ? value : "`" + value + "`",
                       escaped(meaning(f)));
    if (!f.nested) continue;
    Fields inner;
    f.nested(inner);
    table(out, inner, name + ".");
  }
}

/// Fields that are accepted without effect, grouped by the reason.
std::string ignored_text(const Fields& fields) {
  std::string out;
  std::string reason;
  for (const auto& f : fields.all()) {
    if (f.stored) continue;
    if (f.doc == reason) {
      out += fmt::format(", `{}`", f.name);
    } else {
      out += fmt::format("{}`{}`", reason.empty() ? "" : fmt::format(" ({}); ", reason), f.name);
    }
    reason = f.doc;
  }
  return out.empty() ? "" : fmt::format("\nAccepted without effect: {} ({}).\n", out, reason);
}

void section(std::string& out, const Fields& fields) {
  std::string rows;
  table(rows, fields, "");
  if (!rows.empty()) out += "\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n" + rows;
  out += ignored_text(fields);
}

std::string first_upper(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 32);
  return text;
}

constexpr const char* kIntro = R"(# Configuration reference

This page is generated from the program's own registry; a test checks that it is current.

A run is described by YAML files and command line overrides. Later files win over earlier ones
(`-c a.yaml -c b.yaml`), overrides win over files. The schema is PixelGen's, so its files work as
they are; keys marked "Tenun's" are additions.

- **Objects** name a class and its arguments: `{class_path: torch.optim.AdamW, init_args: {lr: 1e-4}}`,
  short `{type: AdamW, lr: 1e-4}`, or the class alone where no argument is needed. A class is found
  by the longest suffix of its path, at least `module.Class`; the bare name is enough where only one
  class has it.
- **Inheritance**: `base: other.yaml` (or a list), relative to the file. Maps merge deeply, lists
  replace, and `init_args` are dropped where `class_path` changes.
- **Anchors**, aliases and merge keys (`<<: *anchor`) work. Top-level keys that begin with `x-` or
  `.` are ignored and may hold anchors.
- **Values**: `1e-4` is a number, `1e3` also an integer; a quoted number is a string; `yes`, `on`,
  `true` are the same; leading zeros are refused.
- **Overrides**: `--trainer.max_steps=1000`, `--model.optimizer.lr 1e-3` (arguments of an object may
  leave out `init_args`), `--trainer.callbacks.0.init_args.decay=0.99` or `callbacks[0]` for a list.
- **Errors** are all reported at once as `file:line:column: message; hint`.
)";

/// One commented line per key, values at their defaults.
void starter_lines(std::string& out, const Fields& fields, int indent,
                   const std::vector<std::string>& shown) {
  const std::string pad(static_cast<std::size_t>(indent), ' ');
  for (const auto& name : shown) {
    const Field* f = fields.find(name);
    if (f == nullptr || !f->stored) continue;
    const std::string line = fmt::format("{}{}: {}", pad, name, inline_text(f->write()));
    out += fmt::format("{:<36}# {}\n", line, meaning(*f));
  }
}

void starter_object(std::string& out, const std::string& key, Object object,
                    const std::vector<std::string>& shown, int indent = 2) {
  const std::string pad(static_cast<std::size_t>(indent), ' ');
  out += fmt::format("{}{}:{}# {}\n", pad, key, std::string(2, ' '), object.info().doc);
  out += fmt::format("{}  class_path: {}\n", pad, object.class_path());
  if (shown.empty()) return;
  out += pad + "  init_args:\n";
  starter_lines(out, object.fields(), indent + 4, shown);
}

}  // namespace

std::string config_reference_markdown() {
  std::string out = kIntro;
  RunConfig config;
  Fields top;
  describe(top, config);
  out += "\n## Top level\n";
  Fields flat = top;
  std::string rows;
  for (const char* part : {"trainer", "model", "data"}) {
    Fields inner;
    top.find(part)->nested(inner);
    rows += fmt::format("\n## `{}`\n\n{}.\n", part, first_upper(top.find(part)->doc));
    section(rows, inner);
  }
  out += "\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const auto& f : top.all())
    if (f.stored)
      out += fmt::format("| `{}` | {} | {} | {} |\n", f.name, f.type,
                         f.nested ? "" : "`" + inline_text(f.write()) + "`", escaped(meaning(f)));
  out += ignored_text(top) + rows;
  for (const ClassKind kind : kKinds) {
    out += fmt::format("\n## Classes: {}\n", kind_name(kind));
    for (const auto& info : ClassRegistry::instance().all()) {
      if (info.kind != kind) continue;
      out += fmt::format("\n### `{}`\n\n`{}`: {}.\n", info.short_name(), info.path, info.doc);
      if (!info.unavailable.empty())
        out += fmt::format("Known, but not in this build: {}.\n", info.unavailable);
      if (!info.notice.empty()) out += info.notice + ".\n";
      Object object(info);
      section(out, object.fields());
    }
  }
  return out;
}

std::string starter_config_yaml() {
  std::string out =
      "# A configuration to start from. Every key is explained in docs/config.md; what is left out\n"
      "# has its default. Try:  tenun train -c this.yaml --trainer.max_steps=100\n\n";
  RunConfig config;
  Fields top;
  describe(top, config);
  starter_lines(out, top, 0, {"seed_everything"});
  out += "tags:\n  exp: first\n\ntrainer:\n";
  config.trainer.max_steps = 2000;
  Fields trainer;
  describe(trainer, config.trainer);
  starter_lines(out, trainer, 2,
                {"accelerator", "precision", "max_steps", "accumulate_grad_batches",
                 "gradient_clip_val", "log_every_n_steps"});
  out += "  callbacks:\n";
  Object checkpoint = make_object("model_checkpoint.CheckpointHook", ClassKind::callback);
  checkpoint.as<CheckpointOptions>().every_n_train_steps = 500;
  checkpoint.as<CheckpointOptions>().save_last = true;
  std::string item;
  starter_object(item, "-", checkpoint, {"every_n_train_steps", "save_top_k", "save_last"}, 4);
  item.replace(item.find("-:"), 2, "- ");
  const auto comment = item.find("- ");
  const auto end = item.find('\n');
  const std::string doc = item.substr(comment + 2, end - comment - 2);
  out += "    -" + doc + item.substr(end);
  Object net = make_object("JiT.JiT", ClassKind::denoiser);
  auto& jit = net.as<JiTOptions>();
  jit.input_size = 64, jit.patch_size = 4, jit.hidden_size = 192, jit.depth = 6, jit.num_heads = 3;
  jit.num_classes = 4, jit.in_context_len = 8, jit.in_context_start = 2, jit.bottleneck_dim = 48;
  out += "\nmodel:\n";
  starter_object(out, "denoiser", net,
                 {"input_size", "patch_size", "hidden_size", "depth", "num_heads", "num_classes",
                  "bottleneck_dim", "in_context_len", "in_context_start"});
  out += "      attention:\n";
  jit.attention.method = "sla2";
  jit.attention.block_q = jit.attention.block_k = 16;
  jit.attention.topk_ratio = 0.25;
  Fields attention;
  describe(attention, jit.attention);
  starter_lines(out, attention, 8, {"method", "block_q", "block_k", "topk_ratio"});
  starter_object(out, "diffusion_trainer", config.model.diffusion_trainer,
                 {"lognorm_t", "P_mean", "P_std", "null_condition_p"});
  auto sampler = config.model.diffusion_sampler;
  sampler.as<HeunSamplerOptions>().num_steps = 50;
  sampler.as<HeunSamplerOptions>().exact_henu = true;
  starter_object(out, "diffusion_sampler", sampler,
                 {"num_steps", "guidance", "guidance_interval_min", "guidance_interval_max",
                  "exact_henu"});
  auto ema = config.model.ema_tracker;
  ema.as<EmaOptions>().decay = 0.995;
  starter_object(out, "ema_tracker", ema, {"decay", "warmup"});
  auto adamw = config.model.optimizer;
  adamw.as<AdamWOptions>().lr = 3e-4;
  adamw.as<AdamWOptions>().weight_decay = 0.0;
  starter_object(out, "optimizer", adamw, {"lr", "betas", "weight_decay"});
  out += "\ndata:\n";
  Object batik = make_object("data.BatikDataset", ClassKind::dataset);
  auto& data = batik.as<BatikDatasetOptions>();
  data.classes = {"kawung", "parang", "megamendung", "ceplok"};
  data.resolution = 64;
  starter_object(out, "train_dataset", batik, {"classes", "num_per_class", "resolution", "seed"});
  config.data.train_batch_size = 32;
  config.data.train_num_workers = 2;
  Fields loading;
  describe(loading, config.data);
  starter_lines(out, loading, 2, {"train_batch_size", "train_num_workers"});
  return out;
}

}  // namespace tenun
