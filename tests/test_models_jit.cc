// The JiT network: printed reference numbers, names, sizes, initial values.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>

#include "tenun/autograd/autocast.h"
#include "tenun/autograd/tape.h"
#include "tenun/ops/rope.h"
#include "tenun/ops/sinusoid.h"
#include "tenun/tests/jit_util.h"

using namespace tenun;
using namespace tenun::test;

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
    const SampleKeys keys{{1}, {2}};
    const auto out = soft.jit(wave({2, 3, 32, 32}), times(), labels(), {.training = &keys});
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
}
