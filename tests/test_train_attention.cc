// Attention settings of a run: the configuration's keys, and what a checkpoint keeps of them.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <string>
#include <vector>

#include "tenun/tests/jit_util.h"
#include "tenun/train/checkpoint.h"
#include "tenun/train/config/config.h"

using namespace tenun;
using namespace tenun::test;

namespace {

RunConfig config_with(const std::string& settings) {
  return parse_config(
      "model:\n  denoiser:\n    class_path: JiT.JiT\n    init_args:\n      depth: 6\n      "
      "in_context_start: 2\n" +
          settings,
      "run.yaml");
}
JiTOptions options_of(const std::string& settings) {
  return config_with(settings).model.denoiser.as<JiTOptions>();
}

}  // namespace

TEST_SUITE("train_attention") {
  TEST_CASE("every method has its name in the configuration") {
    for (const AttentionMethod m : available_attention_methods()) {
      const std::string method(name(m));
      CHECK(options_of("      attention: {method: " + method + "}\n").attention.method == method);
    }
    const AttentionOptions a = options_of(
                                   "      attention: {method: vmoba, selector: threshold, mass: "
                                   "0.3, gate_scope: head_global, token_order: tile}\n")
                                   .attention;
    CHECK(a.selector == Selector::threshold);
    CHECK(a.mass == 0.3);
    CHECK(a.gate_scope == GateScope::head_global);
    CHECK(a.tile == TokenOrder::tile_8x8);
  }

  TEST_CASE("layers start from the settings of all, whichever comes first in the file") {
    const std::string all = "      attention: {method: sla2, block_k: 32, topk_ratio: 0.2}\n";
    const std::string layers =
        "      attention_layers:\n        - {first: 1, last: 2, method: dense}\n        - {first: "
        "4, "
        "method: vsa, topk: 3}\n";
    for (const std::string& text : {all + layers, layers + all}) {
      const JiTOptions o = options_of(text);
      CHECK(o.attention_of(0).method == "sla2");
      CHECK(o.attention_of(2).method == "dense");
      CHECK(o.attention_of(3).method == "sla2");
      CHECK(o.attention_of(5).method == "vsa");
      CHECK(o.attention_of(5).topk == 3);
      CHECK(o.attention_of(5).block_k == 32);
      CHECK(o.attention_of(5).topk_ratio == 0.2);
    }
    // What a run writes down is read back as the same.
    const RunConfig c = config_with(all + layers);
    const JiTOptions again =
        parse_config(resolved_yaml(c), "saved.yaml").model.denoiser.as<JiTOptions>();
    for (int64_t i = 0; i < 6; ++i) {
      CHECK(again.attention_of(i).method ==
            c.model.denoiser.as<JiTOptions>().attention_of(i).method);
      CHECK(again.attention_of(i).block_k == 32);
    }
  }

  TEST_CASE("a range of blocks wins over start_layer, and has none of its own") {
    const JiTOptions o = options_of(
        "      attention: {method: sla2, start_layer: 4}\n"
        "      attention_layers: [{first: 1, last: 2, method: vsa}]\n");
    CHECK(o.attention_of(0).method == "dense");
    CHECK(o.attention_of(2).method == "vsa");
    CHECK(o.attention_of(3).method == "dense");
    CHECK(o.attention_of(4).method == "sla2");
    CHECK_THROWS_WITH_AS(
        (void)options_of("      attention_layers: [{first: 0, method: sla2, start_layer: 3}]\n"),
        doctest::Contains("`first` is where the range starts"), ConfigError);
    JiTOptions direct = o;
    direct.attention_layers[0].options.start_layer = 2;
    CHECK_THROWS_WITH_AS((void)direct.attention_of(0), doctest::Contains("start_layer 2"),
                         ValueError);
  }

  TEST_CASE("mistakes are named") {
    for (const char* text :
         {"      attention: {method: sparge, selector: threshold}\n",
          "      attention: {method: vmoba, selector: random}\n",
          "      attention: {method: sla2, projection: head}\n",
          "      attention: {method: sla2, router_score: softmax}\n",
          "      attention: {method: sla2, quant: {qk: int8, smooth_k: false}}\n",
          "      attention: {method: sla2, quant: {scales: learned}}\n",
          "      attention: {method: sla, quant: {qk: int8, scales: learned}}\n",
          "      attention_layers: [{first: 6}]\n",
          "      attention_layers: [{first: 3, last: 2}]\n",
          "      attention_layers: [{first: 0, tile: 8x8}]\n",
          "      attention_layers: [{first: 0, start_layer: 3}]\n",
          "      attention_layers: [{first: 0, metod: sla}]\n",
          "      attention_layers: {first: 0}\n", "      attention: {levels: 0}\n"}) {
      CAPTURE(text);
      CHECK_THROWS_AS((void)config_with(text), ConfigError);
    }
  }

  TEST_CASE("a checkpoint keeps the structure, and its schedule state wins") {
    JiTOptions o = tiny_native();
    o.attention.method = "vsa";
    const Json saved = attention_state(Net(o).jit);
    std::vector<std::string> notices;
    o.attention.topk_ratio = 0.5, o.attention.topk = 3;
    Net other(o);
    apply_attention_state(other.jit, saved, "state.json", &notices);
    CHECK(notices.size() == 4);
    CHECK(other.jit.attention(2).options.topk_ratio == 0.25);
    CHECK(other.jit.attention(2).options.topk == 0);
    const auto apply = [&](const JiTOptions& changed) {
      Net net(changed);
      apply_attention_state(net.jit, saved, "state.json", nullptr);
    };
    o.attention.block_k = 16;
    CHECK_THROWS_AS(apply(o), ConfigError);
    o.attention.block_k = 8, o.attention.tile = TokenOrder::tile_8x8;
    CHECK_THROWS_AS(apply(o), ConfigError);
    o.attention.tile = TokenOrder::row, o.attention.method = "sla";
    CHECK_THROWS_AS(apply(o), ConfigError);
    o.attention.method = "vsa";
    Net same(o);
    apply_attention_state(same.jit, saved, "state.json", nullptr);
    CHECK(attention_state(same.jit).dump() == saved.dump());
  }
}
