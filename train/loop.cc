#include "tenun/train/loop.h"

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>

#include "tenun/core/allocator.h"
#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/io/image_file.h"
#include "tenun/core/io/jsonl.h"
#include "tenun/core/log.h"
#include "tenun/core/parallel.h"
#include "tenun/core/version.h"
#include "tenun/train/callbacks.h"
#include "tenun/train/data/loader.h"
#include "tenun/train/keeper.h"
#include "tenun/train/plot.h"
#include "tenun/train/run_lock.h"
#include "tenun/train/step.h"

namespace tenun {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

std::vector<Parameter*> trainable(ParameterStore& store) {
  std::vector<Parameter*> all;
  for (Parameter& p : store)
    if (p.trainable == Trainable::yes) all.push_back(&p);
  return all;
}

EmaOptions ema_options(const RunConfig& c) {
  for (const Object& cb : c.trainer.callbacks)
    if (cb.is<EmaOptions>()) return cb.as<EmaOptions>();
  return c.model.ema_tracker.is<EmaOptions>() ? c.model.ema_tracker.as<EmaOptions>() : EmaOptions{};
}

class Session {
 public:
  Session(const RunConfig& config, const TrainOptions& options)
      : c_(config),
        o_(options),
        run_(run_directory(config)),
        data_(make_dataset(config.data.train_dataset)),
        model_(config, run_device(config)),
        optimizer_(make_optimizer(config.model.optimizer, trainable(model_.parameters()))),
        schedule_(config.model.lr_scheduler, config.trainer.max_steps),
        ema_(model_.average(), model_.parameters(), ema_options(config)),
        loader_(*data_,
                {config.data.train_batch_size, config.data.train_num_workers,
                 config.data.train_prefetch_factor, static_cast<uint64_t>(config.seed_everything)}),
        autocast_(autocast_dtype(config.trainer.precision)),
        step_(config, model_, *optimizer_, ema_) {
    check<ConfigError>(static_cast<int64_t>(data_->class_names().size()) <= model_.null_class(),
                       "model.denoiser", "num_classes is {}, but the data set has {} classes",
                       model_.null_class(), data_->class_names().size());
    check<ConfigError>(data_->resolution() == model_.options().input_size, "data.train_dataset",
                       "makes images of {} px, the network takes {} px", data_->resolution(),
                       model_.options().input_size);
  }

  TrainResult run() {
    report();
    if (o_.dry_run) return {.run = run_};
    const RunLock lock(run_);
    prepare();
    EventWriter events(run_);
    RunView view{c_, run_, model_, *optimizer_, progress_, &events, data_->class_names()};
    auto callbacks = make_callbacks(c_);
    for (auto& cb : callbacks) cb->start(view);
    Keeper keeper(run_, c_);
    const CheckpointParts parts = this->parts();
    TrainResult result{.run = run_, .step = progress_.step};
    start_ = interval_start_ = Clock::now();
    while (!finished()) {
      for (auto& cb : callbacks) cb->before_step(view, progress_.step);
      Json metrics = Json::object({{"step", progress_.step + 1}});
      const bool epoch_end = step(callbacks, view, metrics);
      for (auto& cb : callbacks) cb->after_step(view, metrics);
      result.stopped = o_.stop != nullptr && o_.stop->load() != 0;
      // Nothing is saved of a run that went wrong.
      log_step(metrics, events, result.stopped || keeper.due(progress_, epoch_end));
      keeper.after_step(parts, last_metrics_, epoch_end);
      result.step = progress_.step;
      if (result.stopped) break;
    }
    logging::set_status_line("");
    if (const std::string text = step_.graph_report(); !text.empty())
      logging::info("trainer.cuda_graph: {}", text);
    keeper.at_end(parts, last_metrics_);
    for (auto& cb : callbacks) cb->finish(view);
    write_plot();
    result.last_loss = last_metrics_.contains("loss") ? last_metrics_["loss"] : 0;
    return result;
  }

 private:
  [[nodiscard]] CheckpointParts parts() {
    return {model_,
            *optimizer_,
            ema_,
            progress_,
            {c_.seed_everything, c_.data.train_batch_size, data_->size(),
             c_.trainer.accumulate_grad_batches}};
  }
  [[nodiscard]] bool finished() const {
    return (c_.trainer.max_steps >= 0 && progress_.step >= c_.trainer.max_steps) ||
           (c_.trainer.max_epochs && progress_.epoch >= *c_.trainer.max_epochs);
  }

