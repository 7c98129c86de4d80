// tenun viz routing: which key blocks every query block attends to exactly.
//   DIR/block_NN_map.png      for every head: query blocks down, key blocks across
//   DIR/block_NN_tokens.png   for images: what one query block selects, on the token grid
// Captions carry the weight of the exact branch (sigmoid of alpha) and the measured sparsity.
#include <cmath>
#include <filesystem>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/core/io/image_file.h"
#include "tenun/tools/attention_inputs.h"
#include "tenun/tools/bench_attention.h"
#include "tenun/tools/commands.h"
#include "tenun/tools/panels.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

constexpr Colour kQuery{225, 110, 20}, kOutside{235, 235, 235};

// The choice of one block's attention for the first sample.
struct Routing {
  int64_t heads = 0, rows = 0, columns = 0, tokens_q = 0, tokens_k = 0;
  std::vector<double> weight;  // heads x rows x columns: 0 or 1, or soft
  std::vector<double> exact;   // sigmoid(alpha) of each head; empty: the method has none
  [[nodiscard]] double at(int64_t h, int64_t r, int64_t c) const {
    return weight[static_cast<size_t>((h * rows + r) * columns + c)];
  }
  [[nodiscard]] double sparsity(int64_t h) const {
    double sum = 0;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) sum += at(h, r, c);
    return 1 - sum / static_cast<double>(rows * columns);
  }
};

// Empty where the method has no choice to show.
Routing route(const AttentionLayer& l) {
  const NoGrad guard;
  AttentionSpec spec = l.spec;
  spec.quant = {};
  const Tensor q = l.q.slice(0, 0, 1), k = l.k.slice(0, 0, 1),
               v = l.v.defined() ? l.v.slice(0, 0, 1) : k;
  const AttentionParams params = fill_params(spec, q, l.params, 1);
  const Tensor mask = attention(q, k, v, spec, params).mask;
  Routing r{.heads = q.dim(1), .weight = {}, .exact = {}};
  if (!mask.defined()) return r;
  r.rows = mask.dim(2), r.columns = mask.dim(3);
  r.tokens_q = q.dim(2), r.tokens_k = k.dim(2);
  r.weight = mask.values<double>();
  if (l.params.alpha.defined()) {
    const auto logits = l.params.alpha.value().values<double>();
    const size_t each = logits.size() / static_cast<size_t>(r.heads);
    for (size_t h = 0; h < static_cast<size_t>(r.heads); ++h) {
      double sum = 0;
      for (size_t i = 0; i < each; ++i) sum += 1 / (1 + std::exp(-logits[h * each + i]));
      r.exact.push_back(sum / static_cast<double>(each));
    }
  }
  return r;
}

std::string caption(const Routing& r, int64_t head) {
  std::string s = fmt::format("head {}: {:.1f} % sparse", head, 100 * r.sparsity(head));
  if (!r.exact.empty())
    s += fmt::format("\nexact branch {:.3f}", r.exact[static_cast<size_t>(head)]);
  return s;
}

Image map_sheet(const Routing& r, const std::string& title, const std::vector<std::string>& lines) {
  std::vector<Panel> panels;
  for (int64_t h = 0; h < r.heads; ++h) {
    Panel p{.columns = r.columns,
            .rows = r.rows,
            .cells = {},
            .caption = caption(r, h),
            .across = fmt::format("{} key blocks", r.columns),
            .down = "query"};
    for (int64_t i = 0; i < r.rows; ++i)
      for (int64_t j = 0; j < r.columns; ++j) p.cells.push_back(shade(r.at(h, i, j)));
    panels.push_back(std::move(p));
  }
  return panel_sheet(title, lines, panels);
}

// How the tokens of a block lie in the image.
struct Grid {
  int64_t side, tile, prefix;
  // Cell of a token; -1: it is none of the image.
  [[nodiscard]] int64_t cell(int64_t token) const {
    const int64_t t = token - prefix;
    if (t < 0) return -1;
    const int64_t area = tile * tile, tiles = side / tile, at = t / area, inside = t % area;
    return (at / tiles * tile + inside / tile) * side + at % tiles * tile + inside % tile;
  }
};

Image token_sheet(const Routing& r, const Grid& g, int64_t row, const std::string& title,
                  const std::vector<std::string>& lines) {
  // Blocks are cut in equal parts; what the method calls its block follows from their number.
  const int64_t block_q = (r.tokens_q + r.rows - 1) / r.rows,
                block_k = (r.tokens_k + r.columns - 1) / r.columns;
  std::vector<Panel> panels;
  for (int64_t h = 0; h < r.heads; ++h) {
    Panel p{.columns = g.side,
            .rows = g.side,
            .cells = std::vector<Colour>(static_cast<size_t>(g.side * g.side), kOutside),
            .caption = caption(r, h),
            .across = fmt::format("{0} x {0} tokens", g.side),
            .down = {}};
    for (int64_t t = 0; t < r.tokens_k; ++t)
      if (const int64_t cell = g.cell(t); cell >= 0)
        p.cells[static_cast<size_t>(cell)] = shade(r.at(h, row, t / block_k));
    for (int64_t t = row * block_q; t < std::min((row + 1) * block_q, r.tokens_q); ++t)
      if (const int64_t cell = g.cell(t); cell >= 0) {
        Colour& c = p.cells[static_cast<size_t>(cell)];  // selected itself: darker
        c = c == shade(0) ? kQuery : Colour{150, 60, 10};
      }
    panels.push_back(std::move(p));
  }
  return panel_sheet(title, lines, panels);
}

