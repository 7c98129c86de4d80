// Operands of attention as files and from networks; the pictures of what attention selects.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include "tenun/autograd/tape.h"
#include "tenun/core/io/safetensors.h"
#include "tenun/tests/jit_util.h"
#include "tenun/tools/attention_inputs.h"
#include "tenun/tools/attention_rows.h"
#include "tenun/tools/bench_attention.h"
#include "tenun/tools/panels.h"
#include "tenun/tools/token_grid.h"

using namespace tenun;
using namespace tenun::tools;

namespace {

struct File {
  std::string path;
  explicit File(const std::string& name)
      : path(std::filesystem::temp_directory_path() / ("tenun_tools_attention_" + name)) {}
  ~File() { std::filesystem::remove(path); }
};

bool equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.values<double>() == b.values<double>();
}

}  // namespace

TEST_SUITE("tools_attention") {
  TEST_CASE("layers survive their file: tensors, learned values, method, grid") {
    AttentionLayers all{.source = "", .grid = 8, .tile = 8, .layers = {}};
    all.picture = Tensor::full({3, 4, 4}, 0.25);
    for (int64_t i : {2, 5}) {
      AttentionLayer l = random_layer(1, 2, 64, 8, static_cast<uint64_t>(i));
      l.layer = i;
      l.spec.method = i == 2 ? AttentionMethod::sla2 : AttentionMethod::sla;
      l.spec.block_q = 16, l.spec.block_k = 8, l.spec.topk_ratio = 0.25, l.spec.prefix = 3;
      l.params = fill_params(l.spec, l.q, {}, 1);
      all.layers.push_back(l);
    }
    const File file("layers.safetensors");
    save_layers(file.path, all);
    const AttentionLayers back = load_layers(file.path);
    CHECK(back.grid == 8);
    CHECK(back.tile == 8);
    CHECK(equal(back.picture, all.picture));
    REQUIRE(back.layers.size() == 2);
    for (size_t i = 0; i < 2; ++i) {
      const AttentionLayer &a = all.layers[i], &b = back.layers[i];
      CHECK(a.layer == b.layer);
      CHECK(equal(a.q, b.q));
      CHECK(equal(a.v, b.v));
      CHECK(b.spec.method == a.spec.method);
      CHECK(b.spec.block_k == 8);
      CHECK(b.spec.prefix == 3);
      CHECK(b.spec.topk_ratio == 0.25);
      for (const Learned& p : kLearned) {
        REQUIRE((a.params.*p.at).defined() == (b.params.*p.at).defined());
        if ((a.params.*p.at).defined())
          CHECK(equal((a.params.*p.at).value(), (b.params.*p.at).value()));
      }
    }
  }

  TEST_CASE("files that do not fit are refused by name") {
    const File file("wrong.safetensors");
    const Tensor q = Tensor::zeros({1, 2, 8, 4}), other = Tensor::zeros({1, 3, 8, 4});
    const auto refused = [&](const std::vector<NamedTensor>& t,
                             const std::map<std::string, std::string>& m, const char* text) {
      save_safetensors(file.path, t, m);
      CHECK_THROWS_WITH_AS((void)load_layers(file.path), doctest::Contains(text), IoError);
    };
    refused({{"q", q}, {"k", other}}, {}, "k f32[1, 3, 8, 4]");
    refused({{"q", q}, {"k", q}, {"v", other}}, {}, "v f32[1, 3, 8, 4]");
    refused({{"x", q}}, {}, "no tensor named q");
    refused({{"q", q}}, {}, "k");
    refused({{"q", q}, {"k", q}}, {{"grid", "-1"}}, "grid");
    refused({{"q", q}, {"k", q}}, {{"tile", "3"}}, "tile");
    refused({{"q", q}, {"k", q}, {"picture", q}}, {}, "picture f32[1, 2, 8, 4]");
    refused({{"q", q}, {"k", q}}, {{"spec", "{\"block_q\":\"x\"}"}}, "expected");
    refused({{"q", q}, {"k", q}}, {{"spec", "{\"mode\":\"topk\"}"}},
            "wrong.safetensors: block 0: router mode: 'topk'");
    // Plain q and k: sla2 unless told otherwise.
    save_safetensors(file.path, std::vector<NamedTensor>{{"q", q}, {"k", q}});
    CHECK(load_layers(file.path).layers.at(0).spec.method == AttentionMethod::sla2);
  }

  TEST_CASE("the wanted sparsity is what methods measure") {
    for (const AttentionMethod m : available_attention_methods()) {
      if (!has_sparsity(m) || m == AttentionMethod::automatic) continue;
      const AttentionLayer l = random_layer(1, 1, 512, 16, 3);
      AttentionCase c{.spec = {}, .params = {}, .q = l.q, .k = l.k, .v = l.v};
      c.spec.method = m;
      c.spec.block_q = c.spec.block_k = c.spec.compression = 16;
      set_sparsity(c.spec, 0.75, 512);
      c.params = fill_params(c.spec, c.q, {}, 1);
      const std::string what(name(m));
      INFO(what);
      CHECK(std::abs(measured_sparsity(c) - 0.75) < 0.05);
    }
  }

  TEST_CASE("accuracy and parts of a case are those of the operator") {
    const AttentionLayer l = random_layer(1, 2, 96, 16, 4);
    AttentionCase c{.spec = {}, .params = {}, .q = l.q, .k = l.k, .v = l.v};
    CHECK(c.dense_flops(Passes::forward) == 4.0 * 2 * 96 * 96 * 16);
    CHECK(c.dense_flops(Passes::both) == 3.5 * 4.0 * 2 * 96 * 96 * 16);
    const AttentionAccuracy dense = attention_accuracy(c, Passes::both);
    CHECK(dense.rel_l1 > 0);
    CHECK(dense.rel_l1 < 1e-5);
    CHECK(dense.rel_l1_dense == dense.rel_l1);
    CHECK(dense.rel_l1_grad > 0);
    CHECK(dense.rel_l1_grad < 1e-5);
    c.spec.method = AttentionMethod::sage;
    c.spec.quant = {LowBit::int8, LowBit::int8};
    const AttentionAccuracy low = attention_accuracy(c, Passes::forward);
    CHECK(low.rel_l1 > 1e-3);  // the rounding shows
    CHECK(low.rel_l1 < 0.1);
    const AttentionParts parts = attention_parts(c, Passes::both);
    double sum = 0;
    for (const auto& [part, ms] : parts.ms) sum += ms;
    CHECK(parts.kernels > 0);
    CHECK(parts.kernels <= sum);
    CHECK(parts.ms.back().first == "rest");
  }

  TEST_CASE("NaN is no perfect accuracy") {
    AttentionLayer l = random_layer(1, 1, 64, 16, 4);
    l.k.mutable_data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
    const AttentionCase c{.spec = {}, .params = {}, .q = l.q, .k = l.k, .v = l.v};
    const AttentionAccuracy a = attention_accuracy(c, Passes::both);
    for (const double x : {a.cos, a.rel_l1, a.rel_l1_dense, a.cos_grad, a.rel_l1_grad})
      CHECK(std::isnan(x));
  }

  TEST_CASE("rows of attention: softmax over what is selected, for any method") {
    const int64_t n = 40, d = 8;
    AttentionLayer l = random_layer(2, 2, n, d, 6);
    l.spec.block_q = l.spec.block_k = 8, l.spec.topk_ratio = 0.4;
    std::vector<int64_t> queries;
    for (int64_t i = 0; i < 11; ++i) queries.push_back((i * 7) % n);  // more than channels
    const auto q = l.q.values<double>(), k = l.k.values<double>();
    for (const AttentionMethod m : {AttentionMethod::dense, AttentionMethod::sla2,
                                    AttentionMethod::sla, AttentionMethod::sparge}) {
      const std::string what(name(m));
      INFO(what);
      l.spec.method = m;
      const AttentionLayer one = first_sample(l);
      const Tensor mask =
          attention(one.q, one.k, one.v, l.spec, fill_params(l.spec, one.q, {}, 1)).mask;
      CHECK(mask.defined() == (m != AttentionMethod::dense));
      const auto keep = mask.defined() ? mask.values<double>() : std::vector<double>();
      const Tensor rows = attention_rows(l, queries);
      REQUIRE(rows.shape() == Shape{2, 11, n});
      const auto got = rows.values<double>();
      double worst = 0;
      for (int64_t h = 0; h < 2; ++h)
        for (size_t i = 0; i < queries.size(); ++i) {
          std::vector<double> e(static_cast<size_t>(n));
          double sum = 0;
          for (int64_t j = 0; j < n; ++j) {
            double s = 0;
            for (int64_t c = 0; c < d; ++c)
              s += q[static_cast<size_t>((h * n + queries[i]) * d + c)] *
                   k[static_cast<size_t>((h * n + j) * d + c)];
            const bool on = keep.empty() ||
                            keep[static_cast<size_t>((h * 5 + queries[i] / 8) * 5 + j / 8)] != 0;
            sum += e[static_cast<size_t>(j)] = on ? std::exp(s / std::sqrt(8.0)) : 0;
          }
          for (size_t j = 0; j < e.size(); ++j)
            worst = std::max(
                worst,
                std::abs(e[j] / sum -
                         got[(static_cast<size_t>(h) * 11 + i) * static_cast<size_t>(n) + j]));
        }
      CHECK(worst < 1e-6);
    }
    // Whatever the method: o is the sum of the rows' shares of v, moved by one value at a time.
    for (const AttentionMethod m :
         {AttentionMethod::llsa, AttentionMethod::vmoba, AttentionMethod::linear}) {
      const std::string what(name(m));
      INFO(what);
      l.spec.method = m;
      const auto got = attention_rows(l, {13}).values<double>();
      AttentionLayer moved = first_sample(l);
      const NoGrad guard;
      const auto o = [&] {
        return attention(moved.q, moved.k, moved.v, l.spec, {}).o.value().values<double>();
      };
      const auto before = o();
      moved.v = moved.v.clone();
      moved.v.mutable_data<float>()[(n + 30) * d + 2] += 1;  // head 1, key 30, channel 2
      const size_t at = static_cast<size_t>((n + 13) * d + 2);
      CHECK(std::abs(o()[at] - before[at] - got[static_cast<size_t>(n + 30)]) < 1e-5);
    }
    CHECK_THROWS_AS((void)attention_rows(l, {n}), ShapeError);
  }

  TEST_CASE("tokens of an image: every cell once, in tiles, behind the others") {
    for (const int64_t tile : {1, 8}) {
      const TokenGrid g{.side = 16, .tile = tile, .prefix = 5};
      CHECK(g.cell(4) == -1);
      CHECK(g.cell(5) == 0);
      std::vector<int> seen(256);
      for (int64_t t = 5; t < 261; ++t) {
        const int64_t c = g.cell(t);
        REQUIRE((c >= 0 && c < 256));
        ++seen[static_cast<size_t>(c)];
        CHECK(g.token(c) == t);
      }
      for (const int s : seen) CHECK(s == 1);
    }
    CHECK(TokenGrid{.side = 16, .tile = 8, .prefix = 0}.cell(64) == 8);  // the second tile
    CHECK(TokenGrid{.side = 16, .tile = 8, .prefix = 0}.cell(9) == 17);  // its second row
  }

  TEST_CASE("an observer of a block's attention sees each call") {
    test::Net net(test::tiny_native());
    std::vector<int64_t> tokens;
    for (int64_t i = 0; i < net.jit.depth(); ++i)
      net.jit.attention(i).observe = [&](const JiTAttentionCall& c) {
        tokens.push_back(c.q.dim(2));
        CHECK(c.spec.method == AttentionMethod::sla2);
        CHECK(c.params.alpha.defined());
        CHECK(c.q.shape() == c.v.shape());
        CHECK(c.out.o.shape() == c.q.shape());
      };
    const NoGrad guard;
    (void)net.jit(Tensor::zeros({2, 3, 32, 32}), Tensor::full({2}, 0.5),
                  Tensor::zeros({2}, DType::i64));
    CHECK(tokens == std::vector<int64_t>{64, 72, 72, 72});  // eight tokens join at block 1
  }

  TEST_CASE("panels: enlarged or averaged, with their frame, in order") {
    CHECK(shade(0) == Colour{255, 255, 255});
    CHECK(shade(1)[0] < 40);
    CHECK(shade(-3) == shade(0));
    CHECK(shade(7) == shade(1));
    for (int i = 1; i <= 50; ++i) {  // ever brighter, so that it reads in grey as well
      const Colour a = heat((i - 1) / 50.0), b = heat(i / 50.0);
      CHECK(0.3 * b[0] + 0.59 * b[1] + 0.11 * b[2] > 0.3 * a[0] + 0.59 * a[1] + 0.11 * a[2]);
    }
    Panel small{.columns = 2, .rows = 1, .cells = {{255, 0, 0}, {0, 0, 255}}};
    const Image im = panel_sheet("t", {"a line"}, {small});
    int64_t red = 0, blue = 0, first_red = im.width, first_blue = im.width;
    for (int y = 0; y < im.height; ++y)
      for (int x = 0; x < im.width; ++x) {
        const uint8_t* p = im.at(x, y);
        if (p[0] == 255 && p[1] == 0) ++red, first_red = std::min<int64_t>(first_red, x);
        if (p[2] == 255 && p[1] == 0) ++blue, first_blue = std::min<int64_t>(first_blue, x);
      }
    CHECK(red == 96 * 96);
    CHECK(blue == 96 * 96);
    CHECK(first_blue == first_red + 96);
    // More cells than pixels: stripes of one cell become their mean.
    Panel fine{.columns = 2048, .rows = 64, .cells = {}};
    for (int64_t i = 0; i < 2048 * 64; ++i)
      fine.cells.push_back(i % 2 == 0 ? Colour{200, 0, 0} : Colour{100, 0, 0});
    const Image mean = panel_sheet("", {}, {fine});
    int64_t stripes = 0, even = 0;
    for (int y = 0; y < mean.height; ++y)
      for (int x = 0; x < mean.width; ++x) {
        const uint8_t* p = mean.at(x, y);
        if (p[1] == 0) ++(p[0] >= 140 && p[0] <= 160 ? even : stripes);
      }
    CHECK(even == 192 * 6);
    CHECK(stripes == 0);
  }
}