  void report() {
    const JiTOptions& m = model_.options();
    logging::info(
        "network: {} parameters ({} trainable), {:.2f} GMAC a pass, {} tokens, attention {}",
        model_.parameters().count(), model_.parameters().trainable_count(),
        model_.net(Weights::raw).macs() / 1e9, m.tokens(),
        model_.net(Weights::raw).attention(m.depth - 1).options.method);
    const AttentionOptions& a = model_.net(Weights::raw).attention(m.depth - 1).options;
    if ((a.method == "sla2" || a.method == "sla") && m.tokens() < break_even_length(a.topk_ratio))
      logging::info(
          "attention {}: at {} tokens and {:g} of the blocks dense attention is faster "
          "(attention.method auto chooses)",
          a.method, m.tokens(), a.topk_ratio);
    logging::info("data: {} images in {} classes, batch {} x {}, {} steps an epoch", data_->size(),
                  data_->class_names().size(), c_.data.train_batch_size,
                  c_.trainer.accumulate_grad_batches,
                  (loader_.batches_per_epoch() + c_.trainer.accumulate_grad_batches - 1) /
                      c_.trainer.accumulate_grad_batches);
    logging::info("run: {} (on {}, {} threads, {})", run_, model_.device().str(), num_threads(),
                  c_.trainer.precision);
    log_sla2_config(model_.net(Weights::raw),
                    [](const std::string& s) { logging::debug("{}", s); });
  }

  void prepare() {
    const std::string checkpoints = run_ + "/checkpoints";
    clean_leftovers(run_);
    clean_leftovers(checkpoints);
    const auto from = o_.resume.empty() ? std::nullopt : find_resume(run_, o_.resume);
    if (from) {
      for (const std::string& n : load_checkpoint(*from, parts())) logging::info("{}", n);
      loader_.seek(progress_.epoch, progress_.batch);
      logging::info("resumed from {} at step {}", *from, progress_.step);
    } else {
      check<ConfigError>(
          !fs::exists(checkpoints + "/last"), run_,
          "already holds a run; continue it with --resume auto, or choose another --run_dir");
      if (!o_.init_from.empty())
        logging::info("{}", model_.load_weights(o_.init_from).text);
      else if (c_.ckpt_path)
        logging::info("{}", model_.load_weights(expand_home(*c_.ckpt_path)).text);
      if (o_.init_from.empty() && !c_.ckpt_path) ema_.copy();
    }
    fs::create_directories(run_);
    write_file(run_ + "/config.yaml", resolved_yaml(c_));
    const std::string metrics = run_ + "/metrics.jsonl";
    if (fs::exists(metrics)) JsonlWriter::truncate_after(metrics, progress_.step);
    metrics_ =
        std::make_unique<JsonlWriter>(metrics, Json::object({{"tenun", version()},
                                                             {"config", c_.config_name},
                                                             {"command", o_.command},
                                                             {"seed", c_.seed_everything},
                                                             {"device", model_.device().str()},
                                                             {"threads", num_threads()}}));
  }

  // One optimizer step. Returns whether it closed an epoch.
  bool step(std::vector<std::unique_ptr<Callback>>& callbacks, RunView& view, Json& metrics) {
    std::vector<Batch> batches;
    do {
      batches.push_back(loader_.next());
    } while (std::ssize(batches) < c_.trainer.accumulate_grad_batches &&
             !batches.back().last_of_epoch);
    const Batch& last = batches.back();
    progress_.epoch = last.last_of_epoch ? last.epoch + 1 : last.epoch;
    progress_.batch = last.last_of_epoch ? 0 : last.index + 1;
    TrainStep::Hooks hooks;
    hooks.with_gradients = [&](double scale) {
      view.gradient_scale = scale;
      for (auto& cb : callbacks) cb->with_gradients(view, metrics);
    };
    for (auto& cb : callbacks) hooks.reads |= cb->reads_inside(view, progress_.step);
    const double factor = schedule_.factor(progress_.step);
    const bool usable = step_.run(batches, progress_, factor, hooks);
    metrics.set("lr", optimizer_->lr() * factor);
    if (step_.full()) read_numbers(metrics);
    if (autocast_ == DType::f16) adapt_scale(usable, metrics);
    ++progress_.step;
    for (const Batch& b : batches) progress_.images += b.x.dim(0), images_ += b.x.dim(0);
    return last.last_of_epoch;
  }

  // What the steps since the last time found; the first one that went wrong ends the run.
  void read_numbers(Json& metrics) {
    const bool scaled = autocast_ == DType::f16;
    for (const StepNumbers& n : step_.read()) {
      check<Error>(scaled || std::isfinite(n.loss), "train",
                   "the loss of step {} is {}; lower the learning rate, set gradient_clip_val, or "
                   "look for the op with trainer.detect_anomaly=true",
                   n.step, n.loss);
      // A smaller loss scale may help, unless it is 1 already.
      check<Error>(std::isfinite(n.grad_norm) || (scaled && progress_.loss_scale > 1), "train",
                   "the gradient of step {} is not finite; lower the learning rate, or look for "
                   "the op with trainer.detect_anomaly=true",
                   n.step);
      metrics.set("loss", n.loss);
      if (n.aux != 0) metrics.set("sla2_router_loss", n.aux);
      metrics.set("grad_norm", n.grad_norm);
      interval_loss_ += n.loss, ++interval_steps_;
      loss_ = n.loss;
    }
  }

