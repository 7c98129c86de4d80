// tenun bench attention: methods x tokens x channels x sparsity x dtype x direction.
#include "tenun/tools/bench_attention.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "tenun/core/check.h"
#include "tenun/core/io/atomic_file.h"
#include "tenun/core/log.h"
#include "tenun/tools/attention_inputs.h"
#include "tenun/tools/bench_fit.h"
#include "tenun/tools/flags.h"
#include "tenun/tools/svg_plot.h"
#include "tenun/tools/table.h"

namespace tenun::tools {
namespace {

// What a curve over the lengths has in common.
struct Curve {
  std::string method, dtype;
  double sparsity = 0;  // as asked for, or
  int64_t topk = 0;     // key blocks of a row, whatever the length
  int64_t dim = 0, batch = 1;
  Passes direction = Passes::forward;
  auto operator<=>(const Curve&) const = default;
};
// A share of blocks to leave out, which may stand for a number of blocks to keep.
struct Wanted {
  double sparsity = 0;
  int64_t topk = 0;
};
using Curves = std::map<Curve, std::vector<Point>>;

const char* text(Passes d) { return d == Passes::both ? "fwd+bwd" : "fwd"; }

std::string label(const Curve& c) {
  std::string s = c.method;
  if (c.sparsity > 0) s += fmt::format(" {:g} %", 100 * c.sparsity);
  if (c.topk > 0) s += fmt::format(" k={}", c.topk);
  if (c.dim != 64) s += fmt::format(" D={}", c.dim);
  if (c.batch != 1) s += fmt::format(" B={}", c.batch);
  return s + " " + c.dtype;
}

std::vector<AttentionMethod> methods_of(const BenchOptions& o) {
  const std::vector<AttentionMethod> available = available_attention_methods();
  std::vector<std::string> names;
  std::string known;
  for (const AttentionMethod m : available) {
    names.emplace_back(name(m));
    known += " " + names.back();
  }
  if (o.methods.size() == 1 && o.methods[0] == "all") {
    std::vector<AttentionMethod> all = available;
    std::erase(all, AttentionMethod::automatic);  // one of the others
    return all;
  }
  std::vector<AttentionMethod> list;
  for (const std::string& m : o.methods) {
    check<UsageError>(std::find(names.begin(), names.end(), m) != names.end(), "--methods",
                      "unknown method '{}'{}; there are{} and all", m, did_you_mean(m, names),
                      known);
    list.push_back(from_name<AttentionMethod>(m));
  }
  if (list.empty()) list = {AttentionMethod::dense, AttentionMethod::sla2};
  return list;
}

std::vector<std::string> words(const std::string& text) {
  std::vector<std::string> list(1);
  for (const char c : text)
    if (c == ',')
      list.emplace_back();
    else
      list.back() += c;
  return list;
}

std::vector<Passes> directions_of(const BenchOptions& o) {
  std::vector<Passes> list;
  for (const std::string& d : o.directions) {
    check<UsageError>(d == "fwd" || d == "fwd+bwd", "--direction",
                      "takes fwd and fwd+bwd, got '{}'", d);
    list.push_back(d == "fwd" ? Passes::forward : Passes::both);
  }
  return list.empty() ? std::vector<Passes>{Passes::forward, Passes::both} : list;
}

LowBit low_bit(const std::string& text) {
  try {
    return from_name<LowBit>(text);
  } catch (const ValueError& e) {
    fail<UsageError>("--pv", "{}", e.what());
  }
}

class AttentionBench {
 public:
  AttentionBench(const Common& common, const BenchOptions& o, Report& report)
      : o_(o),
        report_(report),
        device_(device_flag(common)),
        methods_(methods_of(o)),
        directions_(directions_of(o)),
        dtypes_(words(o.dtype)),
        pv_(low_bit(o.pv)) {
    for (const double s : o.sparsity)
      check<UsageError>(s >= 0 && s <= 1, "--sparsity", "is a share in [0, 1], got {}", s);
    // What none of the cases would read.
    if (std::find(dtypes_.begin(), dtypes_.end(), "int8") == dtypes_.end())
      refuse_flag(common, "pv", "goes with --dtype int8");
    if (std::none_of(methods_.begin(), methods_.end(), has_sparsity))
      for (const char* f : {"sparsity", "topk"})
        refuse_flag(common, f, "no method of --methods leaves out blocks");
    for (const std::string& d : dtypes_)
      check<UsageError>(d == "f32" || d == "bf16" || d == "f16" || d == "f64" || d == "int8",
                        "--dtype", "takes f32, bf16, f16, f64 and int8, got '{}'", d);
  }

