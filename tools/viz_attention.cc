// tenun viz attention: what chosen query tokens attend to, block_NN_attention.png for every block.
// Of an image: one row of pictures for each query, all heads together first, then every head; the
// heat lies over the picture that was drawn. Else: one panel for each query, a line a head.
#include <algorithm>
#include <cmath>

#include "tenun/core/check.h"
#include "tenun/tools/attention_rows.h"
#include "tenun/tools/viz.h"
#include "tenun/train/data/transforms.h"

namespace tenun::tools {
namespace {

constexpr int kPicture = 132;  // about the pixels of a side
constexpr Colour kMark{90, 230, 255};

// One query's weights for all keys.
struct Row {
  std::vector<double> p;
  [[nodiscard]] double sum() const {
    double s = 0;
    for (const double x : p) s += x;
    return s;
  }
  // exp of the entropy: the number of keys that equal shares would have.
  [[nodiscard]] double spread() const {
    const double all = sum();
    double entropy = 0;
    for (const double x : p)
      if (x > 0 && all > 0) entropy -= x / all * std::log(x / all);
    return std::exp(entropy);
  }
};

struct Maps {
  std::vector<int64_t> tokens;         // of the queries
  std::vector<std::vector<Row>> rows;  // [query][head]
  [[nodiscard]] Row mean(size_t query) const {
    const std::vector<Row>& heads = rows[query];
    Row m{std::vector<double>(heads[0].p.size())};
    for (const Row& r : heads)
      for (size_t j = 0; j < m.p.size(); ++j) m.p[j] += r.p[j] / static_cast<double>(heads.size());
    return m;
  }
};

Maps maps_of(const AttentionLayer& l, std::vector<int64_t> tokens) {
  const Tensor all = attention_rows(l, tokens);
  Maps m{std::move(tokens), {}};
  for (size_t i = 0; i < m.tokens.size(); ++i) {
    m.rows.emplace_back();
    for (int64_t h = 0; h < all.dim(0); ++h)
      m.rows.back().push_back(
          {all.select(0, h).select(0, static_cast<int64_t>(i)).values<double>()});
  }
  return m;
}

// Four tokens around the middle of an image, or of the sequence.
std::vector<int64_t> usual_queries(const TokenGrid& g, int64_t n) {
  std::vector<int64_t> list;
  if (g.side == 0) {
    for (int64_t i = 1; i <= 4; ++i) list.push_back(n * i / 5);
  } else {
    const int64_t low = g.side / 4, high = g.side * 3 / 4;
    for (const auto& [row, column] : {std::pair{low, low}, {low, high}, {high, low}, {high, high}})
      list.push_back(row * g.side + column);
  }
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

std::string caption(const std::string& what, const Row& r, int64_t prefix) {
  double context = 0;
  for (size_t j = 0; j < static_cast<size_t>(prefix); ++j) context += r.p[j];
  std::string s = fmt::format("{}\nmost {:.2f} %\nspread {:.1f}", what,
                              100 * *std::max_element(r.p.begin(), r.p.end()), r.spread());
  if (prefix > 0) s += fmt::format("\nclass {:.1f} %", 100 * context);
  return s;
}

// Panels of an image's tokens: `zoom` pixels a side of each, over the picture.
class ImagePanels {
 public:
  ImagePanels(const TokenGrid& grid, const Tensor& picture)
      : grid_(grid),
        zoom_(std::max<int64_t>(1, kPicture / grid.side)),
        side_(static_cast<int>(grid.side * zoom_)),
        picture_(side_, side_) {
    if (picture.defined())
      picture_ = resize_image(tensor_to_image(picture), side_, side_, Filter::bilinear);
    else
      std::fill(picture_.rgb.begin(), picture_.rgb.end(), uint8_t{128});
  }

  [[nodiscard]] Panel plain(int64_t token, const std::string& text) const {
    Panel p = empty(text);
    for (int y = 0; y < side_; ++y)
      for (int x = 0; x < side_; ++x) {
        const uint8_t* c = picture_.at(x, y);
        p.cells.push_back({c[0], c[1], c[2]});
      }
    mark(p, token);
    return p;
  }

  // The heat over a dark grey copy of the picture. Roots of the shares: a few keys outshine all.
  [[nodiscard]] Panel hot(int64_t token, const Row& r, const std::string& text) const {
    Panel p = empty(caption(text, r, grid_.prefix));
    std::vector<double> cells(static_cast<size_t>(grid_.side * grid_.side));
    double most = 0;
    for (size_t j = 0; j < r.p.size(); ++j)
      if (const int64_t cell = grid_.cell(static_cast<int64_t>(j)); cell >= 0) {
        cells[static_cast<size_t>(cell)] = r.p[j];
        most = std::max(most, r.p[j]);
      }
    for (int y = 0; y < side_; ++y)
      for (int x = 0; x < side_; ++x) {
        const double share = cells[static_cast<size_t>(y / zoom_ * grid_.side + x / zoom_)];
        const double w = most > 0 ? std::sqrt(std::max(0.0, share / most)) : 0;
        const uint8_t* c = picture_.at(x, y);
        const double grey = 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2];
        const double cover = share > 0 ? 0.55 + 0.45 * w : 0.45;
        Colour mixed{};
        for (size_t k = 0; k < 3; ++k)
          mixed[k] = static_cast<uint8_t>(std::lround(cover * heat(w)[k] + (1 - cover) * grey));
        p.cells.push_back(mixed);
      }
    mark(p, token);
    return p;
  }

 private:
  [[nodiscard]] Panel empty(const std::string& text) const {
    return {.columns = side_, .rows = side_, .cells = {}, .caption = text, .side = side_};
  }
  void mark(Panel& p, int64_t token) const {
    const int64_t cell = grid_.cell(token);
    if (cell < 0) return;
    const int64_t top = cell / grid_.side * zoom_, left = cell % grid_.side * zoom_;
    for (int64_t y = top - 1; y <= top + zoom_; ++y)
      for (int64_t x = left - 1; x <= left + zoom_; ++x) {
        const bool frame = y < top || y == top + zoom_ || x < left || x == left + zoom_;
        if (frame && x >= 0 && y >= 0 && x < side_ && y < side_)
          p.cells[static_cast<size_t>(y * side_ + x)] = kMark;
      }
  }
  TokenGrid grid_;
  int64_t zoom_;
  int side_;
  Image picture_;
};

std::string place(const TokenGrid& g, int64_t token) {
  const int64_t cell = g.side > 0 ? g.cell(token) : -1;
  if (cell < 0) return fmt::format("token {}", token);
  return fmt::format("token {} (row {}, column {})", cell, cell / g.side, cell % g.side);
}

std::vector<Panel> image_panels(const Maps& m, const TokenGrid& g, const Tensor& picture) {
  const ImagePanels draw(g, picture);
  std::vector<Panel> panels;
  for (size_t i = 0; i < m.tokens.size(); ++i) {
    const int64_t cell = g.cell(m.tokens[i]);
    panels.push_back(draw.plain(m.tokens[i], fmt::format("query {}\nrow {}\ncolumn {}", cell,
                                                         cell / g.side, cell % g.side)));
    panels.push_back(draw.hot(m.tokens[i], m.mean(i), "all heads"));
    for (size_t h = 0; h < m.rows[i].size(); ++h)
      panels.push_back(draw.hot(m.tokens[i], m.rows[i][h], fmt::format("head {}", h)));
  }
  return panels;
}

std::vector<Panel> line_panels(const Maps& m) {
  std::vector<Panel> panels;
  for (size_t i = 0; i < m.tokens.size(); ++i) {
    const auto keys = static_cast<int64_t>(m.rows[i][0].p.size());
    const int64_t high = std::max<int64_t>(1, keys / 48);  // cells of a head's line
    Panel p{.columns = keys,
            .rows = 0,
            .cells = {},
            .caption = fmt::format("query {}: a line a head, from head 0", m.tokens[i]),
            .across = fmt::format("{} keys", keys),
            .down = {},
            .side = 768};
    for (const Row& r : m.rows[i]) {
      const double most = *std::max_element(r.p.begin(), r.p.end());
      for (int64_t y = 0; y < high; ++y, ++p.rows)
        for (const double x : r.p)
          p.cells.push_back(heat(most > 0 ? std::sqrt(std::max(0.0, x / most)) : 0));
    }
    panels.push_back(std::move(p));
  }
  return panels;
}

void print_rows(Drawing& d, const Maps& m, const TokenGrid& g) {
  for (size_t i = 0; i < m.tokens.size(); ++i) {
    d.text += fmt::format("  {}\n", place(g, m.tokens[i]));
    for (size_t h = 0; h < m.rows[i].size(); ++h) {
      const Row& r = m.rows[i][h];
      const auto most = std::max_element(r.p.begin(), r.p.end());
      d.text += fmt::format("    head {:>2}  most {:.4f} to {}, spread {:.1f} of {} keys\n", h,
                            *most, place(g, most - r.p.begin()), r.spread(), r.p.size());
    }
  }
}

}  // namespace

Drawing draw_attention(const VizOptions& o, const AttentionLayers& all) {
  Drawing d;
  for (const AttentionLayer& l : all.layers) {
    const TokenGrid grid = token_grid(all, l);
    const int64_t n = l.q.dim(2), most = grid.side > 0 ? grid.side * grid.side : n;
    std::vector<int64_t> tokens = o.query.empty() ? usual_queries(grid, n) : o.query;
    for (int64_t& t : tokens) {
      check<UsageError>(
          t<most, "--query", "block {} has {}tokens 0 to {}, not {}", l.layer, grid.side> 0
              ? "image "
              : "",
          most - 1, t);
      if (grid.side > 0) t = grid.token(t);
    }
    const Maps maps = maps_of(l, std::move(tokens));
    const std::string method(name(l.spec.method));
    std::vector<std::string> lines;
    if (l.spec.method == AttentionMethod::linear)
      lines.emplace_back("weights of linear attention");
    else
      lines.emplace_back(l.spec.method == AttentionMethod::dense
                             ? "softmax probabilities"
                             : "probabilities of the exact part; grey: keys that it leaves out");
    if (const auto exact = exact_shares(l); !exact.empty()) {
      lines.back() += "; its weight in the mix by head:";
      for (const double e : exact) lines.back() += fmt::format(" {:.2f}", e);
    }
    if (grid.side > 0) {
      lines.emplace_back(
          "most: the largest share of a key; spread: e^entropy, the keys that equal shares had");
      lines.push_back(fmt::format(
          "framed: the query{}",
          grid.prefix > 0 ? fmt::format("; class: what the {} in-context tokens get", grid.prefix)
                          : ""));
    }
    const int heads = static_cast<int>(l.q.dim(1));
    d.images.push_back(
        {fmt::format("block_{:02}_attention.png", l.layer),
         panel_sheet(fmt::format("block {}: {}", l.layer, method), lines,
                     grid.side > 0 ? image_panels(maps, grid, all.picture) : line_panels(maps),
                     grid.side > 0 ? heads + 2 : 1,
                     {heat, "share 0", "the largest (half way: a quarter of it)"})});
    d.text += fmt::format("block {:>2}  {}\n", l.layer, method);
    print_rows(d, maps, grid);
  }
  return d;
}

}  // namespace tenun::tools
