// Text generated from the registry: docs/config.md and the starter configuration.
#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <vector>

#include "tenun/train/config/config.h"
#include "tenun/train/config/describe.h"

namespace tenun {
namespace {

constexpr ClassKind kKinds[] = {ClassKind::denoiser,        ClassKind::trainer,
                                ClassKind::sampler,         ClassKind::optimizer,
                                ClassKind::lr_scheduler,    ClassKind::callback,
                                ClassKind::logger,          ClassKind::dataset,
                                ClassKind::conditioner,     ClassKind::vae,
                                ClassKind::encoder,         ClassKind::plugin,
                                ClassKind::scheduler,       ClassKind::guidance_fn,
                                ClassKind::step_fn,         ClassKind::loss_weight_fn,
                                ClassKind::lms_transform_fn};

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
  return out;
}

void table(std::string& out, const Fields& fields, const std::string& prefix,
           const Fields* without = nullptr) {
  for (const auto& f : fields.all()) {
    if (!f.stored || (without != nullptr && without->find(f.name) != nullptr)) continue;
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
std::string ignored_text(const Fields& fields, const Fields* without = nullptr) {
  std::string out;
  std::string reason;
  for (const auto& f : fields.all()) {
    if (f.stored || (without != nullptr && without->find(f.name) != nullptr)) continue;
    if (f.doc == reason) {
      out += fmt::format(", `{}`", f.name);
    } else {
      out += fmt::format("{}`{}`", reason.empty() ? "" : fmt::format(" ({}); ", reason), f.name);
    }
    reason = f.doc;
  }
  return out.empty() ? "" : fmt::format("\nAccepted without effect: {} ({}).\n", out, reason);
}

void section(std::string& out, const Fields& fields, const Fields* without = nullptr) {
  std::string rows;
  table(rows, fields, "", without);
  if (!rows.empty())
    out += "\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n" + rows;
  out += ignored_text(fields, without);
}

/// The settings of a class. What it shares with an earlier class is named, not repeated. `seen`
/// keeps its objects where they are: Fields point into them.
void class_section(std::string& out, const ClassInfo& info, std::deque<Object>& seen) {
  Object object(info);
  const Fields mine = object.fields();
  const ClassInfo* like = nullptr;
  Fields shared;
  for (Object& other : seen) {
    const Fields theirs = other.fields();
    const bool contained =
        std::all_of(theirs.all().begin(), theirs.all().end(),
                    [&](const Field& f) { return mine.find(f.name) != nullptr; });
    if (!contained || theirs.all().size() <= shared.all().size()) continue;
    like = &other.info();
    shared = theirs;
  }
  seen.push_back(object);
  if (like == nullptr) return section(out, mine);
  std::string changes;
  for (const Field& f : shared.all()) {
    if (!f.stored) continue;
    const YamlNode value = mine.find(f.name)->write();
    if (same_content(value, f.write())) continue;
    changes +=
        fmt::format("{} `{}: {}`", changes.empty() ? ", with" : ",", f.name, inline_text(value));
  }
  const bool more = mine.all().size() > shared.all().size();
  out += fmt::format("Settings as `{}`{}{}\n", like->short_name(), changes,
                     more ? ", and these:" : ".");
  if (more) section(out, mine, &shared);
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

/// One `key: value  # meaning` line per shown key.
void starter_lines(std::string& out, const Fields& fields, int indent,
                   const std::vector<std::string>& shown) {
  const std::string pad(static_cast<std::size_t>(indent), ' ');
  for (const auto& name : shown) {
    const Field* f = fields.find(name);
    if (f == nullptr) continue;
    const std::string line = fmt::format("{}{}: {}", pad, name, inline_text(f->write()));
    out += fmt::format("{:<37} # {}\n", line, f->doc);
  }
}

/// An object with some of its arguments; `head` is "optimizer:" or "-".
void starter_object(std::string& out, int indent, const std::string& head, Object object,
                    const std::vector<std::string>& shown) {
  const std::string pad(static_cast<std::size_t>(indent), ' ');
  out += fmt::format("{}{}  # {}\n", pad, head, object.info().doc);
  out += fmt::format("{}  class_path: {}\n{}  init_args:\n", pad, object.class_path(), pad);
  starter_lines(out, object.fields(), indent + 4, shown);
}

template <class T>
Object changed(Object object, const std::function<void(T&)>& change) {
  change(object.as<T>());
  return object;
}

}  // namespace

std::string config_reference_markdown() {
  std::string out = kIntro;
  RunConfig config;
  Fields top;
  describe(top, config);
  out += "\n## Top level\n";
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
    std::deque<Object> seen;
    for (const auto& info : ClassRegistry::instance().all()) {
      if (info.kind != kind) continue;
      out += fmt::format("\n### `{}`\n\n`{}`: {}.\n", info.short_name(), info.path, info.doc);
      if (!info.unavailable.empty())
        out += fmt::format("Known, but not in this build: {}.\n", info.unavailable);
      if (!info.notice.empty()) out += info.notice + ".\n";
      class_section(out, info, seen);
    }
  }
  return out;
}

std::string starter_config_yaml() {
  std::string out =
      "# A configuration to start from. Every key is explained in docs/config.md; what is left "
      "out\n"
      "# has its default. Try:  tenun train -c FILE --trainer.max_steps=100\n\n";
  RunConfig config;
  config.trainer.max_steps = 2000;
  config.data.train_batch_size = 32;
  config.data.train_num_workers = 2;
  JiTOptions net;
  net.input_size = 64, net.patch_size = 4, net.hidden_size = 192, net.depth = 6, net.num_heads = 3;
  net.num_classes = 4, net.bottleneck_dim = 48, net.in_context_len = 8, net.in_context_start = 2;
  net.attention.method = "sla2";
  net.attention.block_q = net.attention.block_k = 16;
  net.attention.topk_ratio = 0.25;
  Fields top, trainer, attention, loading;
  describe(top, config);
  describe(trainer, config.trainer);
  describe(attention, net.attention);
  describe(loading, config.data);

  starter_lines(out, top, 0, {"seed_everything"});
  out += "tags:\n  exp: first                          # names the run folder\n\ntrainer:\n";
  starter_lines(out, trainer, 2,
                {"accelerator", "precision", "max_steps", "accumulate_grad_batches",
                 "gradient_clip_val", "log_every_n_steps"});
  out += "  callbacks:\n";
  starter_object(out, 4, "-",
                 changed<CheckpointOptions>(
                     make_object("model_checkpoint.CheckpointHook", ClassKind::callback),
                     [](CheckpointOptions& o) { o.every_n_train_steps = 500, o.save_last = true; }),
                 {"every_n_train_steps", "save_top_k", "save_last"});
  starter_object(out, 4, "-", make_object("callbacks.SampleGrid", ClassKind::callback),
                 {"every_n_steps", "num_samples"});

  out += "\nmodel:\n";
  starter_object(out, 2, "denoiser:",
                 changed<JiTOptions>(make_object("JiT.JiT", ClassKind::denoiser),
                                     [&](JiTOptions& o) { o = net; }),
                 {"input_size", "patch_size", "hidden_size", "depth", "num_heads", "num_classes",
                  "bottleneck_dim", "in_context_len", "in_context_start"});
  out += "      attention:\n";
  starter_lines(out, attention, 8, {"method", "block_q", "block_k", "topk_ratio"});
  starter_object(out, 2, "diffusion_trainer:", config.model.diffusion_trainer,
                 {"lognorm_t", "P_mean", "P_std", "null_condition_p"});
  starter_object(
      out, 2, "diffusion_sampler:",
      changed<HeunSamplerOptions>(config.model.diffusion_sampler,
                                  [](HeunSamplerOptions& o) {
                                    o.num_steps = 50, o.guidance = 2.0;
                                    o.exact_henu = true;
                                  }),
      {"num_steps", "guidance", "guidance_interval_min", "guidance_interval_max", "exact_henu"});
  starter_object(out, 2, "ema_tracker:",
                 changed<EmaOptions>(config.model.ema_tracker,
                                     [](EmaOptions& o) { o.decay = 0.995, o.warmup = true; }),
                 {"decay", "warmup"});
  starter_object(out, 2, "optimizer:",
                 changed<AdamWOptions>(config.model.optimizer,
                                       [](AdamWOptions& o) { o.lr = 3e-4, o.weight_decay = 0; }),
                 {"lr", "betas", "weight_decay"});

  out += "\ndata:\n";
  starter_object(
      out, 2, "train_dataset:",
      changed<BatikDatasetOptions>(make_object("data.BatikDataset", ClassKind::dataset),
                                   [](BatikDatasetOptions& o) {
                                     o.classes = {"ceplok", "kawung", "megamendung", "parang"};
                                     o.resolution = 64;
                                   }),
      {"classes", "num_per_class", "resolution", "seed"});
  out +=
      "  # Your own images, one folder per class (delete the lines above):\n"
      "  # train_dataset:\n"
      "  #   class_path: src.data.dataset.imagenet.PixImageNet\n"
      "  #   init_args: {root: path/to/images, resolution: 64, random_flip: true}\n";
  starter_lines(out, loading, 2, {"train_batch_size", "train_num_workers"});
  return out;
}

}  // namespace tenun