void apply_flags(const VizOptions& o, AttentionLayers& all) {
  for (AttentionLayer& l : all.layers) {
    if (!o.method.empty()) {
      try {
        l.spec.method = from_name<AttentionMethod>(o.method);
      } catch (const ValueError& e) {
        fail<UsageError>("--method", "{}", e.what());
      }
    }
    if (o.block_q > 0) l.spec.block_q = o.block_q;
    if (o.block_k > 0) l.spec.block_k = o.block_k;
    if (o.sparsity >= 0) set_sparsity(l.spec, o.sparsity, l.k.dim(2));
  }
  if (o.grid > 0) all.grid = o.grid;
  if (o.tile > 0) all.tile = o.tile;
}

void draw_layer(const VizOptions& o, const AttentionLayers& all, const AttentionLayer& l) {
  const Routing r = route(l);
  const std::string method(name(l.spec.method));
  if (r.rows == 0) {
    fmt::print("block {:>2}  {}: no choice of blocks to draw\n", l.layer, method);
    return;
  }
  double sum = 0;
  for (int64_t h = 0; h < r.heads; ++h) sum += r.sparsity(h) / static_cast<double>(r.heads);
  const std::string title = fmt::format("block {}: {}", l.layer, method);
  const std::string line = fmt::format(
      "{} x {} blocks of {} queries x {} keys, {:.1f} % sparse over all heads", r.rows, r.columns,
      (r.tokens_q + r.rows - 1) / r.rows, (r.tokens_k + r.columns - 1) / r.columns, 100 * sum);
  const std::string map = fmt::format("{}/block_{:02}_map.png", o.output, l.layer);
  std::vector<std::string> lines{line, "blue: exact attention; white: none, or the linear branch"};
  const int64_t context = r.tokens_k - all.grid * all.grid;
  if (all.grid > 0 && context > 0)
    lines.push_back(fmt::format("the first {} tokens are no image tokens", context));
  write_png(map, map_sheet(r, title, lines));
  fmt::print("block {:>2}  {}: {}\n", l.layer, method, line);
  for (int64_t h = 0; h < r.heads; ++h)
    fmt::print("  head {:>2}  sparsity {:.4f}{}\n", h, r.sparsity(h),
               r.exact.empty()
                   ? ""
                   : fmt::format("  exact branch {:.4f}", r.exact[static_cast<size_t>(h)]));
  const int64_t image_tokens = all.grid * all.grid;
  if (all.grid == 0 || image_tokens > r.tokens_q || r.tokens_q != r.tokens_k) return;
  check<UsageError>(all.grid % all.tile == 0, "--tile", "a grid of {} tokens has no tiles of {}",
                    all.grid, all.tile);
  const Grid grid{all.grid, all.tile, r.tokens_q - image_tokens};
  check<UsageError>(o.query < r.rows, "--query", "there are query blocks 0 to {}, not {}",
                    r.rows - 1, o.query);
  const int64_t row = o.query >= 0 ? o.query : r.rows / 2;
  write_png(fmt::format("{}/block_{:02}_tokens.png", o.output, l.layer),
            token_sheet(r, grid, row, title,
                        {fmt::format("what query block {} of {} selects", row, r.rows),
                         "orange: its tokens (brown: selected, too); blue: keys with exact "
                         "attention"}));
}

}  // namespace

int viz_command(const Common& common, const VizOptions& o) {
  check<UsageError>(o.what == "routing", "viz", "unknown picture '{}'{}", o.what,
                    did_you_mean(o.what, {"routing"}));
  check<UsageError>(o.ckpt.empty() != o.input.empty(), "viz routing",
                    "takes one of --ckpt PATH and --in FILE");
  check<UsageError>(!o.output.empty(), "viz routing", "needs -o DIR");
  check<UsageError>(o.sparsity <= 1, "--sparsity", "is a share in [0, 1], got {}", o.sparsity);
  AttentionLayers all =
      o.ckpt.empty()
          ? load_layers(o.input)
          : capture_layers({.ckpt = o.ckpt,
                            .config = o.config,
                            .classes = o.classes,
                            .steps = o.steps,
                            .seed = static_cast<uint64_t>(std::max<int64_t>(common.seed, 0))});
  apply_flags(o, all);
  std::filesystem::create_directories(o.output);
  bool any = false;
  for (const AttentionLayer& l : all.layers)
    if (o.layer < 0 || l.layer == o.layer) draw_layer(o, all, l), any = true;
  check<UsageError>(any, "--layer", "{} has no block {}", all.source, o.layer);
  if (!o.save.empty()) save_layers(o.save, all);
  return 0;
}

}  // namespace tenun::tools
