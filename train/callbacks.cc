#include "tenun/train/callbacks.h"

#include <cmath>
#include <filesystem>

#include "tenun/core/check.h"
#include "tenun/core/io/gif.h"
#include "tenun/core/io/image_file.h"
#include "tenun/core/log.h"
#include "tenun/ops/update.h"
#include "tenun/train/data/transforms.h"

namespace tenun {
namespace {

template <class F>
void for_each_attention(Model& m, F&& f) {
  for (const Weights w : {Weights::raw, Weights::average})
    for (int64_t i = 0; i < m.net(w).depth(); ++i)
      if (m.net(w).attention(i).is_sla2())
        f(m.net(w).attention(i),
          fmt::format("{}/blocks/{}/attn", w == Weights::raw ? "denoiser" : "ema_denoiser", i));
}

class SampleGrid final : public Callback {
 public:
  explicit SampleGrid(SampleGridOptions o) : o_(std::move(o)) {}
  void after_step(RunView& v, Json&) override {
    if (v.progress.step % o_.every_n_steps == 0)
      (void)write_sample_grid(
          v, o_, fmt::format("{}/{}/step-{:06}.png", v.run, o_.save_dir, v.progress.step));
  }

 private:
  SampleGridOptions o_;
};

// A GIF of the denoising trajectory for each sample, and how different the samples are.
class MidTrainingSampler final : public Callback {
 public:
  explicit MidTrainingSampler(MidTrainingSamplerOptions o) : o_(std::move(o)) {}
  void after_step(RunView& v, Json& metrics) override {
    if (v.progress.step % o_.sample_every_n_steps != 0) return;
    Model::Request r;
    for (int64_t i = 0; i < o_.num_samples; ++i) r.labels.push_back(i % v.model.null_class());
    r.seed = static_cast<uint64_t>(v.config.seed_everything);
    r.options.keep_trajectory = true;
    Object sampler = v.config.model.diffusion_sampler;
    const auto fast = [&](SamplerOptions& o) {
      o.num_steps = o_.fast_steps, o.guidance = o_.fast_guidance;
    };
    if (sampler.is<HeunSamplerOptions>())
      fast(sampler.as<HeunSamplerOptions>());
    else if (sampler.is<EulerSamplerOptions>())
      fast(sampler.as<EulerSamplerOptions>());
    else
      fast(sampler.as<AdamLMSamplerOptions>());
    const SampleResult s = v.model.sample(sampler, r);
    std::filesystem::create_directories(v.run + "/" + o_.save_dir);
    for (int64_t i = 0; i < o_.num_samples; ++i) {
      std::vector<Image> frames;
      for (const Tensor& t : s.trajectory) frames.push_back(tensor_to_image(t.select(0, i)));
      write_gif(fmt::format("{}/{}/step_{}_sample_{}.gif", v.run, o_.save_dir, v.progress.step, i),
                frames, {.delay_ms = 200});
    }
    double distance = 0;
    int pairs = 0;
    const auto x = s.x.values<float>();
    const size_t each = x.size() / static_cast<size_t>(o_.num_samples);
    for (size_t a = 0; a < static_cast<size_t>(o_.num_samples); ++a)
      for (size_t b = a + 1; b < static_cast<size_t>(o_.num_samples); ++b, ++pairs)
        for (size_t k = 0; k < each; ++k)
          distance += std::abs(static_cast<double>(x[a * each + k]) -
                               static_cast<double>(x[b * each + k])) /
                      static_cast<double>(each);
    if (pairs > 0) metrics.set("sample_pairwise_l1", distance / pairs);
  }

 private:
  MidTrainingSamplerOptions o_;
};

class GradientMonitor final : public Callback {
 public:
  explicit GradientMonitor(GradientMonitorOptions o) : o_(o) {}
  [[nodiscard]] bool reads_inside(RunView&, int64_t) const override { return true; }
  void with_gradients(RunView& v, Json& metrics) override {
    double largest = 0, total = 0;
    for (const Parameter* p : v.optimizer.parameters()) {
      if (!p->var.grad().defined()) continue;
      const double n = norm(p->var.grad()) * v.gradient_scale;
      largest = std::max(largest, n);
      total += std::isinf(o_.norm_type) ? 0 : std::pow(n, o_.norm_type);
    }
    metrics.set("train/grad/max", largest);
    metrics.set("train/grad/total",
                std::isinf(o_.norm_type) ? largest : std::pow(total, 1 / o_.norm_type));
  }

