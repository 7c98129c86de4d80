// The JiT network: attention by name, gradients, options, mixed precision, dropout.
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

TEST_SUITE("models_jit_attention") {
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
      const SampleKeys keys{{3}, {4}};
      Tape tape;
      const auto out = n.jit(wave({2, 3, 32, 32}), times(), labels(), {.training = &keys});
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
    const SampleKeys keys{{9}, {10}};
    const Tensor x = wave({2, 3, 16, 16}, DType::f64), t = times(DType::f64);
    const auto loss = [&] {
      const Var image = n.jit(x, t, labels(), {.training = &keys}).image;
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

  TEST_CASE("learned units of the low-bit forward: parameters with gradients, idle without QAT") {
    JiTOptions o = tiny_native(0.4);
    o.attention.quant.qk = LowBit::int8;
    Net plain(o);
    o.attention.quant.scales = QuantScales::learned;
    Net n(o);
    CHECK(n.store.size() == plain.store.size() + 8);  // two in each of four blocks
    shake(n.store, 0.02);
    copy_weights(plain.store, n.store);
    CHECK(distance(image_of(n), image_of(plain)) > 0);
    CHECK(distance(image_of(n), image_of(plain)) < 0.05);
    Tape tape;
    tape.backward(square_mean(n.jit(wave({2, 3, 32, 32}), times(), labels()).image));
    for (const char* name : {"blocks.2.attn.sla2.q_step", "blocks.2.attn.sla2.k_step"}) {
      const Parameter* p = n.store.find(name);
      REQUIRE(p != nullptr);
      REQUIRE(p->var.grad().defined());
      CHECK(p->var.grad().values<float>()[0] != 0);
    }
    disable_sla2_qat(n.jit);
    disable_sla2_qat(plain.jit);
    CHECK(same_bits(image_of(n), image_of(plain)));
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
      const SampleKeys keys{{11}, {12}}, other{{13}, {14}};
      const auto feature = [&](int64_t layer, const SampleKeys* k) {
        return n
            .jit(wave({2, 3, 32, 32}), times(), labels(), {.return_layer = layer, .training = k})
            .feature.value();
      };
      // depth 8: blocks 2 to 5 drop.
      CHECK(same_bits(feature(2, &keys), feature(2, nullptr)));
      CHECK_FALSE(same_bits(feature(3, &keys), feature(3, nullptr)));
      CHECK(same_bits(feature(8, &keys), feature(8, &keys)));
      CHECK_FALSE(same_bits(feature(8, &keys), feature(8, &other)));
      CHECK(same_bits(image_of(n), image_of(n)));
      // A sample's masks are its own: alone, it gets what it got among others.
      const Tensor both = feature(8, &keys);
      for (int64_t i = 0; i < 2; ++i) {
        const SampleKeys own{keys[static_cast<size_t>(i)]};
        const Tensor alone =
            n.jit(Var(wave({2, 3, 32, 32}).slice(0, i, i + 1)), times().slice(0, i, i + 1),
                  labels().slice(0, i, i + 1), {.return_layer = 8, .training = &own})
                .feature.value();
        CHECK(distance(alone, both.slice(0, i, i + 1)) < 1e-5);
      }
      const SampleKeys few{{11}};
      CHECK_THROWS_AS((void)feature(8, &few), ShapeError);
      // Block 6 and 7 add the same to the same input: with blocks 2..5 cut off, training is
      // evaluation.
      for (int i = 2; i <= 5; ++i)
        for (const char* s : {"weight", "bias"})
          n.store.find(fmt::format("blocks.{}.adaLN_modulation.1.{}", i, s))
              ->var.mutable_value()
              .fill_(0);
      CHECK(same_bits(feature(8, &keys), feature(8, nullptr)));
    }
  }
}