  // All cases on one set of operands.
  void measure(const AttentionLayer& layer, uint64_t seed, bool given) {
    for (const AttentionMethod m : methods_) {
      for (const Wanted& w : wanted(m, layer.k.dim(2), given ? layer.spec.block_k : o_.block_k))
        for (const std::string& d : dtypes_) {
          const std::string what = fmt::format("{} {} at {} tokens", name(m), d, layer.q.dim(2));
          if (d == "int8" && !has_low_bit(m)) {
            logging::info("{}: no low-bit form, passed over", what);
            continue;
          }
          if (m == AttentionMethod::sage && d != "int8") continue;  // it is int8
          AttentionCase c{.spec = layer.spec,
                          .params = {},
                          .q = layer.q,
                          .k = layer.k,
                          .v = layer.v,
                          .dtype = d == "int8" ? DType::f32 : dtype_from_name(d),
                          .device = device_};
          c.spec.method = m;
          if (!given) c.spec.block_q = o_.block_q, c.spec.block_k = o_.block_k;
          if (has_sparsity(m)) set_sparsity(c.spec, w.sparsity, c.k.dim(2));
          c.spec.mode = RouterMode::hard;
          c.spec.quant = d == "int8" ? Quant{LowBit::int8, pv_} : Quant{};
          try {
            c.params = fill_params(c.spec, c.q, layer.params, seed);
            rows(c, d, w);
          } catch (const UsageError&) {
            throw;
          } catch (const ConfigError&) {
            throw;
          } catch (const Error& e) {  // a method that this shape does not suit: the others go on
            logging::warn("{}: {}", what, e.what());
          }
        }
    }
  }

  // About the most that a case takes: q, k, v, o, their copies in the dtype and their gradients;
  // scores and mask of all pairs of blocks.
  [[nodiscard]] double bytes(int64_t batch, int64_t n, int64_t d) const {
    const auto heads = static_cast<double>(batch) * static_cast<double>(o_.heads),
               tokens = static_cast<double>(n);
    const double rows = tokens / static_cast<double>(o_.block_q),
                 columns = tokens / static_cast<double>(o_.block_k);
    const bool sparse = std::any_of(methods_.begin(), methods_.end(), has_sparsity),
               both = std::find(directions_.begin(), directions_.end(), Passes::both) !=
                      directions_.end();
    return heads * (tokens * static_cast<double>(d) * 4 * (both ? 12 : 7) +
                    (sparse ? rows * columns * 5 : 0));
  }

  void conclude() const {
    check(!curves_.empty(), "bench attention", "nothing could be measured; the warnings say why");
    for (const auto& [curve, p] : curves_) {
      if (p.size() < 2) continue;
      std::string line = fmt::format("{:<28} {:<8} grows as N^{:.2f}", label(curve),
                                     text(curve.direction), growth_exponent(p));
      if (const auto dense = rival(curve)) line += "; " + compared(break_even(p, *dense));
      fmt::print("{}\n", line);
    }
  }

  void draw(const std::string& path, const std::string& title) const {
    std::vector<SvgPanel> panels;
    for (const Passes d : directions_) {
      SvgPanel p{.title = d == Passes::both ? "forward and backward" : "forward",
                 .x_label = "tokens",
                 .y_label = "ms (least)",
                 .x_ticks = lengths()};
      for (const auto& [curve, points] : curves_) {
        if (curve.direction != d) continue;
        SvgSeries s{label(curve), {}, {}, curve.method == "dense"};
        for (const Point& c : points) s.x.push_back(c.n), s.y.push_back(c.ms);
        const auto dense = rival(curve);
        const BreakEven b = dense ? break_even(points, *dense) : BreakEven{};
        if (b.faster == Faster::beyond)
          p.marks.push_back({b.n, fmt::format("break-even {:.0f}", b.n), p.series.size()});
        p.series.push_back(std::move(s));
      }
      panels.push_back(std::move(p));
    }
    write_file(path, svg_plot(title, panels));
  }

