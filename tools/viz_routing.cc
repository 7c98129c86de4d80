// tenun viz routing: which key blocks every query block attends to exactly.
//   block_NN_map.png      for every head: query blocks down, key blocks across
//   block_NN_tokens.png   for images: what one query block selects, on the token grid
// Captions carry the weight of the exact branch (sigmoid of alpha) and the measured sparsity.
#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/tools/viz.h"

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
Routing route(const AttentionLayer& all) {
  const NoGrad guard;
  const AttentionLayer l = first_sample(all);
  AttentionSpec spec = l.spec;
  spec.quant = {};
  const AttentionParams params = fill_params(spec, l.q, l.params, 1);
  const Tensor mask = attention(l.q, l.k, l.v, spec, params).mask;
  Routing r{.heads = l.q.dim(1), .weight = {}, .exact = {}};
  if (!mask.defined()) return r;
  r.rows = mask.dim(2), r.columns = mask.dim(3);
  r.tokens_q = l.q.dim(2), r.tokens_k = l.k.dim(2);
  r.weight = mask.values<double>();
  r.exact = exact_shares(l);
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

Image token_sheet(const Routing& r, const TokenGrid& g, int64_t row, const std::string& title,
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

void draw_layer(const VizOptions& o, const AttentionLayers& all, const AttentionLayer& l,
                Drawing& d) {
  const Routing r = route(l);
  const std::string method(name(l.spec.method));
  if (r.rows == 0) {
    d.text += fmt::format("block {:>2}  {}: no choice of blocks to draw\n", l.layer, method);
    return;
  }
  double sum = 0;
  for (int64_t h = 0; h < r.heads; ++h) sum += r.sparsity(h) / static_cast<double>(r.heads);
  const std::string title = fmt::format("block {}: {}", l.layer, method);
  const std::string line = fmt::format(
      "{} x {} blocks of {} queries x {} keys, {:.1f} % sparse over all heads", r.rows, r.columns,
      (r.tokens_q + r.rows - 1) / r.rows, (r.tokens_k + r.columns - 1) / r.columns, 100 * sum);
  const TokenGrid grid = token_grid(all, l);
  std::vector<std::string> lines{line, "blue: exact attention; white: none, or the linear branch"};
  if (grid.prefix > 0)
    lines.push_back(fmt::format("the first {} tokens are no image tokens", grid.prefix));
  d.images.push_back({fmt::format("block_{:02}_map.png", l.layer), map_sheet(r, title, lines)});
  d.text += fmt::format("block {:>2}  {}: {}\n", l.layer, method, line);
  for (int64_t h = 0; h < r.heads; ++h)
    d.text += fmt::format(
        "  head {:>2}  sparsity {:.4f}{}\n", h, r.sparsity(h),
        r.exact.empty() ? ""
                        : fmt::format("  exact branch {:.4f}", r.exact[static_cast<size_t>(h)]));
  if (grid.side == 0) return;
  const int64_t row = o.query.empty() ? r.rows / 2 : o.query[0];
  check<UsageError>(row < r.rows, "--query", "there are query blocks 0 to {}, not {}", r.rows - 1,
                    row);
  d.images.push_back(
      {fmt::format("block_{:02}_tokens.png", l.layer),
       token_sheet(r, grid, row, title,
                   {fmt::format("what query block {} of {} selects", row, r.rows),
                    "orange: its tokens (brown: selected, too); blue: keys with exact "
                    "attention"})});
}

}  // namespace

Drawing draw_routing(const VizOptions& o, const AttentionLayers& all) {
  Drawing d;
  bool on_grid = false;
  for (const AttentionLayer& l : all.layers) {
    draw_layer(o, all, l, d);
    on_grid = on_grid || token_grid(all, l).side > 0;
  }
  check<UsageError>(!d.images.empty(), "viz routing",
                    "method {} has no choice of blocks to draw (`viz attention` draws any method)",
                    name(all.layers[0].spec.method));
  check<UsageError>(o.query.empty() || on_grid, "--query",
                    "needs a grid of image tokens to draw on; --grid N says how many tokens a row "
                    "has");
  return d;
}

}  // namespace tenun::tools
