// tenun bench model|train: JiT forward passes and whole training steps (loss, backward, AdamW,
// EMA), as the peer script times them: input noise, labels at random, no data loading.
#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/allocator.h"
#include "tenun/core/check.h"
#include "tenun/models/jit.h"
#include "tenun/tools/bench.h"
#include "tenun/train/flow.h"
#include "tenun/train/optimizer.h"

namespace tenun::tools {
namespace {

JiTOptions preset(const std::string& name) {
  const size_t slash = name.find('/');
  check<UsageError>(slash == 1 && name.size() > 2, "--preset",
                    "takes B/16, L/16, H/16, B/32, ..., got '{}'", name);
  JiTOptions o = jit_preset(name[0], std::stoll(name.substr(2)));
  o.num_classes = 20;
  return o;
}

struct Step {
  Tensor x, noise, t, x_t, y;
  Step(const JiTOptions& o, int64_t batch) {
    std::vector<uint64_t> ids(static_cast<size_t>(batch));
    std::vector<int64_t> labels;
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] = i, labels.push_back(static_cast<int64_t>(i) % o.num_classes);
    const Shape shape{batch, o.in_channels, o.input_size, o.input_size};
    x = sample_noise(shape, ids, 1, 0, 0.5);
    noise = sample_noise(shape, ids, 2, 0, 1);
    FlowTrainerOptions flow;
    flow.lognorm_t = true, flow.P_mean = -0.8, flow.P_std = 0.8;
    t = sample_times(ids, 1, 0, flow);
    x_t = interpolate(x, noise, t);
    y = Tensor::from(labels, {batch});
  }
};

}  // namespace

void bench_model(const Common& common, const BenchOptions& o, Report& report) {
  const JiTOptions options = preset(o.preset);
  ParameterStore store(1);
  JiT net(store.root(), options);
  const DType low = dtype_from_name(o.dtype);
  check<UsageError>(low == DType::f32 || low == DType::bf16 || low == DType::f16, "--dtype",
                    "takes f32, bf16 or f16 here");
  const Step s(options, o.batch);
  const std::vector<int64_t> shape{o.batch, options.in_channels, options.input_size,
                                   options.input_size};
  const double flops = 2 * net.macs() * static_cast<double>(o.batch);
  const auto forward = [&] {
    const Autocast guard(low);
    return net(Var(s.x_t), s.t, s.y).image;
  };
  (void)common;
  if (o.what == "model") {
    const NoGrad guard;
    const Timing t = time_call([&] { (void)forward(); }, o.seconds, 5);
    report.add("JiT-" + o.preset, "dense", shape, o.dtype, "fwd", t, flops,
               Json::object({{"images_per_s", static_cast<double>(o.batch) / t.ms * 1e3}}));
    return;
  }
  std::vector<Parameter*> trainable;
  for (Parameter& p : store)
    if (p.trainable == Trainable::yes) trainable.push_back(&p);
  AdamW optimizer(trainable, {.lr = 1e-4, .betas = {0.9, 0.999}, .eps = 1e-8, .weight_decay = 0});
  ParameterStore average_store(1);
  const JiT average(average_store.root(), options);
  Ema ema(average_store, store, {});
  int64_t step = 0;
  uint64_t raw = 0;
  const Timing t = time_call(
      [&] {
        Tape tape;
        Var loss;
        {
          const Autocast guard(low);  // as in training, the loss is part of the mixed precision
          loss = flow_matching_loss(forward(), s.x, s.x_t, s.t, {});
        }
        tape.backward(loss);
        optimizer.step();
        optimizer.zero_grad();
        ema.update(++step);
        if (step == 2) raw = memory_stats().raw_allocations;
      },
      o.seconds, 5);
  report.add(
      "JiT-" + o.preset, "dense", shape, o.dtype, "train", t, 3 * flops,
      Json::object({{"images_per_s", static_cast<double>(o.batch) / t.ms * 1e3},
                    {"raw_allocations_after_step_2", memory_stats().raw_allocations - raw}}));
}

}  // namespace tenun::tools
