// tenun bench model|train: JiT forward passes, sampling, and whole training steps (loss, backward,
// AdamW, EMA), as the peer script times them: input noise, labels at random, no data loading.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/allocator.h"
#include "tenun/core/check.h"
#include "tenun/core/profile.h"
#include "tenun/models/jit.h"
#include "tenun/tools/bench_attention.h"
#include "tenun/tools/bench_fit.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/table.h"
#include "tenun/train/flow.h"
#include "tenun/train/optimizer.h"
#include "tenun/train/samplers.h"

namespace tenun::tools {
namespace {

using Clock = std::chrono::steady_clock;
double ms_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double, std::milli>(b - a).count();
}

// "B/16" and the like; --image sets other pixels than 256 (512 for patch 32).
JiTOptions preset(const BenchOptions& b) {
  const std::string& name = b.preset;
  const bool shaped = name.size() > 2 && name.size() < 6 && name[1] == '/' &&
                      name.find_first_not_of("0123456789", 2) == std::string::npos;
  const int64_t patch = shaped ? std::stoll(name.substr(2)) : 0;
  check<UsageError>(patch > 0 && (name[0] == 'B' || name[0] == 'L' || name[0] == 'H'), "--preset",
                    "takes B, L or H, a slash and a patch size (B/16, L/32, B/4), got '{}'", name);
  JiTOptions o = jit_preset(name[0], patch == 32 ? 32 : 16);
  o.patch_size = patch;
  if (b.image > 0) o.input_size = b.image;
  check<UsageError>(o.input_size % patch == 0, "--image", "{} pixels are no multiple of patch {}",
                    o.input_size, patch);
  o.num_classes = 20;
  return o;
}

struct Step {
  Tensor x, x_t, t_here, t, y;  // t_here: on the CPU
  Step(const JiTOptions& o, int64_t batch, Device device) {
    std::vector<uint64_t> ids(static_cast<size_t>(batch));
    std::vector<int64_t> labels;
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] = i, labels.push_back(static_cast<int64_t>(i) % o.num_classes);
    const Shape shape{batch, o.in_channels, o.input_size, o.input_size};
    x = sample_noise(shape, ids, 1, 0, 0.5).to(device);
    const Tensor noise = sample_noise(shape, ids, 2, 0, 1).to(device);
    FlowTrainerOptions flow;
    flow.lognorm_t = true, flow.P_mean = -0.8, flow.P_std = 0.8;
    t_here = sample_times(ids, 1, 0, flow);
    x_t = interpolate(x, noise, t_here);
    t = t_here.to(device), y = Tensor::from(labels, {batch});  // as in training
  }
};

// Where one call spends its time.
struct Anatomy {
  double total = 0, attention = 0, selection = 0;  // ms; selection: attention without its branches
  double sparsity = 0;                             // mean over the blocks
  std::vector<double> layers;   // forward: from one block's attention to that of the next
  Json parts = Json::object();  // ms of each kernel; "rest" is what lies between them
};

// The kernels of attention's backward pass stand outside of the section "attention".
bool is_attention_backward(const std::string& section) {
  return section == "flash attention backward" || section == "linear attention backward" ||
         section == "attention mix backward" || section == "row_dot";
}

template <class F>
Anatomy dissect(JiT& net, const F& call, Device device) {
  Anatomy a;
  std::vector<Clock::time_point> at;
  for (int64_t i = 0; i < net.depth(); ++i)
    net.attention(i).observe = [&](const JiTAttentionCall& c) {
      device_ops(device.type).synchronize();
      at.push_back(Clock::now());
      a.sparsity += (1 - c.out.stats.density) / static_cast<double>(net.depth());
    };
  {
    const Profile profile(device);
    Event begin(device), end(device);
    begin.record();
    call();
    end.record();
    a.total = end.ms_since(begin);
    double branches = 0;
    for (const Profile::Entry& e : profile.entries()) {
      if (e.name == "attention") a.attention += e.total_ms;
      if (is_attention_backward(e.name)) a.attention += e.ms;
      a.parts.set(e.name, e.ms);
      if (e.name == "attention mix forward" || is_branch(e.name) || is_attention_backward(e.name))
        branches += e.ms;
    }
    a.selection = a.attention - branches;
    a.parts.set("rest", a.total - profile.total_ms());
  }
  for (size_t i = 1; i < at.size(); ++i) a.layers.push_back(ms_between(at[i - 1], at[i]));
  for (int64_t i = 0; i < net.depth(); ++i) net.attention(i).observe = nullptr;
  return a;
}

struct Result {
  Timing t;
  Anatomy a;
};

