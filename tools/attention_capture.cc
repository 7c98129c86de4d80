// The operands of every attention of a network while it draws.
#include "tenun/core/check.h"
#include "tenun/tools/attention_inputs.h"
#include "tenun/tools/network.h"
#include "tenun/train/config/config.h"

namespace tenun::tools {
namespace {

// The second half of the batch: guidance puts the samples without a class first.
Tensor told_half(const Tensor& t) {
  return t.slice(0, t.dim(0) / 2, t.dim(0)).to(DType::f32).clone();
}

}  // namespace

AttentionLayers capture_layers(const CaptureOptions& o) {
  RunConfig config = load_config({o.config.empty() ? config_beside(o.ckpt) : o.config}, {});
  SamplerOptions& sampler = sampler_options(config.model.diffusion_sampler);
  sampler.num_steps = o.steps;
  Model model(config);
  check_classes(o.classes, model);
  load_network(model, o.ckpt);

  JiT& net = model.net(Weights::average);
  const JiTOptions& options = net.options();
  AttentionLayers all{
      .source = o.ckpt,
      .grid = options.input_size / options.patch_size,
      .tile = options.attention_of(options.depth - 1).tile == TokenOrder::tile_8x8 ? 8 : 1,
      .layers = {}};
  bool middle = false;
  for (int64_t i = 0; i < net.depth(); ++i)
    net.attention(i).observe = [&all, &middle, i](const JiTAttentionCall& c) {
      if (!middle) return;
      AttentionParams p;
      for (const Learned& l : kLearned)
        if (const Var& v = c.params.*l.at; v.defined())
          p.*l.at =
              Var(l.at == &AttentionParams::gate_c ? told_half(v.value()) : v.value().clone());
      AttentionSpec spec = c.spec;
      spec.aux = false;
      all.layers.push_back({.layer = i,
                            .q = told_half(c.q.value()),
                            .k = told_half(c.k.value()),
                            .v = told_half(c.v.value()),
                            .spec = spec,
                            .params = std::move(p)});
    };
  Model::Request r;
  r.labels = o.classes.empty() ? std::vector<int64_t>{0} : o.classes;
  r.seed = o.seed;
  r.batch = static_cast<int64_t>(r.labels.size());
  r.options.progress = [&](int64_t done, int64_t total) {
    middle = done == total / 2;  // of the evaluation that comes next
    return true;
  };
  all.picture = model.sample(config.model.diffusion_sampler, r).x.select(0, 0).clone();
  check(!all.layers.empty(), o.ckpt, "no attention ran; it needs at least two steps");
  return all;
}

}  // namespace tenun::tools
