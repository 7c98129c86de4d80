// The JiT network: printed reference numbers, names, sizes, initial values, attention by name,
// gradients.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/core/random.h"
#include "tenun/models/jit.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/reduce.h"
#include "tenun/ops/rope.h"
#include "tenun/ops/sinusoid.h"

namespace {
using namespace tenun;

JiTOptions tiny() {
  JiTOptions o;
  o.input_size = 32, o.patch_size = 4, o.hidden_size = 32, o.depth = 4, o.num_heads = 2;
  o.num_classes = 3, o.bottleneck_dim = 8, o.in_context_len = 8, o.in_context_start = 1;
  return o;
}
JiTOptions tiny_pixelgen(RouterMode mode = RouterMode::hard) {
  JiTOptions o = tiny();
  o.use_sla2 = true;
  o.sla2_topk_ratio = 0.25, o.sla2_compression_ratio = 8, o.sla2_router_mode = mode;
  return o;
}
JiTOptions tiny_native(double ratio = 0.25) {
  JiTOptions o = tiny();
  o.attention.method = "sla2";
  o.attention.block_q = o.attention.block_k = 8;
  o.attention.topk_ratio = ratio;
  return o;
}

/// A network that owns its parameters.
struct Net {
  ParameterStore store;
  JiT jit;
  explicit Net(const JiTOptions& o, DType dtype = DType::f32, uint64_t seed = 7)
      : store(seed, dtype), jit(store.root(), o) {}
};

/// The fill rule of the reference numbers: every tensor but pos_embed.
void fill_sines(ParameterStore& store) {
  int64_t n = 0;
  for (Parameter& p : store) {
    if (p.name != "pos_embed") {
      const bool norm = p.name.find("norm") != std::string::npos && p.name.ends_with("weight");
      std::vector<double> v(static_cast<size_t>(p.var.numel()));
      for (size_t j = 0; j < v.size(); ++j)
        v[j] = 0.1 * std::sin(0.7 * static_cast<double>(j) + 1.1 * static_cast<double>(n) + 0.3) +
               (norm ? 1 : 0);
      p.var.mutable_value().copy_(Tensor::from(v, p.var.shape()));
    }
    ++n;
  }
}
Tensor wave(const Shape& shape, DType dtype = DType::f32) {
  std::vector<double> v(static_cast<size_t>(shape.numel()));
  for (size_t j = 0; j < v.size(); ++j) v[j] = std::sin(0.13 * static_cast<double>(j) + 0.5);
  return Tensor::from(v, shape).to(dtype);
}
Tensor times(DType dtype = DType::f32) { return Tensor::from({0.25, 0.8}, {2}).to(dtype); }
Tensor labels() { return Tensor::from<int64_t>({1, 3}, {2}); }

struct Summary {
  double mean = 0, deviation = 0, largest = 0;
  std::vector<double> v;
  explicit Summary(const Tensor& t) : v(t.values<double>()) {
    for (const double x : v) mean += x / static_cast<double>(v.size());
    for (const double x : v)
      deviation += (x - mean) * (x - mean), largest = std::max(largest, std::abs(x));
    deviation = std::sqrt(deviation / static_cast<double>(v.size() - 1));
  }
};
void check_near(double value, double expected, double tolerance) {
  INFO(fmt::format("{} should be {}", value, expected));
  CHECK(std::abs(value - expected) <= tolerance);
}
void check_numbers(const Tensor& t, double mean, double deviation, const std::vector<double>& first,
                   const std::vector<double>& last = {}, double largest = -1) {
  const Summary s(t);
  check_near(s.mean, mean, 3e-7);
  check_near(s.deviation, deviation, 3e-7);
  if (largest >= 0) check_near(s.largest, largest, 2e-6);
  for (size_t i = 0; i < first.size(); ++i) check_near(s.v[i], first[i], 2e-6);
  for (size_t i = 0; i < last.size(); ++i)
    check_near(s.v[s.v.size() - last.size() + i], last[i], 2e-6);
}

double distance(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const auto x = a.values<double>(), y = b.values<double>();
  double d = 0;
  for (size_t i = 0; i < x.size(); ++i) d = std::max(d, std::abs(x[i] - y[i]));
  return d;
}
bool same_bits(const Tensor& a, const Tensor& b) { return distance(a, b) == 0; }

/// The parameters of `from` by name into `into`.
void copy_weights(ParameterStore& into, const ParameterStore& from) {
  for (const Parameter& p : from)
    if (Parameter* q = into.find(p.name)) q->var.mutable_value().copy_(p.var.value());
}
/// Initial weights leave every block an identity; noise on top makes all of them matter.
void shake(ParameterStore& store, double deviation = 0.05) {
  uint64_t n = 0;
  for (Parameter& p : store) {
    ++n;
    if (p.trainable == Trainable::no) continue;
    Tensor noise(p.var.shape(), p.var.dtype());
    fill_normal(noise, RandomKey::derive(5, Purpose::test, n), 0, deviation);
    p.var.mutable_value().add_(noise);
  }
}
Tensor image_of(const Net& n, const JiTForward& f = {}) {
  const DType d = n.store.dtype();
  return n.jit(wave({2, 3, 32, 32}, d), times(d), labels(), f).image.value();
}
Var square_mean(const Var& x) { return mean(x * x); }

}  // namespace

