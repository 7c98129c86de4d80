// Every attention method in the JiT network: parameters, gradients, layers, token order, auto,
// statistics of the low-bit forward.
#include <doctest/doctest.h>
#include <fmt/core.h>

#include <string>

#include "tenun/autograd/tape.h"
#include "tenun/tests/jit_util.h"

using namespace tenun;
using namespace tenun::test;

namespace {

JiTOptions tiny_method(const std::string& method) {
  JiTOptions o = tiny_native();
  o.attention.method = method;
  o.attention.topk_ratio = 0.3;
  return o;
}

std::vector<std::string> method_names() {
  std::vector<std::string> all;
  for (const AttentionMethod m : available_attention_methods()) all.emplace_back(name(m));
  return all;
}

}  // namespace

TEST_SUITE("models_jit_methods") {
  TEST_CASE("every method runs, differs from dense, and trains all that it learns") {
    Net dense(tiny());
    shake(dense.store);
    const Tensor reference = image_of(dense);
    for (const std::string& method : method_names()) {
      CAPTURE(method);
      Net n(tiny_method(method));
      shake(n.store);
      copy_weights(n.store, dense.store);
      const Tensor image = image_of(n);
      CHECK(image.all_finite());
      const bool same = method == "dense" || method == "auto";  // too short for anything else
      CHECK((distance(image, reference) < 3e-6) == same);
      Tape tape;
      tape.backward(square_mean(n.jit(wave({2, 3, 32, 32}), times(), labels()).image));
      for (const Parameter& p : n.store) {
        if (p.trainable == Trainable::no || p.name.find("router") != std::string::npos) continue;
        CAPTURE(p.name);
        REQUIRE(p.var.grad().defined());
        CHECK(p.var.grad().all_finite());
        CHECK(Summary(p.var.grad()).largest > 0);
      }
    }
  }

  TEST_CASE("sla and vsa: names of their parameters, zero at the start, gradients by differences") {
    for (const std::string method : {"sla", "vsa"}) {
      CAPTURE(method);
      JiTOptions o = tiny_method(method);
      o.depth = 2, o.input_size = 16, o.in_context_len = 4;
      o.attention.block_q = o.attention.block_k = 4;
      const std::string key = method == "sla" ? "sla.proj" : "vsa.gate_c";
      Net fresh(o);
      for (const char* part : {"weight", "bias"}) {
        const Parameter* p = fresh.store.find(fmt::format("blocks.1.attn.{}.{}", key, part));
        REQUIRE(p != nullptr);
        CHECK(Summary(p->var.value()).largest == 0);
      }
      Net n(o, DType::f64);
      shake(n.store, 0.1);
      const Tensor x = wave({2, 3, 16, 16}, DType::f64), t = times(DType::f64);
      const auto loss = [&] {
        const Var image = n.jit(x, t, labels()).image;
        return mean(image * Var(x)) + square_mean(image);
      };
      {
        Tape tape;
        tape.backward(loss());
      }
      for (const std::string& what :
           {"blocks.1.attn." + key + ".weight", "blocks.0.attn." + key + ".bias",
            std::string("blocks.0.attn.qkv.weight")}) {
        CAPTURE(what);
        Parameter& p = *n.store.find(what);
        const auto g = p.var.grad().values<double>();
        for (const int64_t i : {int64_t{0}, p.var.numel() / 2, p.var.numel() - 1}) {
          const auto at = [&](double h) {
            double* v = p.var.mutable_value().mutable_data<double>() + i;
            const double before = *v;
            *v = before + h;
            const double l = loss().value().item();
            *v = before;
            return l;
          };
          const double slope = (at(1e-5) - at(-1e-5)) / 2e-5;
          CHECK(std::abs(g[static_cast<size_t>(i)] - slope) <= 1e-8 + 1e-5 * std::abs(slope));
        }
      }
    }
  }

  TEST_CASE("attention by layer") {
    JiTOptions o = tiny_native();
    o.attention.start_layer = 1;
    AttentionRange sla{1, 2, o.attention}, vsa{2, -1, o.attention};
    sla.options.method = "sla";
    vsa.options.method = "vsa", vsa.options.topk = 2, vsa.options.tile = TokenOrder::tile_8x8;
    o.attention_layers = {sla, vsa};
    CHECK(o.attention_of(0).method == "dense");
    CHECK(o.attention_of(1).method == "sla");
    CHECK(o.attention_of(2).method == "vsa");
    CHECK(o.attention_of(3).topk == 2);
    CHECK(o.attention_of(3).tile == TokenOrder::row);  // the network's
    Net n(o);
    CHECK(n.store.find("blocks.1.attn.sla.proj.weight") != nullptr);
    CHECK(n.store.find("blocks.2.attn.sla.proj.weight") == nullptr);
    CHECK(n.store.find("blocks.3.attn.vsa.gate_c.weight") != nullptr);
    shake(n.store);
    CHECK(image_of(n).all_finite());
    std::vector<std::string> lines;
    log_sla2_config(n.jit, [&](const std::string& line) { lines.push_back(line); });
    CHECK(lines == std::vector<std::string>{"blocks.1.attn: sla, blocks 8x8, QAT off",
                                            "blocks.2.attn: vsa, blocks 8x8, QAT off",
                                            "blocks.3.attn: vsa, blocks 8x8, QAT off",
                                            "0 of 4 attention layers are SLA2"});
  }

  TEST_CASE("a window knows the tiles of the image; neighbours in the sequence otherwise") {
    JiTOptions o = tiny_method("window");
    o.input_size = 64, o.in_context_len = 0, o.in_context_start = 0;  // 16 x 16 tokens: 2 x 2 tiles
    o.attention.block_q = o.attention.block_k = 64;
    o.attention.tile = TokenOrder::tile_8x8;
    const auto sparsity = [&](int64_t radius) {
      o.attention.radius = radius;
      Net n(o);
      (void)n.jit(wave({2, 3, 64, 64}), times(), labels());
      return n.jit.attention(0).measured_sparsity();
    };
    CHECK(sparsity(0) == doctest::Approx(0.75));
    CHECK(sparsity(1) == doctest::Approx(0));
    o.attention.tile = TokenOrder::row;
    CHECK(sparsity(1) == doctest::Approx(1 - 10.0 / 16));
  }

  TEST_CASE("auto is resolved when the network is built") {
    JiTOptions o = tiny_method("auto");
    CHECK(o.attention_of(0).method == "dense");
    CHECK(Net(o).store.find("blocks.0.attn.sla2.alpha") == nullptr);
    o.input_size = 256, o.attention.topk_ratio = 0.05;  // 64 x 64 tokens
    CHECK(o.attention_of(0).method == "sla2");
  }

  TEST_CASE("alpha by head and block has a row of the length of each layer's sequence") {
    JiTOptions o = tiny_native();
    o.attention.alpha_per = AlphaPer::head_block;
    Net n(o);
    CHECK(n.store.find("blocks.0.attn.sla2.alpha")->var.shape() == Shape{2, 8});
    CHECK(n.store.find("blocks.1.attn.sla2.alpha")->var.shape() == Shape{2, 9});  // in-context
    shake(n.store);
    CHECK(image_of(n).all_finite());
  }

  TEST_CASE("error of the low-bit forward, by layer, on demand") {
    JiTOptions o = tiny_native();
    o.attention.quant = {LowBit::int8, LowBit::int8};
    Net n(o);
    shake(n.store);
    (void)image_of(n);
    CHECK_FALSE(n.jit.attention(1).quant_error().has_value());
    n.jit.attention(1).measure_error = true;
    const Tensor with = image_of(n);
    const auto s = get_sla2_statistics(n.jit);
    const auto at = [&](const char* what) {
      return s.at(fmt::format("sla2_blocks_1_attn/{}", what));
    };
    CHECK(at("quant_cosine") > 0.99);
    CHECK(at("quant_cosine") < 1);
    CHECK(at("quant_rel_l1") > 1e-4);
    CHECK(at("quant_rel_l1") < 0.1);
    for (const char* x : {"q", "k", "v"}) {
      CHECK(at(fmt::format("quant_scale_{}_min", x).c_str()) > 0);
      CHECK(at(fmt::format("quant_scale_{}_max", x).c_str()) >
            at(fmt::format("quant_scale_{}_min", x).c_str()));
    }
    CHECK_FALSE(s.contains("sla2_blocks_2_attn/quant_cosine"));
    n.jit.attention(1).measure_error = false;
    CHECK(same_bits(image_of(n), with));  // measuring changes nothing
    n.jit.attention(1).measure_error = true;
    disable_sla2_qat(n.jit);
    (void)image_of(n);
    CHECK_FALSE(n.jit.attention(1).quant_error().has_value());
  }
}