 private:
  [[nodiscard]] double norm(const Tensor& g) const {
    if (o_.norm_type == 2) return std::sqrt(square_sum({&g, 1}).item());
    double s = 0, m = 0;
    for (const double x : g.values<double>())
      s += std::pow(std::abs(x), o_.norm_type), m = std::max(m, std::abs(x));
    return std::isinf(o_.norm_type) ? m : std::pow(s, 1 / o_.norm_type);
  }
  GradientMonitorOptions o_;
};

class Sla2Monitor final : public Callback {
 public:
  Sla2Monitor(int64_t every, bool sparsity, bool alpha)
      : every_(every), sparsity_(sparsity), alpha_(alpha) {}
  void before_step(RunView& v, int64_t step) override {
    const bool now = due(step);
    for_each_attention(v.model, [&](JiTAttention& a, const std::string& path) {
      a.measure_error = now && a.qat && path.starts_with("denoiser");
    });
  }
  [[nodiscard]] bool reads_inside(RunView& v, int64_t step) const override {
    bool measures = false;
    for_each_attention(v.model, [&](const JiTAttention& a, const std::string&) {
      measures = measures || a.measure_error;
    });
    return due(step) && measures;
  }
  void after_step(RunView& v, Json& metrics) override {
    if (v.progress.step % every_ != 0) return;
    for_each_attention(v.model, [&](const JiTAttention& a, const std::string& path) {
      if (a.qat && a.quant_error())
        metrics.set(path + "/quant_cosine", a.quant_error()->cosine)
            .set(path + "/quant_rel_l1", a.quant_error()->rel_l1);
      if (sparsity_) metrics.set(path + "/sparsity", 1 - a.options.topk_ratio);
      if (!alpha_) return;
      std::vector<double> m = a.alpha().value().values<double>();
      double mean = 0, square = 0, low = 1, high = 0;
      for (double& x : m)
        x = 1 / (1 + std::exp(-x)), mean += x / static_cast<double>(m.size()),
        low = std::min(low, x), high = std::max(high, x);
      for (const double x : m) square += (x - mean) * (x - mean);
      metrics.set(path + "/alpha_mean", mean);
      metrics.set(path + "/alpha_std",
                  m.size() > 1 ? std::sqrt(square / static_cast<double>(m.size() - 1)) : 0.0);
      metrics.set(path + "/alpha_min", low).set(path + "/alpha_max", high);
    });
  }

 private:
  [[nodiscard]] bool due(int64_t step) const { return (step + 1) % every_ == 0; }
  int64_t every_;
  bool sparsity_, alpha_;
};

class RouterSchedule final : public Callback {
 public:
  explicit RouterSchedule(RouterScheduleOptions o) : o_(o) {}
  void before_step(RunView& v, int64_t step) override {
    const double done =
        std::min(1.0, static_cast<double>(step) / static_cast<double>(o_.router_warmup_steps));
    const double ratio =
        o_.initial_topk_ratio + done * (o_.final_topk_ratio - o_.initial_topk_ratio);
    for_each_attention(v.model,
                       [&](JiTAttention& a, const std::string&) { a.options.topk_ratio = ratio; });
  }

 private:
  RouterScheduleOptions o_;
};

// Soft routing first, then hard; counted from the first step of this run, not from 0 as in the
// original.
class TwoStage final : public Callback {
 public:
  explicit TwoStage(Sla2TwoStageOptions o) : o_(o) {}
  void before_step(RunView& v, int64_t step) override {
    const bool soft = step - v.progress.first_step < o_.warmup_steps;
    for_each_attention(v.model, [&](JiTAttention& a, const std::string&) {
      a.options.mode = soft ? RouterMode::soft : RouterMode::hard;
      a.options.topk_ratio = soft ? o_.soft_topk_ratio : o_.hard_topk_ratio;
      a.options.tau = o_.soft_topk_tau;
      a.options.soft_iters = o_.soft_topk_iters;
      a.options.aux_weight = soft ? o_.router_aux_weight_stage1 : o_.router_aux_weight_stage2;
    });
  }