 private:
  std::vector<Wanted> wanted(AttentionMethod m, int64_t keys, int64_t block) const {
    if (!has_sparsity(m)) return {{}};
    std::vector<Wanted> list;
    for (const double s : o_.sparsity) list.push_back({s, 0});
    const auto blocks = static_cast<double>((keys + block - 1) / block);
    for (const int64_t k : o_.topk)
      list.push_back({std::max(0.0, 1 - static_cast<double>(k) / blocks), k});
    if (list.empty()) list.push_back({0.97, 0});
    return list;
  }
  std::vector<double> lengths() const {
    std::set<double> n;
    for (const auto& [curve, points] : curves_)
      for (const Point& p : points) n.insert(p.n);
    return {n.begin(), n.end()};
  }
  static std::string compared(const BreakEven& b) {
    switch (b.faster) {
      case Faster::always:
        return fmt::format("faster than dense at every length, from {:.0f}", b.n);
      case Faster::beyond: return fmt::format("faster than dense from N = {:.0f}", b.n);
      case Faster::never: return "not faster than dense at the largest length";
      default: return "no dense run to compare with";
    }
  }
  // Dense attention in the same dtype; int8 is compared with f32.
  std::optional<std::vector<Point>> rival(const Curve& c) const {
    if (c.method == "dense") return {};
    const auto it = curves_.find(
        {"dense", c.dtype == "int8" ? "f32" : c.dtype, 0, 0, c.dim, c.batch, c.direction});
    if (it == curves_.end()) return {};
    return it->second;
  }

  void rows(const AttentionCase& c, const std::string& dtype, const Wanted& w) {
    const double sparsity = measured_sparsity(c);
    const bool backward =
        std::find(directions_.begin(), directions_.end(), Passes::both) != directions_.end();
    const Passes most = backward ? Passes::both : Passes::forward;
    const AttentionAccuracy a = attention_accuracy(c, most);
    for (const Passes d : directions_) {
      const Timing t = time_attention(c, d, o_.seconds);
      const AttentionParts parts = attention_parts(c, d);
      const AttentionMemory memory = attention_memory(c, d);
      const auto n = static_cast<double>(c.q.dim(2));
      const Curve curve{.method = std::string(name(c.spec.method)),
                        .dtype = dtype,
                        .sparsity = w.topk > 0 ? 0 : w.sparsity,
                        .topk = w.topk,
                        .dim = c.q.dim(3),
                        .batch = c.q.dim(0),
                        .direction = d};
      curves_[curve].push_back({n, t.ms_min});

      Json more = Json::object({{"sparsity", sparsity}, {"sparsity_wanted", w.sparsity}});
      more.set("block_q", c.spec.block_q).set("block_k", c.spec.block_k);
      more.set("cos", a.cos).set("rel_l1", a.rel_l1);
      more.set("cos_dense", a.cos_dense).set("rel_l1_dense", a.rel_l1_dense);
      if (d == Passes::both) more.set("cos_grad", a.cos_grad).set("rel_l1_grad", a.rel_l1_grad);
      more.set("accuracy_tokens", Json::array({a.queries, a.keys}));
      more.set("ms_kernels", parts.kernels);
      Json by_part = Json::object();
      for (const auto& [part, ms] : parts.ms) by_part.set(part, ms);
      more.set("parts", by_part);
      more.set("bytes_peak", memory.peak)
          .set("bytes_saved", memory.saved)
          .set("bytes_scratch", memory.scratch);
      for (const auto& [other, points] : curves_)
        for (const Point& p : points)
          if (other.method == "dense" && other.dim == curve.dim && other.batch == curve.batch &&
              other.direction == d && p.n == n)
            more.set("speedup_dense_" + other.dtype, p.ms / t.ms_min);
      std::string gain;
      if (const auto dense = rival(curve)) {
        for (const Point& p : *dense)
          if (p.n == n) {
            const double times = p.ms / t.ms_min;
            more.set("speedup", times);
            gain = fmt::format("{:.2f}x", times);
            if (c.spec.method == AttentionMethod::sla2 && d == Passes::forward && dtype != "int8")
              more.set("share_of_bound",
                       times / sparse_linear_bound(1 - sparsity, n, static_cast<double>(c.q.dim(3)),
                                                   static_cast<double>(c.spec.block_q),
                                                   static_cast<double>(c.spec.block_k)));
          }
      }
      const std::vector<int64_t> shape(c.q.shape().begin(), c.q.shape().end());
      report_.keep("attention", curve.method, shape, dtype, text(d), t, c.dense_flops(d), more);
      print(curve, shape, t, c.dense_flops(d), sparsity, gain, parts, memory, a);
    }
  }

