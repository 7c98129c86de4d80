// tenun viz: pictures of attention, from a checkpoint while it draws or from a file of tensors.
#include "tenun/tools/viz.h"

#include <cmath>
#include <filesystem>

#include "tenun/core/check.h"
#include "tenun/core/io/image_file.h"
#include "tenun/tools/bench_attention.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

// Flags that say something about a method's blocks; refused where no method listens.
enum class BlockFlag { sparsity, block_q, block_k };

bool listens(AttentionMethod m, BlockFlag f) {
  using enum AttentionMethod;
  if (m == dense || m == sage || m == linear) return false;
  if (f == BlockFlag::sparsity) return has_sparsity(m);
  if (m == pixelgen_sla2) return false;  // cells of its own
  return f == BlockFlag::block_k || (m != vsa && m != vmoba && m != llsa);
}

void judge(const Common& common, const VizOptions& o) {
  const std::string command = "viz " + o.what;
  check<UsageError>(o.ckpt.empty() != o.input.empty(), command,
                    "takes one of --ckpt PATH and --in FILE");
  if (o.ckpt.empty()) {
    for (const char* f : {"config", "classes", "steps", "seed"})
      refuse_flag(common, f, "goes with --ckpt: a file holds tensors that were drawn already");
  } else {
    for (const char* f : {"grid", "tile"})
      refuse_flag(common, f, "goes with --in: the network of a checkpoint has a grid of its own");
  }
  if (o.what == "attention") {
    check<UsageError>(o.query.size() <= 16, "--query", "takes up to 16 tokens, got {}",
                      o.query.size());
  } else {
    check<UsageError>(o.query.size() <= 1, "--query", "takes one query block here, got {}",
                      o.query.size());
  }
  check<UsageError>(o.classes.size() <= 1, "--classes", "takes the class of one picture, got {}",
                    o.classes.size());
  check_folder(o.output, "-o");
  check_target(o.save, "--save");
  only_cpu(common, "pictures are drawn");
  if (!o.method.empty()) {
    try {
      (void)from_name<AttentionMethod>(o.method);
    } catch (const ValueError& e) {
      fail<UsageError>("--method", "{}", e.what());
    }
  }
}

void choose_layers(const VizOptions& o, AttentionLayers& all) {
  if (o.layer < 0) return;
  std::erase_if(all.layers, [&](const AttentionLayer& l) { return l.layer != o.layer; });
  check<UsageError>(!all.layers.empty(), "--layer", "{} has no block {}", all.source, o.layer);
}

void apply_flags(const Common& common, const VizOptions& o, AttentionLayers& all) {
  const auto set = [&](const char* flag, BlockFlag f, auto&& change) {
    if (!common.given.contains(flag)) return;
    bool heard = false;
    for (AttentionLayer& l : all.layers)
      if (listens(l.spec.method, f)) change(l), heard = true;
    check<UsageError>(heard, std::string("--") + flag, "method {} has no such setting",
                      name(all.layers[0].spec.method));
  };
  if (!o.method.empty())
    for (AttentionLayer& l : all.layers) l.spec.method = from_name<AttentionMethod>(o.method);
  set("block-q", BlockFlag::block_q, [&](AttentionLayer& l) { l.spec.block_q = o.block_q; });
  set("block-k", BlockFlag::block_k, [&](AttentionLayer& l) { l.spec.block_k = o.block_k; });
  set("sparsity", BlockFlag::sparsity,
      [&](AttentionLayer& l) { set_sparsity(l.spec, o.sparsity, l.k.dim(2)); });
  if (o.grid > 0) {
    all.grid = o.grid;
    for (const AttentionLayer& l : all.layers)
      check<UsageError>(
          o.grid <= 65536 && o.grid * o.grid <= l.k.dim(2) && l.q.dim(2) == l.k.dim(2), "--grid",
          "block {} has {} queries and {} keys, not those of an image of {} x {} tokens", l.layer,
          l.q.dim(2), l.k.dim(2), o.grid, o.grid);
  }
  if (o.tile > 0) {
    all.tile = o.tile;
    check<UsageError>(all.grid > 0, "--tile",
                      "needs --grid: the file does not say that its tokens "
                      "are an image");
  }
  check<UsageError>(all.grid % all.tile == 0, "--tile", "a grid of {} tokens has no tiles of {}",
                    all.grid, all.tile);
}

}  // namespace

std::vector<double> exact_shares(const AttentionLayer& l) {
  std::vector<double> shares;
  const AttentionMethod m = l.spec.method;
  const bool mixed = m == AttentionMethod::sla2 || m == AttentionMethod::pixelgen_sla2;
  if (!mixed || !l.params.alpha.defined()) return shares;
  const auto logits = l.params.alpha.value().values<double>();
  const auto heads = static_cast<size_t>(l.q.dim(1));
  const size_t each = logits.size() / heads;
  for (size_t h = 0; h < heads; ++h) {
    double sum = 0;
    for (size_t i = 0; i < each; ++i) sum += 1 / (1 + std::exp(-logits[h * each + i]));
    shares.push_back(sum / static_cast<double>(each));
  }
  return shares;
}

int viz_command(const Common& common, const VizOptions& o) {
  check<UsageError>(o.what == "routing" || o.what == "attention", "viz", "unknown picture '{}'{}",
                    o.what, did_you_mean(o.what, {"routing", "attention"}));
  judge(common, o);
  AttentionLayers all =
      o.ckpt.empty()
          ? load_layers(o.input)
          : capture_layers({.ckpt = o.ckpt,
                            .config = o.config,
                            .classes = o.classes,
                            .steps = o.steps,
                            .seed = static_cast<uint64_t>(std::max<int64_t>(common.seed, 0))});
  AttentionLayers drawn = all;
  choose_layers(o, drawn);
  apply_flags(common, o, drawn);
  const Drawing d = o.what == "routing" ? draw_routing(o, drawn) : draw_attention(o, drawn);
  std::filesystem::create_directories(o.output);
  for (const NamedImage& i : d.images) write_png(o.output + "/" + i.file, i.image);
  if (!o.save.empty()) save_layers(o.save, all);
  fmt::print("{}", d.text);
  return 0;
}

}  // namespace tenun::tools