  // Dynamic loss scaling (Micikevicius et al. 2018): halve after an overflow, double after 2000
  // good steps.
  void adapt_scale(bool usable, Json& metrics) {
    metrics.set("loss_scale", progress_.loss_scale);
    if (!usable) {
      progress_.loss_scale = std::max(1.0, progress_.loss_scale / 2);
      progress_.good_steps = 0;
    } else if (++progress_.good_steps == 2000) {
      progress_.loss_scale *= 2;
      progress_.good_steps = 0;
    }
  }

  // `read`: the numbers are wanted now, logged or not.
  void log_step(Json& metrics, EventWriter& events, bool read) {
    const bool due =
        progress_.step % c_.trainer.log_every_n_steps == 0 || progress_.step == 1 || finished();
    if (due || read) read_numbers(metrics);
    const double elapsed = seconds_since(interval_start_);
    if (o_.progress && c_.trainer.enable_progress_bar && isatty(STDERR_FILENO) != 0)
      draw_progress();
    if (!due) return;
    metrics.set("loss", interval_loss_ / static_cast<double>(interval_steps_));
    metrics.set("epoch", progress_.epoch)
        .set("images", progress_.images)
        .set("img_per_s", static_cast<double>(images_) / std::max(elapsed, 1e-9));
    metrics.set("time", seconds_since(start_));
    metrics_->write(metrics);
    last_metrics_.clear();
    for (const auto& [key, value] : metrics.members())
      if (value.is_number()) {
        last_metrics_[key] = value.as_double();
        if (key != "step")
          events.scalar(key.find('/') == std::string::npos ? "train/" + key : key, progress_.step,
                        value.as_double());
      }
    if (!(o_.progress && isatty(STDERR_FILENO) != 0)) {
      const double left = c_.trainer.max_steps > 0
                              ? static_cast<double>(c_.trainer.max_steps - progress_.step) *
                                    elapsed /
                                    static_cast<double>(std::max<int64_t>(interval_steps_, 1))
                              : 0;
      logging::info("step {:>6}  loss {:.4f}  lr {:.2e}  grad {:.3f}  {:.1f} img/s  {:.0f} s left",
                    progress_.step, last_metrics_["loss"], last_metrics_["lr"],
                    last_metrics_["grad_norm"], last_metrics_["img_per_s"], left);
    }
    interval_loss_ = 0, interval_steps_ = 0, images_ = 0;
    interval_start_ = Clock::now();
  }

  void draw_progress() {
    if (seconds_since(drawn_) < 0.1) return;
    drawn_ = Clock::now();
    const double done = seconds_since(start_),
                 rate = static_cast<double>(progress_.step) / std::max(done, 1e-9);
    smooth_ = smooth_ == 0 ? loss_ : 0.95 * smooth_ + 0.05 * loss_;
    std::string bar;
    if (c_.trainer.max_steps > 0) {
      const auto filled = static_cast<size_t>(20 * progress_.step / c_.trainer.max_steps);
      bar = fmt::format("[{}{}] ", std::string(filled, '='),
                        std::string(20 - std::min<size_t>(filled, 20), ' '));
      bar += fmt::format(
          "{}/{}  ETA {:.0f} s", progress_.step, c_.trainer.max_steps,
          static_cast<double>(c_.trainer.max_steps - progress_.step) / std::max(rate, 1e-9));
    } else {
      bar = fmt::format("step {}", progress_.step);
    }
    logging::set_status_line(fmt::format(
        "{}  loss {:.4f}  {:.2f} it/s  {:.1f} img/s", bar, smooth_, rate,
        rate * static_cast<double>(c_.data.train_batch_size * c_.trainer.accumulate_grad_batches)));
  }

  void write_plot() {
    Curve loss{"loss", {}, {}};
    const std::string file = run_ + "/metrics.jsonl";
    const std::string text = read_file(file);
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size());
      const Json row = Json::parse(std::string_view(text).substr(at, end - at), file);
      if (row.find("step") != nullptr && row.find("loss") != nullptr && row.at("loss").is_number())
        loss.x.push_back(row.at("step").as_double()), loss.y.push_back(row.at("loss").as_double());
      at = end + 1;
    }
    write_png(run_ + "/loss.png", plot_curves("training loss", {loss}));
  }

  const RunConfig& c_;
  const TrainOptions& o_;
  std::string run_;
  std::unique_ptr<Dataset> data_;
  Model model_;
  std::unique_ptr<Optimizer> optimizer_;
  Schedule schedule_;
  Ema ema_;
  BatchLoader loader_;
  DType autocast_;
  TrainStep step_;
  Progress progress_;
  std::unique_ptr<JsonlWriter> metrics_;
  std::map<std::string, double> last_metrics_;
  Clock::time_point start_, interval_start_, drawn_;
  double interval_loss_ = 0, loss_ = 0, smooth_ = 0;
  int64_t interval_steps_ = 0, images_ = 0;
};

}  // namespace

TrainResult train(const RunConfig& config, const TrainOptions& options) {
  require_available(config);
  for (const std::string& n : config_notices(config)) logging::info("{}", n);
  Session session(config, options);
  return session.run();
}

}  // namespace tenun
