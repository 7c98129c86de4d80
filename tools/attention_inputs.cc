#include "tenun/tools/attention_inputs.h"

#include <array>
#include <cmath>
#include <map>

#include "tenun/core/check.h"
#include "tenun/core/io/json.h"
#include "tenun/core/io/safetensors.h"
#include "tenun/ops/attention/methods.h"

namespace tenun::tools {
namespace {

Tensor normal(const Shape& shape, uint64_t seed, uint64_t stream, double deviation = 1) {
  Tensor t(shape, DType::f32);
  fill_normal(t, RandomKey::derive(seed, Purpose::test, stream), 0, deviation);
  return t;
}

Tensor near_identity(int64_t n, uint64_t seed, uint64_t stream) {
  Tensor t = normal({n, n}, seed, stream, 0.1 / std::sqrt(static_cast<double>(n)));
  float* const p = t.mutable_data<float>();
  for (int64_t i = 0; i < n; ++i) p[i * n + i] += 1;
  return t;
}

Json spec_json(const AttentionSpec& s) {
  return Json::object({{"method", std::string(name(s.method))},
                       {"block_q", s.block_q},
                       {"block_k", s.block_k},
                       {"topk_ratio", s.topk_ratio},
                       {"mode", std::string(name(s.mode))},
                       {"tau", s.tau},
                       {"prefix", s.prefix},
                       {"selector", std::string(name(s.selector))},
                       {"mass", s.mass},
                       {"topk", s.topk},
                       {"variant", std::string(name(s.variant))},
                       {"levels", s.levels},
                       {"radius", s.radius},
                       {"theta", s.theta},
                       {"negligible_ratio", s.negligible_ratio},
                       {"scope", std::string(name(s.scope))},
                       {"smooth_k", s.smooth_k},
                       {"enrichment", s.enrichment},
                       {"tile_tokens", s.grid.tokens},
                       {"tile_columns", s.grid.columns},
                       {"compression", s.compression},
                       {"iters", s.iters}});
}

AttentionSpec spec_of(const Json& j, AttentionSpec s) {
  const auto integer = [&](const char* key, int64_t& v) {
    if (const Json* p = j.find(key)) v = p->as_int();
  };
  const auto real = [&](const char* key, double& v) {
    if (const Json* p = j.find(key)) v = p->as_double();
  };
  if (const Json* p = j.find("method")) s.method = from_name<AttentionMethod>(p->as_string());
  if (const Json* p = j.find("mode")) s.mode = from_name<RouterMode>(p->as_string());
  if (const Json* p = j.find("selector")) s.selector = from_name<Selector>(p->as_string());
  if (const Json* p = j.find("variant")) s.variant = from_name<SlaVariant>(p->as_string());
  integer("topk", s.topk), integer("levels", s.levels), integer("radius", s.radius);
  if (const Json* p = j.find("scope")) s.scope = from_name<GateScope>(p->as_string());
  if (const Json* p = j.find("smooth_k")) s.smooth_k = p->as_bool();
  if (const Json* p = j.find("enrichment")) s.enrichment = p->as_bool();
  integer("tile_tokens", s.grid.tokens), integer("tile_columns", s.grid.columns);
  real("mass", s.mass), real("theta", s.theta), real("negligible_ratio", s.negligible_ratio);
  integer("block_q", s.block_q), integer("block_k", s.block_k), integer("prefix", s.prefix);
  integer("compression", s.compression), integer("iters", s.iters);
  real("topk_ratio", s.topk_ratio), real("tau", s.tau);
  return s;
}

void check_layer(const std::string& path, const AttentionLayer& l) {
  const auto fits = [&](const Tensor& t) {
    return t.rank() == 4 && t.dim(0) == l.q.dim(0) && t.dim(1) == l.q.dim(1) &&
           t.dim(3) == l.q.dim(3) && is_floating(t.dtype());
  };
  check<IoError>(l.q.rank() == 4 && fits(l.q) && fits(l.k), path,
                 "q {} and k {} of block {} should be (B, H, N, D) of one B, H and D", l.q, l.k,
                 l.layer);
  check<IoError>(!l.v.defined() || l.v.shape() == l.k.shape(), path,
                 "v {} of block {} should have the shape of k {}", l.v, l.layer, l.k);
}

}  // namespace

AttentionLayer random_layer(int64_t batch, int64_t heads, int64_t n, int64_t d, uint64_t seed) {
  const Shape shape{batch, heads, n, d};
  return {.layer = 0,
          .q = normal(shape, seed, 1),
          .k = normal(shape, seed, 2),
          .v = normal(shape, seed, 3),
          .spec = {},
          .params = {}};
}

AttentionParams fill_params(const AttentionSpec& spec, const Tensor& q,
                            const AttentionParams& given, uint64_t seed) {
  AttentionParams p = given;
  const int64_t h = q.dim(1), d = q.dim(3);
  const auto fill = [](Var& v, const Tensor& value) {
    if (!v.defined()) v = Var(value);
  };
  switch (spec.method) {
    case AttentionMethod::pixelgen_sla2:
      fill(p.proj_l, normal({h * d, h * d}, seed, 7, 0.02));
      [[fallthrough]];
    case AttentionMethod::automatic:
    case AttentionMethod::sla2:
      fill(p.router_q, near_identity(d, seed, 4));
      fill(p.router_k, near_identity(d, seed, 5));
      fill(p.alpha, normal({h}, seed, 6, 0.5));
      break;
    case AttentionMethod::sla:
      fill(p.proj_weight, normal({d, d}, seed, 8, 0.1 / std::sqrt(static_cast<double>(d))));
      fill(p.proj_bias, Tensor::zeros({d}));
      break;
    case AttentionMethod::vsa: fill(p.gate_c, normal(q.shape(), seed, 10, 0.5)); break;
    default: break;
  }
  return p;
}

void set_sparsity(AttentionSpec& spec, double sparsity, int64_t keys) {
  spec.topk_ratio = 1 - sparsity;
  // A query block of a window covers its own tiles and `radius` more on each side.
  const double tiles = std::ceil(static_cast<double>(keys) / static_cast<double>(spec.block_k)),
               own = static_cast<double>(spec.block_q) / static_cast<double>(spec.block_k);
  spec.radius =
      std::max<int64_t>(0, std::llround(((1 - sparsity) * tiles - std::max(own, 1.0)) / 2));
}

AttentionLayer first_sample(const AttentionLayer& l) {
  AttentionLayer one = l;
  for (Tensor* t : {&one.q, &one.k, &one.v})
    if (t->defined()) *t = t->slice(0, 0, 1);
  if (!one.v.defined()) one.v = one.k;
  if (Var& gate = one.params.gate_c; gate.defined()) gate = Var(gate.value().slice(0, 0, 1));
  return one;
}

AttentionLayers load_layers(const std::string& path) {
  const TensorFile f = load_safetensors(path);
  AttentionLayers all{.source = path, .layers = {}};
  const auto number = [&](const char* key, int64_t otherwise) {
    const auto it = f.metadata.find(key);
    return it == f.metadata.end() ? otherwise : Json::parse(it->second, path).as_int();
  };
  all.grid = number("grid", 0), all.tile = number("tile", 1);
  check<IoError>(all.grid >= 0 && all.grid < 65536 && (all.tile == 1 || all.tile == 8), path,
                 "grid must be a number of tokens, and tile 1 or 8; got {} and {}", all.grid,
                 all.tile);
  const auto read = [&](int64_t layer, const std::string& prefix) {
    const Tensor* q = f.find(prefix + "q");
    if (q == nullptr) return false;
    AttentionLayer l{.layer = layer,
                     .q = *q,
                     .k = f.at(prefix + "k"),
                     .v = f.find(prefix + "v") != nullptr ? f.at(prefix + "v") : Tensor(),
                     .spec = {},
                     .params = {}};
    check_layer(path, l);
    l.spec.method = AttentionMethod::sla2;  // unless the file says otherwise
    l.q = l.q.to(DType::f32), l.k = l.k.to(DType::f32);
    if (l.v.defined()) l.v = l.v.to(DType::f32);
    for (const Learned& p : kLearned)
      if (const Tensor* t = f.find(prefix + p.name)) l.params.*p.at = Var(t->to(DType::f32));
    const auto spec = f.metadata.find(prefix == "in." ? "attrs" : prefix + "spec");
    if (spec != f.metadata.end()) {
      try {
        l.spec = spec_of(Json::parse(spec->second, path), l.spec);
      } catch (const ValueError& e) {  // a name that is none
        fail<IoError>(path, "block {}: {}", layer, e.what());
      }
    }
    all.layers.push_back(std::move(l));
    return true;
  };
  if (const Tensor* picture = f.find("picture")) {
    check<IoError>(picture->rank() == 3 && picture->dim(0) == 3 && is_floating(picture->dtype()),
                   path, "picture {} should be (3, S, S)", *picture);
    all.picture = picture->to(DType::f32);
  }
  constexpr int64_t kMostBlocks = 1024;
  if (!read(0, "") && !read(0, "in."))
    for (int64_t i = 0; i < kMostBlocks; ++i) (void)read(i, "layers." + std::to_string(i) + ".");
  check<IoError>(!all.layers.empty(), path, "holds no tensor named q or layers.0.q");
  return all;
}

void save_layers(const std::string& path, const AttentionLayers& all) {
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> metadata{{"grid", std::to_string(all.grid)},
                                              {"tile", std::to_string(all.tile)}};
  if (all.picture.defined()) tensors.push_back({"picture", all.picture});
  for (const AttentionLayer& l : all.layers) {
    const std::string prefix = "layers." + std::to_string(l.layer) + ".";
    tensors.push_back({prefix + "q", l.q});
    tensors.push_back({prefix + "k", l.k});
    if (l.v.defined()) tensors.push_back({prefix + "v", l.v});
    for (const Learned& p : kLearned)
      if ((l.params.*p.at).defined())
        tensors.push_back({prefix + p.name, (l.params.*p.at).value()});
    metadata[prefix + "spec"] = spec_json(l.spec).dump();
  }
  save_safetensors(path, tensors, metadata);
}

}  // namespace tenun::tools