class ModelBench {
 public:
  ModelBench(const Common& common, const BenchOptions& o, Report& report)
      : common_(common),
        o_(o),
        report_(report),
        device_(device_flag(common)),
        options_(preset(o)),
        low_(o.dtype == "bf16"  ? DType::bf16
             : o.dtype == "f16" ? DType::f16
                                : DType::f32),
        seed_(static_cast<uint64_t>(common.seed < 0 ? 1 : common.seed)) {
    check<UsageError>(o.dtype == "f32" || o.dtype == "bf16" || o.dtype == "f16", "--dtype",
                      "takes f32, bf16 or f16 here, got '{}'", o.dtype);
  }

  // Before anything is allocated: parameters (trained: with gradients, AdamW and two copies), and
  // activations in units of tokens x width, as `tenun inspect` counts them.
  void check_sizes() const {
    const auto c = static_cast<double>(options_.hidden_size),
               depth = static_cast<double>(options_.depth),
               side = static_cast<double>(options_.input_size / options_.patch_size),
               pixels = static_cast<double>(options_.input_size);
    const double tokens = side * side + static_cast<double>(options_.in_context_len);
    const bool train = o_.what == "train";
    for (const int64_t b : batches(o_, 4))
      check_memory(4 * (depth * 18 * c * c * (train ? 6 : 1) +
                        static_cast<double>(b) *
                            (tokens * c * 22 * (train ? depth : 1) + 12 * pixels * pixels)),
                   fmt::format("bench {}: batch {} of {} px", o_.what, b, options_.input_size));
  }

  void run() {
    check_sizes();
    std::vector<std::string> methods = o_.methods;
    if (methods.empty()) methods = {"dense"};
    std::vector<std::pair<std::string, AttentionMethod>> known;
    for (const std::string& m : methods) {
      check<UsageError>(m != "all" && m != "sparse", "--methods",
                        "of a network cannot be '{}': name methods that it can be built with", m);
      try {
        known.emplace_back(m, from_name<AttentionMethod>(m));
      } catch (const ValueError& e) {
        fail<UsageError>("--methods", "{}", e.what());
      }
    }
    if (std::none_of(known.begin(), known.end(), [](auto& m) { return has_sparsity(m.second); }))
      for (const char* f : {"sparsity", "block-q", "block-k"})
        refuse_flag(common_, f, "no method of --methods leaves out blocks");
    for (const auto& [m, method] : known) {
      const std::vector<double> sparsity = !has_sparsity(method) ? std::vector<double>{0}
                                           : o_.sparsity.empty() ? std::vector<double>{0.95}
                                                                 : o_.sparsity;
      for (const double s : sparsity) {
        JiTOptions options = options_;
        options.attention.method = m;
        options.attention.topk_ratio = 1 - s;
        options.attention.block_q = o_.block_q, options.attention.block_k = o_.block_k;
        if (has_sparsity(method) && options.input_size / options.patch_size % 8 == 0)
          options.attention.tile = TokenOrder::tile_8x8;
        // A window sees a square of 8 x 8 tiles around each of them.
        const double tiles = static_cast<double>(options.tokens()) / 64;
        options.attention.radius =
            std::max<int64_t>(0, std::llround((std::sqrt((1 - s) * tiles) - 1) / 2));
        measure(options);
      }
    }
  }

 private:
  [[nodiscard]] Var forward(const JiT& net, const Step& s) const {
    const Autocast guard(low_);
    return net(Var(s.x_t), s.t, s.y).image;
  }

  void measure(const JiTOptions& options) {
    ParameterStore store(seed_, DType::f32, device_);
    JiT net(store.root(), options);
    for (const int64_t batch : batches(o_, 4)) {
      const Step s(options, batch, device_);
      allocator(device_.type).reset_peak();
      if (o_.what == "train") {
        train(net, store, s, batch);
        continue;
      }
      const NoGrad guard;
      const auto call = [&] { (void)forward(net, s); };
      Result r{time_call(call, o_.seconds, 5, device_), {}};
      r.a = dissect(net, call, device_);
      report(net, batch, "fwd", r, 1, Json::object());
      if (o_.sample_steps > 0) sample_time(net, batch);
    }
  }

  void train(JiT& net, ParameterStore& store, const Step& s, int64_t batch) {
    std::vector<Parameter*> trainable;
    for (Parameter& p : store)
      if (p.trainable == Trainable::yes) trainable.push_back(&p);
    AdamW optimizer(trainable, {.lr = 1e-4, .betas = {0.9, 0.999}, .eps = 1e-8, .weight_decay = 0});
    ParameterStore average_store(seed_, DType::f32, device_);
    const JiT average(average_store.root(), net.options());
    Ema ema(average_store, store, {});
    int64_t step = 0;
    uint64_t raw = 0;
    const auto call = [&] {
      Tape tape;
      Var loss;
      {
        const Autocast guard(low_);  // as in training, the loss is part of the mixed precision
        loss = flow_matching_loss(forward(net, s), s.x, s.x_t, s.t_here, {});
      }
      tape.backward(loss);
      optimizer.step();
      optimizer.zero_grad();
      ema.update(++step);
      if (step == 2) raw = memory_stats(device_.type).raw_allocations;
    };
    Result r{time_call(call, o_.seconds, 5, device_), {}};
    r.a = dissect(net, call, device_);
    const uint64_t raw_after = memory_stats(device_.type).raw_allocations - raw;
    report(
        net, batch, "train", r, 3,
        Json::object({{"peak_mib", static_cast<double>(memory_stats(device_.type).peak) / 1048576},
                      {"raw_allocations_after_step_2", raw_after}}));
  }