 private:
  Sla2TwoStageOptions o_;
};

}  // namespace

std::vector<std::unique_ptr<Callback>> make_callbacks(const RunConfig& config) {
  std::vector<std::unique_ptr<Callback>> all;
  for (const Object& c : config.trainer.callbacks) {
    if (c.is<SampleGridOptions>())
      all.push_back(std::make_unique<SampleGrid>(c.as<SampleGridOptions>()));
    else if (c.is<MidTrainingSamplerOptions>())
      all.push_back(std::make_unique<MidTrainingSampler>(c.as<MidTrainingSamplerOptions>()));
    else if (c.is<GradientMonitorOptions>())
      all.push_back(std::make_unique<GradientMonitor>(c.as<GradientMonitorOptions>()));
    else if (c.is<Sla2QatOptions>())
      all.push_back(std::make_unique<Sla2Monitor>(100, c.as<Sla2QatOptions>().log_sparsity,
                                                  c.as<Sla2QatOptions>().log_alpha_stats));
    else if (c.is<AttentionMonitorOptions>())
      all.push_back(std::make_unique<Sla2Monitor>(c.as<AttentionMonitorOptions>().monitor_frequency,
                                                  false, true));
    else if (c.is<RouterScheduleOptions>())
      all.push_back(std::make_unique<RouterSchedule>(c.as<RouterScheduleOptions>()));
    else if (c.is<Sla2TwoStageOptions>())
      all.push_back(std::make_unique<TwoStage>(c.as<Sla2TwoStageOptions>()));
    // CheckpointHook and SimpleEMA belong to the loop; SaveImagesHook acts in validation and
    // LRResyncCallback repairs a state that a schedule computed from the step does not have.
  }
  return all;
}

std::vector<Image> write_sample_grid(RunView& v, const SampleGridOptions& o,
                                     const std::string& file) {
  Object sampler = v.config.model.diffusion_sampler;
  const auto adjust = [&](SamplerOptions& s) {
    s.num_steps = o.num_steps.value_or(s.num_steps);
    s.guidance = o.guidance.value_or(s.guidance);
  };
  if (sampler.is<HeunSamplerOptions>())
    adjust(sampler.as<HeunSamplerOptions>());
  else if (sampler.is<EulerSamplerOptions>())
    adjust(sampler.as<EulerSamplerOptions>());
  else if (sampler.is<AdamLMSamplerOptions>())
    adjust(sampler.as<AdamLMSamplerOptions>());
  Model::Request r;
  for (int64_t i = 0; i < o.num_samples; ++i)
    r.labels.push_back(o.classes.empty() ? i % v.model.null_class()
                                         : o.classes[static_cast<size_t>(i) % o.classes.size()]);
  r.seed = static_cast<uint64_t>(o.seed);
  r.weights = o.ema ? Weights::average : Weights::raw;
  r.autocast = autocast_dtype(v.config.trainer.precision);
  const SampleResult s = v.model.sample(sampler, r);
  std::vector<Image> images;
  for (int64_t i = 0; i < o.num_samples; ++i) images.push_back(tensor_to_image(s.x.select(0, i)));
  const Image grid = image_grid(
      images, static_cast<int>(std::ceil(std::sqrt(static_cast<double>(images.size())))));
  std::filesystem::create_directories(std::filesystem::path(file).parent_path());
  write_png(file, grid,
            {{"parameters",
              fmt::format("step {}, seed {}, {}", v.progress.step, o.seed, sampler.class_name())}});
  if (v.events != nullptr) v.events->image("samples", v.progress.step, grid);
  return images;
}

}  // namespace tenun