  void print(const Curve& c, const std::vector<int64_t>& shape, const Timing& t, double flops,
             double sparsity, const std::string& gain, const AttentionParts& parts,
             const AttentionMemory& memory, const AttentionAccuracy& a) {
    if (!titled_)
      fmt::print(
          "{:<14} {:<16} {:<5} {:<8} {:>8} {:>11} {:>11} {:>8} {:>8} {:>11} {:>9} {:>9} "
          "{:>8} {:>8} {:>8} {:>8}\n",
          "method", "shape", "dtype", "dir", "sparsity", "ms", "ms_min", "GFLOP/s", "x dense",
          "kernels ms", "saved MB", "extra MB", "1-cos", "rel_l1", "l1 grad", "l1 dense");
    titled_ = true;
    fmt::print(
        "{:<14} {:<16} {:<5} {:<8} {:>8.4f} {:>11.3f} {:>11.3f} {:>8.1f} {:>8} {:>11.3f} "
        "{:>9.2f} {:>9.2f} {:>8.1e} {:>8.1e} {:>8} {:>8.1e}\n",
        c.method, shape_text(shape), c.dtype, text(c.direction), sparsity, t.ms, t.ms_min,
        flops / t.ms / 1e6, gain, parts.kernels, static_cast<double>(memory.saved) / 1e6,
        static_cast<double>(memory.scratch) / 1e6, 1 - a.cos, a.rel_l1,
        c.direction == Passes::both ? fmt::format("{:.1e}", a.rel_l1_grad) : "", a.rel_l1_dense);
    std::string line;
    for (const auto& [part, ms] : parts.ms) line += fmt::format("  {} {:.3f}", part, ms);
    fmt::print("    ms by part:{}\n", line);
    std::fflush(stdout);
  }

  const BenchOptions& o_;
  Report& report_;
  Device device_;
  std::vector<AttentionMethod> methods_;
  std::vector<Passes> directions_;
  std::vector<std::string> dtypes_;
  LowBit pv_;
  Curves curves_;
  bool titled_ = false;
};

// The block to measure: the one asked for, or the middle one.
const AttentionLayer& chosen(const AttentionLayers& all, int64_t layer) {
  if (layer < 0) return all.layers[all.layers.size() / 2];
  for (const AttentionLayer& l : all.layers)
    if (l.layer == layer) return l;
  fail<UsageError>("--layer", "{} has no block {}", all.source, layer);
}

}  // namespace

void bench_attention(const Common& common, const BenchOptions& o, Report& report) {
  AttentionBench bench(common, o, report);
  const auto seed = static_cast<uint64_t>(common.seed < 0 ? 1 : common.seed);
  std::string title = "attention, standard normal q, k, v";
  check<UsageError>(o.capture.empty() || o.tensors.empty(), "bench attention",
                    "--capture and --tensors exclude each other");
  if (o.capture.empty()) refuse_flag(common, "save", "goes with --capture");
  if (!o.capture.empty() || !o.tensors.empty()) {
    for (const char* f : {"seq", "dim", "heads", "batch", "block-q", "block-k"})
      refuse_flag(common, f, "is not for given tensors: they have sizes and blocks of their own");
    const AttentionLayers all =
        o.capture.empty()
            ? load_layers(o.tensors)
            : capture_layers({.ckpt = o.capture, .config = {}, .classes = {}, .seed = seed});
    if (!o.save.empty()) save_layers(o.save, all);
    const AttentionLayer& layer = chosen(all, o.layer);
    check<UsageError>(layer.v.defined(), all.source, "holds no v: `bench attention` needs one");
    title = fmt::format("attention, block {} of {}", layer.layer, all.source);
    fmt::print("{}\n", title);
    bench.measure(layer, seed, true);
  } else {
    refuse_flag(common, "layer", "goes with --tensors and --capture");
    const std::vector<int64_t> seq = o.seq.empty() ? std::vector<int64_t>{1024, 4096} : o.seq,
                               dim = o.dim.empty() ? std::vector<int64_t>{64} : o.dim;
    for (const int64_t d : dim)
      for (const int64_t b : batches(o, 1))
        for (const int64_t n : seq)
          check_memory(bench.bytes(b, n, d),
                       fmt::format("bench attention: {} x {} x {} x {}", b, o.heads, n, d));
    for (const int64_t d : dim)
      for (const int64_t b : batches(o, 1))
        for (const int64_t n : seq)
          bench.measure(random_layer(b, o.heads, n, d, seed), seed, false);
  }
  bench.conclude();
  if (!o.svg.empty()) bench.draw(o.svg, title);
}

}  // namespace tenun::tools