  void report(const JiT& net, int64_t batch, const std::string& direction, const Result& r,
              double passes, Json last) {
    const JiTOptions& o = net.options();
    const std::vector<int64_t> shape{batch, o.in_channels, o.input_size, o.input_size};
    const auto b = static_cast<double>(batch), depth = static_cast<double>(net.depth());
    Json more = Json::object({{"images_per_s", b / r.t.ms * 1e3},
                              {"ms_image", r.t.ms / b},
                              {"ms_layer", r.t.ms / depth},
                              {"attention_share", r.a.attention / r.a.total},
                              {"parts", r.a.parts}});
    const std::string& method = o.attention.method;
    if (method != "dense") {
      more.set("sparsity", r.a.sparsity);
      more.set("selection_share", r.a.selection / r.a.total);
    }
    const auto dense = dense_.find(batch);
    if (method == "dense") {
      dense_[batch] = r;
    } else if (dense != dense_.end()) {
      const Result& d = dense->second;
      const auto n = static_cast<double>(o.tokens() + o.in_context_len),
                 c = static_cast<double>(o.hidden_size);
      more.set("gain", d.t.ms_min / r.t.ms_min);
      // What Amdahl's law makes of the attention's own gain, and what operations alone would allow.
      more.set("gain_predicted", amdahl(d.a.attention / d.a.total, d.a.attention / r.a.attention));
      more.set("gain_bound",
               amdahl(n / (6 * c + n),
                      sparse_linear_bound(1 - r.a.sparsity, n, static_cast<double>(o.head_dim()),
                                          static_cast<double>(o.attention.block_q),
                                          static_cast<double>(o.attention.block_k))));
    }
    for (const auto& [key, value] : last.members()) more.set(key, value);
    if (direction == "fwd") {
      Json layers = Json::object();
      for (size_t i = 0; i < r.a.layers.size(); ++i)
        layers.set(std::to_string(i) + "-" + std::to_string(i + 1), r.a.layers[i]);
      more.set("ms_layers", layers);
    }
    report_.add("JiT-" + o_.preset, method, shape, o_.dtype, direction, r.t,
                passes * 2 * net.macs() * b, more);
  }

  // Heun's method with guidance: two evaluations of twice the batch a step, but for the last one.
  void sample_time(const JiT& net, int64_t batch) {
    const JiTOptions& o = net.options();
    Object config = make_object("sampling.HeunSamplerJiT", ClassKind::sampler);
    auto& heun = config.as<HeunSamplerOptions>();
    heun.num_steps = o_.sample_steps, heun.exact_henu = true;
    std::vector<uint64_t> ids(static_cast<size_t>(batch));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = i;
    const std::vector<int64_t> shape{batch, o.in_channels, o.input_size, o.input_size};
    const Tensor noise = sample_noise({shape[0], shape[1], shape[2], shape[3]}, ids, seed_, 0, 1)
                             .to(device_),
                 cond = Tensor::zeros({batch}, DType::i64),
                 uncond = Tensor::full({batch}, static_cast<double>(o.num_classes), DType::i64);
    const Denoiser denoiser = [&](const Tensor& x, const Tensor& t, const Tensor& y) {
      const Autocast guard(low_);
      return net(Var(x), t, y).image.value();
    };
    int64_t evaluations = 0;
    Event begin(device_), end(device_);
    begin.record();
    evaluations = sample(config, denoiser, noise, cond, uncond).evaluations;
    end.record();
    const double ms = end.ms_since(begin), b = static_cast<double>(batch);
    report_.add("sample-" + o_.preset, o.attention.method, shape, o_.dtype, "fwd", {ms, ms, 1},
                4 * net.macs() * b * static_cast<double>(evaluations),
                Json::object({{"steps", o_.sample_steps},
                              {"evaluations", evaluations},
                              {"ms_image", ms / b},
                              {"images_per_s", b / ms * 1e3}}));
  }

  const Common& common_;
  const BenchOptions& o_;
  Report& report_;
  Device device_;
  JiTOptions options_;
  DType low_;
  uint64_t seed_;
  std::map<int64_t, Result> dense_;  // by batch
};

}  // namespace

void bench_model(const Common& common, const BenchOptions& o, Report& report) {
  ModelBench(common, o, report).run();
}

}  // namespace tenun::tools