TEST_SUITE("models_jit") {
  TEST_CASE("the tables of B/16 at 256 px") {
    const RopeTable rope = rope_table({.grid = 16}, 64, DType::f64, cpu());
    CHECK(rope.cos.shape() == Shape{256, 32});
    CHECK(rope_table({.grid = 16, .prefix = 32}, 64, DType::f64, cpu()).cos.shape() ==
          Shape{288, 32});
    // Token row 3, column 5; the printed table repeats each number for the two channels of a pair.
    const auto c = rope.cos.select(0, 53).values<double>(),
               s = rope.sin.select(0, 53).values<double>();
    check_near(c[0], -0.9899925, 5e-8), check_near(c[1], -0.1159662, 2e-7);
    check_near(c[2], 0.5827537, 2e-7), check_near(c[16], 0.2836622, 5e-8);
    check_near(c[17], -0.9460793, 5e-8), check_near(c[18], -0.0103423, 5e-8);
    check_near(s[0], 0.1411200, 5e-8), check_near(s[16], -0.9589243, 5e-8);
    const RopeTable with = rope_table({.grid = 16, .prefix = 32}, 64, DType::f64, cpu());
    CHECK(with.cos.values<double>()[0] == 1);  // in-context tokens are not turned
    CHECK(with.sin.select(0, 31).values<double>()[3] == 0);
    CHECK(same_bits(with.cos.slice(0, 32, 288), rope.cos));

    const Tensor pos = sincos_pos_embed(768, 16);
    CHECK(pos.shape() == Shape{256, 768});
    const auto p = pos.select(0, 53).values<double>();
    const std::map<size_t, double> expected = {
        {0, -0.9589243},  {1, -0.9985735},   {2, -0.9856184},   {192, 0.2836622},
        {193, 0.0533950}, {194, -0.1689863}, {384, 0.1411200},  {385, 0.2783800},
        {386, 0.4041414}, {576, -0.9899925}, {577, -0.9604710}, {578, -0.9146965}};
    for (const auto& [i, v] : expected) check_near(p[i], v, 6e-8);

    const auto e = timestep_embedding(Tensor::from({0.3}, {1}), 256).value().values<double>();
    REQUIRE(e.size() == 256);
    check_near(e[0], 0.9553365, 5e-8), check_near(e[1], 0.9612840, 5e-8);
    check_near(e[127], 1, 1e-7), check_near(e[128], 0.2955202, 5e-8);
    check_near(e[129], 0.2755594, 5e-8), check_near(e[255], 3.22382e-5, 5e-11);
  }

  TEST_CASE("the tiny network gives the reference numbers") {
    for (const DType dtype : {DType::f32, DType::f64}) {
      Net n(tiny(), dtype);
      fill_sines(n.store);
      const JiTOutput out = n.jit(wave({2, 3, 32, 32}, dtype), times(dtype), labels(),
                                  {.return_layer = 1, .return_last = true});
      CHECK(out.image.dtype() == dtype);
      check_numbers(out.image.value(), 0.0001529, 0.2849054,
                    {0.149395, 0.195513, -0.313944, 0.039453},
                    {0.130655, 0.320405, -0.342664, -0.062607}, 0.8015957);
      CHECK(out.feature.shape() == Shape{2, 64, 32});
      check_numbers(out.feature.value(), 0.4746575, 0.5121879,
                    {-0.104498, -0.196639, -0.122423, -0.011763});
      check_numbers(out.last.value(), 0.4645541, 0.5127280, {});
      const JiTOutput two =
          n.jit(wave({2, 3, 32, 32}, dtype), times(dtype), labels(), {.return_layer = 2});
      CHECK(two.feature.shape() == Shape{2, 64, 32});
      CHECK_FALSE(two.last.defined());
      check_numbers(two.feature.value(), 0.4682511, 0.5116351,
                    {-0.111561, -0.200210, -0.119752, -0.006298});
      CHECK(same_bits(two.image.value(), out.image.value()));
    }
  }

  TEST_CASE("the tiny JiTSLA2 gives the reference numbers") {
    Net n(tiny_pixelgen());
    fill_sines(n.store);
    check_numbers(image_of(n), 0.0063934, 0.3302470, {0.037039, 0.289659, -0.234976, -0.101015},
                  {-0.394164, 0.156625, 0.321403, -0.385136}, 0.8923984);
    JiTOptions o = tiny_pixelgen(RouterMode::soft);
    o.sla2_router_aux_weight = 1;
    Net soft(o);
    fill_sines(soft.store);
    check_numbers(image_of(soft), 0.0063939, 0.3301883, {0.036327, 0.290631, -0.234920, -0.102025},
                  {}, 0.8920550);
    const RandomKey key{1};
    const auto out = soft.jit(wave({2, 3, 32, 32}), times(), labels(), {.training = &key});
    REQUIRE(out.aux.defined());
    check_near(out.aux.value().item(), 0.14502248, 2e-7);
    // Without training there is no auxiliary loss.
    CHECK_FALSE(soft.jit(wave({2, 3, 32, 32}), times(), labels()).aux.defined());
    // A block's tensors, in PixelGen's order.
    std::vector<std::string> names;
    for (const Parameter& p : n.store)
      if (p.name.starts_with("blocks.2.")) names.push_back(p.name.substr(9));
    CHECK(names == std::vector<std::string>{"norm1.weight",
                                            "attn.sla2.alpha",
                                            "attn.sla2.qkv.weight",
                                            "attn.sla2.qkv.bias",
                                            "attn.sla2.proj.weight",
                                            "attn.sla2.proj.bias",
                                            "attn.sla2.q_norm.weight",
                                            "attn.sla2.q_norm.bias",
                                            "attn.sla2.k_norm.weight",
                                            "attn.sla2.k_norm.bias",
                                            "attn.sla2.router.q_proj.weight",
                                            "attn.sla2.router.k_proj.weight",
                                            "attn.sla2.proj_l.weight",
                                            "norm2.weight",
                                            "mlp.w12.weight",
                                            "mlp.w12.bias",
                                            "mlp.w3.weight",
                                            "mlp.w3.bias",
                                            "adaLN_modulation.1.weight",
                                            "adaLN_modulation.1.bias"});
  }

  TEST_CASE("sizes of the presets") {
    struct Row {
      char size;
      int64_t patch, classes, total, trainable;
      double gmac;
    };
    for (const Row& r : {Row{'B', 16, 1000, 131'320'320, 131'123'712, 25.22},
                         Row{'B', 16, 20, 130'567'680, 130'371'072, 25.22},
                         Row{'B', 32, 1000, 133'387'008, 133'190'400, 25.75}}) {
      CAPTURE(r.size);
      CAPTURE(r.patch);
      JiTOptions o = jit_preset(r.size, r.patch);
      o.num_classes = r.classes;
      const Net n(o);
      CHECK(n.store.count() == r.total);
      CHECK(n.store.trainable_count() == r.trainable);
      CHECK(n.store.size() == 10u + 14u * static_cast<size_t>(o.depth) + 5u);
      check_near(n.jit.macs() / 1e9, r.gmac, 0.006);
    }
    // The large ones need gigabytes; all blocks are alike, so two small depths give every depth.
    for (const Row& r : {Row{'L', 16, 1000, 459'139'808, 458'877'664, 87.94},
                         Row{'L', 32, 20, 460'792'800, 460'530'656, 88.62},
                         Row{'H', 16, 1000, 952'842'048, 952'514'368, 181.95},
                         Row{'H', 32, 1000, 956'383'296, 956'055'616, 182.85}}) {
      CAPTURE(r.size);
      CAPTURE(r.patch);
      JiTOptions o = jit_preset(r.size, r.patch);
      o.num_classes = r.classes;
      CHECK(o.depth == (r.size == 'L' ? 24 : 32));
      CHECK(o.bottleneck_dim == (r.size == 'L' ? 128 : 256));
      CHECK(o.in_context_start == (r.size == 'L' ? 8 : 10));
      // Compute: blocks before the in-context tokens, and blocks with them.
      const auto count = [&](int64_t depth, int64_t start) {
        JiTOptions small = o;
        small.depth = depth, small.in_context_start = start;
        const Net n(small);
        return std::array<double, 3>{static_cast<double>(n.store.count()),
                                     static_cast<double>(n.store.trainable_count()), n.jit.macs()};
      };
      const auto one = count(1, 0), two = count(2, 0), late = count(2, 1);
      const auto deep = static_cast<double>(o.depth - 1);
      CHECK(one[0] + deep * (two[0] - one[0]) == static_cast<double>(r.total));
      CHECK(one[1] + deep * (two[1] - one[1]) == static_cast<double>(r.trainable));
      const double macs = one[2] + deep * (two[2] - one[2]) +
                          static_cast<double>(o.in_context_start) * (late[2] - two[2]);
      check_near(macs / 1e9, r.gmac, 0.006);
    }
    JiTOptions s = jit_preset('B', 16);
    s.num_classes = 20, s.use_sla2 = true;
    Net sla2(s);
    CHECK(sla2.store.count() == 137'745'552);
    CHECK(sla2.store.size() == 255);
    CHECK(sla2.store.find("blocks.11.attn.sla2.proj_l.weight")->var.shape() == Shape{768, 768});
    // use_sla2: false is JiT, name by name.
    s.use_sla2 = false;
    CHECK(Net(s).store.size() == 183);
    CHECK_THROWS_AS((void)jit_preset('X', 16), const Error&);
    CHECK_THROWS_AS((void)jit_preset('B', 8), const Error&);
  }

  TEST_CASE("names, order and shapes of the state dict") {
    JiTOptions o = jit_preset('B', 16);
    o.num_classes = 20, o.depth = 2, o.in_context_start = 1;
    const Net n(o);
    std::vector<std::string> expected = {"pos_embed [1, 256, 768]",
                                         "in_context_posemb [1, 32, 768]",
                                         "t_embedder.mlp.0.weight [768, 256]",
                                         "t_embedder.mlp.0.bias [768]",
                                         "t_embedder.mlp.2.weight [768, 768]",
                                         "t_embedder.mlp.2.bias [768]",
                                         "y_embedder.embedding_table.weight [21, 768]",
                                         "x_embedder.proj1.weight [128, 3, 16, 16]",
                                         "x_embedder.proj2.weight [768, 128, 1, 1]",
                                         "x_embedder.proj2.bias [768]"};
    for (int i = 0; i < 2; ++i)
      for (const char* s :
           {"norm1.weight [768]", "attn.q_norm.weight [64]", "attn.k_norm.weight [64]",
            "attn.qkv.weight [2304, 768]", "attn.qkv.bias [2304]", "attn.proj.weight [768, 768]",
            "attn.proj.bias [768]", "norm2.weight [768]", "mlp.w12.weight [4096, 768]",
            "mlp.w12.bias [4096]", "mlp.w3.weight [768, 2048]", "mlp.w3.bias [768]",
            "adaLN_modulation.1.weight [4608, 768]", "adaLN_modulation.1.bias [4608]"})
        expected.push_back(fmt::format("blocks.{}.{}", i, s));
    for (const char* s :
         {"norm_final.weight [768]", "linear.weight [768, 768]", "linear.bias [768]",
          "adaLN_modulation.1.weight [1536, 768]", "adaLN_modulation.1.bias [1536]"})
      expected.push_back(fmt::format("final_layer.{}", s));
    std::vector<std::string> names;
    for (const Parameter& p : n.store) {
      names.push_back(fmt::format("{} {}", p.name, p.var.shape().str()));
      CHECK((p.trainable == Trainable::no) == (p.name == "pos_embed"));
    }
    CHECK(names == expected);

    JiTOptions plain = tiny();
    plain.use_bottleneck = false;
    Net without(plain);
    CHECK(without.store.find("x_embedder.proj1.weight")->var.shape() == Shape{32, 3, 4, 4});
    CHECK(without.store.find("x_embedder.proj1.bias")->var.shape() == Shape{32});
    CHECK(without.store.find("x_embedder.proj2.weight") == nullptr);
    CHECK(image_of(without).shape() == Shape{2, 3, 32, 32});
    // Native sla2 keeps the dense names and adds three tensors.
    Net native(tiny_native());
    CHECK(native.store.find("blocks.0.attn.qkv.weight") != nullptr);
    CHECK(native.store.find("blocks.0.attn.sla2.alpha")->var.shape() == Shape{2});
    CHECK(native.store.size() == Net(tiny()).store.size() + 3 * 4);
  }

  TEST_CASE("the initial values") {
    Net n(tiny());
    const auto values = [&](const char* name) {
      Parameter* p = n.store.find(name);
      REQUIRE(p != nullptr);
      return p->var.value().values<double>();
    };
    const auto check_uniform = [&](const char* name, double half) {
      CAPTURE(name);
      double largest = 0, square = 0;
      const auto v = values(name);
      for (const double x : v)
        largest = std::max(largest, std::abs(x)), square += x * x / static_cast<double>(v.size());
      CHECK(largest <= half);
      CHECK(largest > 0.93 * half);
      check_near(std::sqrt(square) / (half / std::sqrt(3.0)), 1, 0.12);
    };
    const auto check_normal = [&](const char* name) {
      CAPTURE(name);
      const Summary s(n.store.find(name)->var.value());
      check_near(s.deviation, 0.02, 0.003);
      check_near(s.mean, 0, 0.006);
      CHECK(s.largest > 0.035);
    };
    const auto check_all = [&](const char* name, double value) {
      CAPTURE(name);
      for (const double x : values(name)) CHECK(x == value);
    };
    check_uniform("blocks.1.attn.qkv.weight", std::sqrt(6.0 / (32 + 96)));
    check_uniform("blocks.1.attn.proj.weight", std::sqrt(6.0 / 64));
    check_uniform("blocks.3.mlp.w12.weight", std::sqrt(6.0 / (32 + 170)));
    check_uniform("blocks.3.mlp.w3.weight", std::sqrt(6.0 / (85 + 32)));
    check_uniform("x_embedder.proj1.weight", std::sqrt(6.0 / (48 + 8)));
    check_uniform("x_embedder.proj2.weight", std::sqrt(6.0 / (8 + 32)));
    for (const char* name : {"in_context_posemb", "t_embedder.mlp.0.weight",
                             "t_embedder.mlp.2.weight", "y_embedder.embedding_table.weight"})
      check_normal(name);
    for (const char* name :
         {"blocks.0.norm1.weight", "blocks.0.norm2.weight", "blocks.2.attn.q_norm.weight",
          "blocks.2.attn.k_norm.weight", "final_layer.norm_final.weight"})
      check_all(name, 1);
    for (const char* name :
         {"t_embedder.mlp.0.bias", "t_embedder.mlp.2.bias", "x_embedder.proj2.bias",
          "blocks.0.attn.qkv.bias", "blocks.0.attn.proj.bias", "blocks.0.mlp.w12.bias",
          "blocks.0.mlp.w3.bias", "blocks.0.adaLN_modulation.1.weight",
          "blocks.0.adaLN_modulation.1.bias", "final_layer.linear.weight",
          "final_layer.linear.bias", "final_layer.adaLN_modulation.1.weight",
          "final_layer.adaLN_modulation.1.bias"})
      check_all(name, 0);
    CHECK(same_bits(n.store.find("pos_embed")->var.value().select(0, 0),
                    sincos_pos_embed(32, 8, DType::f32)));
    // The output is exactly 0, and every block is the identity.
    CHECK(Summary(image_of(n)).largest == 0);
    const auto f = [&](int64_t layer) {
      return n.jit(wave({2, 3, 32, 32}), times(), labels(), {.return_layer = layer})
          .feature.value();
    };
    for (int64_t i = 1; i <= 4; ++i) CHECK(same_bits(f(0), f(i)));
    CHECK(Summary(f(0)).largest > 0.1);
    // PixelGen's SLA2: alpha 0.5, LayerNorm, and Xavier's for the linear branch's projection too.
    Net p(tiny_pixelgen());
    for (const double a : p.store.find("blocks.0.attn.sla2.alpha")->var.value().values<double>())
      CHECK(a == 0.5);
    CHECK(Summary(p.store.find("blocks.0.attn.sla2.proj_l.weight")->var.value()).largest > 0.2);
    CHECK(Summary(p.store.find("blocks.0.attn.sla2.router.q_proj.weight")->var.value()).largest >
          0.3);
    CHECK(Summary(p.store.find("blocks.0.attn.sla2.q_norm.bias")->var.value()).largest == 0);
    CHECK(Summary(image_of(p)).largest == 0);
    // Values depend on seed and name alone.
    CHECK(same_bits(Net(tiny_native()).store.find("blocks.1.attn.qkv.weight")->var.value(),
                    n.store.find("blocks.1.attn.qkv.weight")->var.value()));
    CHECK_FALSE(same_bits(Net(tiny(), DType::f32, 8).store.find("in_context_posemb")->var.value(),
                          n.store.find("in_context_posemb")->var.value()));
  }

  TEST_CASE("gradients reach every parameter of each attention method") {
    JiTOptions soft = tiny_pixelgen(RouterMode::soft);
    soft.sla2_router_aux_weight = 1;
    JiTOptions native_soft = tiny_native();
    native_soft.attention.mode = RouterMode::soft;
    native_soft.attention.aux_weight = 1;
    const std::vector<std::pair<std::string, JiTOptions>> all = {{"dense", tiny()},
                                                                 {"pixelgen hard", tiny_pixelgen()},
                                                                 {"pixelgen soft", soft},
                                                                 {"native hard", tiny_native()},
                                                                 {"native soft", native_soft}};
    for (const auto& [what, o] : all) {
      CAPTURE(what);
      Net n(o);
      shake(n.store);
      const RandomKey key{3};
      Tape tape;
      const auto out = n.jit(wave({2, 3, 32, 32}), times(), labels(), {.training = &key});
      Var loss = square_mean(out.image);
      CHECK(out.aux.defined() == (what.find("soft") != std::string::npos));
      if (out.aux.defined()) loss = loss + out.aux;
      tape.backward(loss);
      for (const Parameter& p : n.store) {
        CAPTURE(p.name);
        if (p.trainable == Trainable::no) {
          CHECK_FALSE(p.var.grad().defined());
          continue;
        }
        // The choice of the top-k blocks has no gradient, so a hard router has none.
        if (p.name.find("router") != std::string::npos && what.find("hard") != std::string::npos) {
          CHECK((!p.var.grad().defined() || Summary(p.var.grad()).largest == 0));
          continue;
        }
        REQUIRE(p.var.grad().defined());
        CHECK(p.var.grad().all_finite());
        CHECK(Summary(p.var.grad()).largest > 0);
      }
    }
  }

  TEST_CASE("gradients of a native SLA2 network agree with finite differences") {
    // Hard routing: soft routing has gradients of its own making, which its op's tests check.
    JiTOptions o = tiny_native(0.4);
    o.depth = 2, o.in_context_start = 1, o.input_size = 16, o.in_context_len = 4;
    o.attention.block_q = o.attention.block_k = 4;
    Net n(o, DType::f64);
    shake(n.store, 0.1);
    const RandomKey key{9};
    const Tensor x = wave({2, 3, 16, 16}, DType::f64), t = times(DType::f64);
    const auto loss = [&] {
      const Var image = n.jit(x, t, labels(), {.training = &key}).image;
      return mean(image * Var(x)) + square_mean(image);
    };
    {
      Tape tape;
      tape.backward(loss());
    }
    uint64_t k = 0;
    int compared = 0;
    for (Parameter& p : n.store) {
      ++k;
      if (p.trainable == Trainable::no || p.name.find("router") != std::string::npos) continue;
      REQUIRE(p.var.grad().defined());
      const auto g = p.var.grad().values<double>();
      const auto i = static_cast<int64_t>(
          RandomKey::derive(1, Purpose::test, k).below(0, static_cast<uint64_t>(p.var.numel())));
      const auto at = [&](double h) {
        double* v = p.var.mutable_value().mutable_data<double>() + i;
        const double before = *v;
        *v = before + h;
        const double l = loss().value().item();
        *v = before;
        return l;
      };
      const double slope = (at(1e-5) - at(-1e-5)) / 2e-5;
      INFO(fmt::format("{}[{}]: {} against {}", p.name, i, g[static_cast<size_t>(i)], slope));
      CHECK(std::abs(g[static_cast<size_t>(i)] - slope) <= 1e-8 + 1e-5 * std::abs(slope));
      ++compared;
    }
    CHECK(compared > 30);
  }

  TEST_CASE("shapes and wrong arguments") {
    Net n(tiny());
    CHECK(image_of(n).shape() == Shape{2, 3, 32, 32});
    CHECK_THROWS_AS((void)n.jit(wave({2, 3, 16, 32}), times(), labels()), const ShapeError&);
    CHECK_THROWS_AS((void)n.jit(wave({1, 3, 32, 32}), times(), labels()), const ShapeError&);
    CHECK_THROWS_AS((void)n.jit(wave({2, 3, 32, 32}), times(), Tensor::from<int64_t>({1}, {1})),
                    const ShapeError&);
    CHECK_THROWS_AS((void)n.jit(wave({2, 3, 32, 32}), times(), Tensor::from<int64_t>({1, 4}, {2})),
                    const Error&);  // 3 is the null class, 4 nothing
    CHECK_FALSE(n.jit(wave({2, 3, 32, 32}), times(), labels()).feature.defined());
    JiTOptions o = tiny();
    o.patch_size = 5;
    CHECK_THROWS_AS(Net{o}, const Error&);
    o = tiny(), o.num_heads = 3;
    CHECK_THROWS_AS(Net{o}, const Error&);
    o = tiny(), o.in_context_start = 4;
    CHECK_THROWS_AS(Net{o}, const Error&);
    o = tiny_native(), o.input_size = 16, o.attention.tile = TokenOrder::tile_8x8;
    CHECK_THROWS_AS(Net{o}, const Error&);
    o = tiny(), o.in_context_len = 0, o.in_context_start = 0;
    Net without(o);
    shake(without.store);
    CHECK(without.store.find("in_context_posemb") == nullptr);
    CHECK(image_of(without).all_finite());
  }

  TEST_CASE("a sample does not depend on its batch") {
    for (const JiTOptions& o : {tiny(), tiny_native(), tiny_pixelgen()}) {
      Net n(o);
      shake(n.store);
      const Tensor x = wave({2, 3, 32, 32});
      const Tensor both = image_of(n);
      const Tensor second =
          n.jit(x.slice(0, 1, 2), times().slice(0, 1, 2), labels().slice(0, 1, 2)).image.value();
      CHECK(distance(both.slice(0, 1, 2), second) < 2e-6);
      CHECK(Summary(both).largest > 0.01);
    }
  }

  TEST_CASE("start layer, tiles and dense equality") {
    JiTOptions o = tiny_pixelgen();
    o.sla2_start_layer = 2;
    Net hybrid(o);
    CHECK(hybrid.jit.attention(1).options.method == "dense");
    CHECK(hybrid.jit.attention(2).options.method == "pixelgen_sla2");
    CHECK(hybrid.store.find("blocks.1.attn.qkv.weight") != nullptr);
    CHECK(hybrid.store.find("blocks.2.attn.sla2.qkv.weight") != nullptr);
    CHECK(hybrid.store.find("blocks.2.attn.qkv.weight") == nullptr);
    shake(hybrid.store);
    CHECK(image_of(hybrid).all_finite());
    CHECK(get_sla2_statistics(hybrid.jit).size() == 2 * 5);

    Net dense(tiny());
    shake(dense.store);
    const Tensor reference = image_of(dense);
    // With all blocks selected, native SLA2 is dense attention: nothing is left for the linear
    // branch.
    Net native(tiny_native(1.0));
    copy_weights(native.store, dense.store);
    CHECK(distance(image_of(native), reference) < 3e-6);
    CHECK(native.jit.attention(3).measured_sparsity() == doctest::Approx(0));
    Net sparse(tiny_native(0.25));
    copy_weights(sparse.store, dense.store);
    CHECK(distance(image_of(sparse), reference) > 1e-4);
    CHECK(sparse.jit.attention(3).measured_sparsity() > 0.4);

    // Dense attention does not see the order of the tokens.
    JiTOptions t = tiny();
    t.attention.tile = TokenOrder::tile_8x8;
    t.input_size = 64;
    JiTOptions r = t;
    r.attention.tile = TokenOrder::row;
    Net tiled(t), raster(r);
    shake(tiled.store);
    copy_weights(raster.store, tiled.store);
    const Tensor x = wave({2, 3, 64, 64});
    const JiTForward f{.return_layer = 2, .return_last = true};
    const auto a = tiled.jit(x, times(), labels(), f), b = raster.jit(x, times(), labels(), f);
    CHECK(distance(a.image.value(), b.image.value()) < 3e-6);
    CHECK(distance(a.feature.value(), b.feature.value()) < 3e-6);
    CHECK(distance(a.last.value(), b.last.value()) < 3e-6);
    // Sparse attention does.
    t.attention.method = r.attention.method = "sla2";
    t.attention.block_q = t.attention.block_k = r.attention.block_q = r.attention.block_k = 16;
    Net tiled2(t), raster2(r);
    copy_weights(tiled2.store, tiled.store);
    copy_weights(raster2.store, tiled.store);
    CHECK(distance(tiled2.jit(x, times(), labels()).image.value(),
                   raster2.jit(x, times(), labels()).image.value()) > 1e-5);

    // In-context tokens: always selected, or ordinary ones.
    JiTOptions open = tiny_native();
    open.attention.dense_prefix = false;
    Net ordinary(open);
    copy_weights(ordinary.store, sparse.store);
    CHECK(distance(image_of(ordinary), image_of(sparse)) > 1e-6);
  }

  TEST_CASE("QAT on and off, statistics, description") {
    JiTOptions o = tiny_native();
    o.attention.quant.qk = LowBit::int8;
    Net n(o);
    shake(n.store);
    CHECK(n.jit.attention(0).qat);
    const Tensor on = image_of(n);
    disable_sla2_qat(n.jit);
    CHECK_FALSE(n.jit.attention(0).qat);
    const Tensor off = image_of(n);
    const double d = distance(on, off);
    CHECK(d > 0);
    CHECK(d < 0.1 * Summary(off).largest);
    enable_sla2_qat(n.jit);
    CHECK(same_bits(image_of(n), on));
    // As in the original, the flag of PixelGen's SLA2 changes no number.
    Net p(tiny_pixelgen());
    shake(p.store);
    const Tensor with = image_of(p);
    disable_sla2_qat(p.jit);
    CHECK(same_bits(image_of(p), with));
    // A dense network has nothing to switch.
    Net dense(tiny());
    enable_sla2_qat(dense.jit);
    CHECK_FALSE(dense.jit.attention(0).qat);
    CHECK(get_sla2_statistics(dense.jit).empty());

    const auto s = get_sla2_statistics(p.jit);
    for (const char* key : {"alpha_mean", "alpha_std", "sparsity", "router_params"})
      CHECK(s.contains(fmt::format("sla2_blocks_3_attn/{}", key)));
    CHECK(s.at("sla2_blocks_3_attn/sparsity") == 0.75);
    CHECK(s.at("sla2_blocks_3_attn/router_params") == 2 * 16 * 16);
    check_near(get_sla2_statistics(Net(tiny_pixelgen()).jit).at("sla2_blocks_0_attn/alpha_mean"),
               0.6224593, 1e-6);
    std::vector<std::string> lines;
    log_sla2_config(p.jit, [&](const std::string& line) { lines.push_back(line); });
    REQUIRE(lines.size() == 5);
    CHECK(lines[0].find("blocks.0.attn: pixelgen_sla2, sparsity 75.0 %") != std::string::npos);
    CHECK(lines[4] == "4 of 4 attention layers are SLA2");
  }

  TEST_CASE("the options of JiTSLA2 reach the blocks") {
    JiTOptions o = tiny_pixelgen(RouterMode::soft);
    o.sla2_soft_topk_tau = 0.7, o.sla2_soft_topk_iters = 12, o.sla2_router_aux_weight = 0.3;
    o.sla2_feature_map = FeatureMap::elu;
    const AttentionOptions a = o.attention_of(1);
    CHECK(a.method == "pixelgen_sla2");
    CHECK((a.block_q == 8 && a.block_k == 8));
    CHECK((a.tau == 0.7 && a.soft_iters == 12 && a.aux_weight == 0.3));
    CHECK(a.feature_map == FeatureMap::elu);
    CHECK(a.mode == RouterMode::soft);
    CHECK_FALSE(a.dense_prefix);
    o.sla2_impl = Sla2Impl::native;
    o.attention.block_q = 4;
    CHECK(o.attention_of(1).method == "sla2");
    CHECK(o.attention_of(1).block_q == 4);
    CHECK(o.attention_of(1).quant.qk == LowBit::int8);  // sla2_enable_qat
    o.sla2_enable_qat = false;
    CHECK(o.attention_of(1).quant.qk == LowBit::none);
    o.sla2_start_layer = 2;
    CHECK(o.attention_of(1).method == "dense");
    CHECK(o.attention_of(2).method == "sla2");
    // The three presets of the original, and the feature maps, run and differ.
    std::vector<Tensor> images;
    for (const auto& [ratio, cells] :
         {std::pair{0.05, 16.0}, std::pair{0.15, 8.0}, std::pair{0.25, 4.0}}) {
      JiTOptions c = tiny_pixelgen();
      c.sla2_topk_ratio = ratio, c.sla2_compression_ratio = cells;
      Net n(c);
      shake(n.store);
      images.push_back(image_of(n));
      CHECK(images.back().all_finite());
    }
    CHECK(distance(images[0], images[1]) > 1e-5);
    CHECK(distance(images[1], images[2]) > 1e-5);
    for (const FeatureMap map : {FeatureMap::softmax, FeatureMap::elu, FeatureMap::relu}) {
      JiTOptions c = tiny_pixelgen();
      c.sla2_feature_map = map;
      Net n(c);
      shake(n.store);
      CHECK(image_of(n).all_finite());
    }
  }

  TEST_CASE("bf16 autocast stays close to f32, forward and backward") {
    for (const JiTOptions& o : {tiny(), tiny_native(), tiny_pixelgen()}) {
      Net n(o);
      shake(n.store);
      const auto run = [&](DType dtype) {
        n.store.zero_grad();
        Tape tape;
        Var loss, image;
        {
          const Autocast guard(dtype);
          image = n.jit(wave({2, 3, 32, 32}), times(), labels()).image;
          loss = square_mean(cast(image, DType::f32));
        }
        tape.backward(loss);
        return image.value();
      };
      const Tensor exact = run(DType::f32);
      const Tensor g = n.store.find("blocks.0.mlp.w12.weight")->var.grad().clone();
      const Tensor low = run(DType::bf16);
      const Tensor h = n.store.find("blocks.0.mlp.w12.weight")->var.grad();
      CHECK(h.dtype() == DType::f32);
      const double d = distance(exact, low.to(DType::f32));
      CHECK(d > 0);
      CHECK(d < 0.08 * Summary(exact).largest);
      CHECK(distance(g, h) > 0);
      CHECK(distance(g, h) < 0.1 * Summary(g).largest);
    }
  }

  TEST_CASE("dropout acts in training, in the middle half of the blocks") {
    JiTOptions o = tiny();
    o.in_context_len = 0, o.in_context_start = 0;
    o.depth = 8;
    for (const bool attention : {false, true}) {
      CAPTURE(attention);
      (attention ? o.attn_drop : o.proj_drop) = 0.5;
      (attention ? o.proj_drop : o.attn_drop) = 0;
      Net n(o);
      shake(n.store);
      const RandomKey key{11}, other{12};
      const auto feature = [&](int64_t layer, const RandomKey* k) {
        return n
            .jit(wave({2, 3, 32, 32}), times(), labels(), {.return_layer = layer, .training = k})
            .feature.value();
      };
      // depth 8: blocks 2 to 5 drop.
      CHECK(same_bits(feature(2, &key), feature(2, nullptr)));
      CHECK_FALSE(same_bits(feature(3, &key), feature(3, nullptr)));
      CHECK(same_bits(feature(8, &key), feature(8, &key)));
      CHECK_FALSE(same_bits(feature(8, &key), feature(8, &other)));
      CHECK(same_bits(image_of(n), image_of(n)));
      // Block 6 and 7 add the same to the same input: with blocks 2..5 cut off, training is
      // evaluation.
      for (int i = 2; i <= 5; ++i)
        for (const char* s : {"weight", "bias"})
          n.store.find(fmt::format("blocks.{}.adaLN_modulation.1.{}", i, s))
              ->var.mutable_value()
              .fill_(0);
      CHECK(same_bits(feature(8, &key), feature(8, nullptr)));
    }
  }
}
