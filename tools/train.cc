// tenun train, sample, init: from a configuration to a network, and from a network to pictures.
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <filesystem>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/io/gif.h"
#include "tenun/core/io/image_file.h"
#include "tenun/core/log.h"
#include "tenun/core/parallel.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/network.h"
#include "tenun/tools/table.h"
#include "tenun/train/checkpoint.h"
#include "tenun/train/class_check.h"
#include "tenun/train/data/transforms.h"
#include "tenun/train/loop.h"

namespace tenun::tools {
namespace {

namespace fs = std::filesystem;

std::atomic<int> g_signal{0};

// The first signal asks for an orderly end; the second one is not waited for.
void on_signal(int s) {
  if (g_signal.exchange(s) == 0) return;
  std::signal(s, SIG_DFL);
  std::raise(s);
}

RunConfig load(const std::vector<std::string>& files, std::vector<std::string> overrides,
               const Common& common) {
  // A flag of this command that is misspelt would else be taken for a configuration key.
  for (const std::string& o : overrides) {
    const std::string word = o.substr(0, o.find('='));
    if (!word.starts_with("--") || word.find('.') != std::string::npos) continue;
    const std::string hint =
        did_you_mean(word, {"--resume", "--init-from", "--dry-run", "--print-config", "--config"});
    check<UsageError>(hint.empty(), "train", "unknown flag '{}'{}", word, hint);
  }
  if (common.device.find(':') != std::string::npos) (void)device_flag(common);  // takes cuda:0 only
  if (!common.device.empty())
    overrides.push_back("--trainer.accelerator=" +
                        common.device.substr(0, common.device.find(':')));
  if (common.seed >= 0) overrides.push_back(fmt::format("--seed_everything={}", common.seed));
  return load_config(files, parse_overrides(overrides));
}

}  // namespace

int train_command(const Common& common, const TrainCommandOptions& o) {
  const RunConfig config = load(o.configs, o.overrides, common);
  if (o.print_config) {
    fmt::print("{}", resolved_yaml(config));
    return 0;
  }
  for (const int s : {SIGINT, SIGTERM, SIGUSR1}) std::signal(s, on_signal);
  TrainOptions t;
  t.resume = o.resume, t.init_from = o.init_from, t.dry_run = o.dry_run;
  t.progress = common.verbosity >= 0;
  t.stop = &g_signal;
  t.command = o.command;
  const TrainResult r = train(config, t);
  if (o.dry_run) return 0;
  if (r.stopped) {
    fmt::print(stderr,
               "stopped by a signal after step {}; everything is saved. Continue with:\n  {}{}\n",
               r.step, o.command, o.resume.empty() ? " --resume auto" : "");
    return 128 + g_signal.load();
  }
  fmt::print("{}: step {}, loss {:.4f}\n", r.run, r.step, r.last_loss);
  return 0;
}

int sample_command(const Common& common, const SampleCommandOptions& o) {
  RunConfig config = load({o.config.empty() ? config_beside(o.ckpt) : o.config}, {}, {});
  Object& sampler = config.model.diffusion_sampler;
  if (!o.sampler.empty()) {
    const std::map<std::string, std::string> known = {{"heun", "sampling.HeunSamplerJiT"},
                                                      {"euler", "sampling.EulerSamplerJiT"},
                                                      {"adams", "adam_sampling.AdamLMSamplerJiT"}};
    check<UsageError>(known.contains(o.sampler), "--sampler",
                      "takes heun, euler or adams, got '{}'", o.sampler);
    Object other = make_object(known.at(o.sampler), ClassKind::sampler);
    const SamplerOptions common_part = sampler_options(sampler);
    sampler_options(other) = common_part;
    if (other.is<HeunSamplerOptions>()) other.as<HeunSamplerOptions>().exact_henu = true;
    sampler = other;
  }
  SamplerOptions& settings = sampler_options(sampler);
  if (o.steps > 0) settings.num_steps = o.steps;
  if (o.cfg >= 0) settings.guidance = o.cfg;

  Model model(config, common.device.empty() ? run_device(config) : device_flag(common));
  check_classes(o.classes, model);
  check_folder(o.output, "-o");
  load_network(model, o.ckpt);
  Model::Request r;
  for (int64_t i = 0; i < o.num; ++i)
    r.labels.push_back(o.classes.empty() ? i % model.null_class()
                                         : o.classes[static_cast<size_t>(i) % o.classes.size()]);
  r.seed = static_cast<uint64_t>(common.seed < 0 ? 0 : common.seed);
  r.weights = o.ema ? Weights::average : Weights::raw;
  r.autocast = autocast_dtype(config.trainer.precision);
  r.options.keep_trajectory = o.trajectory;
  std::signal(SIGINT, on_signal);
  r.options.progress = [&](int64_t done, int64_t total) {
    if (common.verbosity >= 0 && isatty(2) != 0)
      logging::set_status_line(done < total ? fmt::format("sampling {}/{}", done, total) : "");
    return g_signal.load() == 0;
  };
  const SampleResult s = model.sample(sampler, r);
  logging::set_status_line("");
  fs::create_directories(o.output);
  std::vector<Image> images;
  for (int64_t i = 0; i < o.num; ++i) {
    images.push_back(tensor_to_image(s.x.select(0, i)));
    const std::string text =
        fmt::format("class {}, seed {}, sample {}, {}, {}", r.labels[static_cast<size_t>(i)],
                    r.seed, i, sampler.class_name(), o.ema ? "EMA" : "raw weights");
    if (!o.grid_only)
      write_png(
          fmt::format("{}/class_{:03}_{:05}.png", o.output, r.labels[static_cast<size_t>(i)], i),
          images.back(), {{"parameters", text}});
    if (o.trajectory) {
      std::vector<Image> frames;
      for (const Tensor& t : s.trajectory) frames.push_back(tensor_to_image(t.select(0, i)));
      write_gif(fmt::format("{}/trajectory_{:05}.gif", o.output, i), frames,
                {.delay_ms = 80, .last_delay_ms = 1500});
    }
  }
  if (o.grid || o.grid_only)
    write_png(o.output + "/grid.png",
              image_grid(images, static_cast<int>(
                                     std::ceil(std::sqrt(static_cast<double>(images.size()))))));
  fmt::print("{} images in {}, {} evaluations of the network each\n", o.num, o.output,
             s.evaluations / ((o.num + r.batch - 1) / r.batch));
  if (o.check_classes) {
    const auto data = make_dataset(config.data.train_dataset);
    const ClassCheck c = nearest_class_check(*data, images, r.labels);
    for (size_t k = 0; k < c.per_class.size(); ++k)
      if (c.per_class[k] >= 0)
        fmt::print("  {:<16} {:.0f} %\n", data->class_names()[k], 100 * c.per_class[k]);
    fmt::print(
        "nearest class centroid is the requested class for {:.1f} % of {} samples (chance {:.0f} "
        "%)\n",
        100 * c.share, o.num, 100.0 / static_cast<double>(data->class_names().size()));
  }
  return 0;
}

int init_command(const InitOptions& o) {
  const std::string file = o.folder + "/config.yaml";
  check<UsageError>(!fs::exists(file), file, "is there already; nothing was written");
  fs::create_directories(o.folder);
  write_file(file, starter_config_yaml());
  fmt::print("{}: a commented configuration to start from. Next:\n  tenun train -c {}\n", file,
             file);
  return 0;
}

}  // namespace tenun::tools
