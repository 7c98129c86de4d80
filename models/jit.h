// JiT: the plain vision transformer that predicts a clean image from a noisy one ("Back to Basics:
// Let Denoising Generative Models Denoise", arXiv 2511.13720), with attention by name in every
// block, so that JiTSLA2 is the same network with other options. Names, shapes and order of the
// parameters are PixelGen's.
//
//   ParameterStore store(seed);
//   JiT net(store.root(), options);
//   JiTOutput out = net(x, t, y);               // x (B,3,S,S) in [-1,1], t (B) in [0,1], y (B) i64
//   labels out.image                                   // (B,3,S,S): the prediction of the clean
//   image
//
// The null class of classifier-free guidance is y = num_classes. t = 0 is noise, t = 1 is data.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "tenun/models/jit_options.h"
#include "tenun/nn/layers.h"
#include "tenun/ops/attention/attention.h"

namespace tenun {

/// What an observer of a block's attention sees: the operands as the method got them (after norms
/// and rotation; in-context tokens first), and what it gave.
struct JiTAttentionCall {
  const Var &q, &k, &v;
  const AttentionSpec& spec;
  const AttentionParams& params;
  const AttentionOutput& out;
};

/// The attention of one block: its parameters, and the state that schedules and users change.
class JiTAttention {
 public:
  JiTAttention(const ParameterScope& p, const JiTOptions& o, int64_t layer);
  struct Out {
    Var y;
    Var aux;  ///< router loss, weighted; undefined where there is none
  };
  /// h (B, N, C); the first `prefix` tokens are in-context ones. `keys`: dropout of each sample, in
  /// training only.
  [[nodiscard]] Out operator()(const Var& h, int64_t prefix, const SampleKeys* keys) const;

  AttentionOptions
      options;       ///< mode, topk_ratio, tau, soft_iters, aux_weight may change between steps
  bool qat = false;  ///< low-bit forward on or off
  bool measure_error = false;  ///< forward passes also keep quant_error(), where qat is on
  std::function<void(const JiTAttentionCall&)> observe;  ///< called after each forward pass
  [[nodiscard]] bool is_sla2() const {
    return options.method == "sla2" || options.method == "pixelgen_sla2";
  }
  [[nodiscard]] const Param& alpha() const { return alpha_; }
  [[nodiscard]] int64_t router_parameters() const;
  /// Of the last forward pass: measured share of blocks without exact attention; 0 for dense.
  [[nodiscard]] double measured_sparsity() const { return 1 - density_; }
  /// Of the last forward pass with measure_error: what the low-bit products cost.
  [[nodiscard]] const std::optional<AttentionQuantError>& quant_error() const { return error_; }

 private:
  [[nodiscard]] AttentionSpec spec(int64_t prefix) const;
  int64_t heads_, grid_, tile_;
  double attn_drop_, proj_drop_;
  nn::Linear qkv_, proj_;
  Param q_norm_, q_norm_bias_, k_norm_, k_norm_bias_;  // biases: LayerNorm of pixelgen_sla2
  Param alpha_, router_q_, router_k_, proj_l_;
  Param q_step_, k_step_;         // learned units of the low-bit forward
  nn::Linear sla_proj_, gate_c_;  // of sla; of vsa
  int64_t layer_;
  mutable Measured density_ = 1;
  mutable std::optional<AttentionQuantError> error_;
};

struct JiTForward {
  int64_t return_layer = -1;  ///< capture the tokens after so many blocks (0: the embedding)
  bool return_last = false;   ///< capture the tokens before the final layer
  const SampleKeys* training = nullptr;  ///< randomness of each sample; set in training only
};

struct JiTOutput {
  Var image;
  Var feature;  ///< (B, T, C), with return_layer; in-context tokens removed
  Var last;     ///< (B, T, C), with return_last
  Var aux;      ///< sum of the router losses; undefined if there is none
};

class JiT {
 public:
  JiT(const ParameterScope& p, const JiTOptions& o);
  [[nodiscard]] JiTOutput operator()(const Var& x, const Tensor& t, const Tensor& y,
                                     const JiTForward& f = {}) const;
  [[nodiscard]] const JiTOptions& options() const { return o_; }
  /// The attention modules, by block.
  [[nodiscard]] JiTAttention& attention(int64_t layer) {
    return blocks_[static_cast<size_t>(layer)].attn;
  }
  [[nodiscard]] const JiTAttention& attention(int64_t layer) const {
    return blocks_[static_cast<size_t>(layer)].attn;
  }
  [[nodiscard]] int64_t depth() const { return static_cast<int64_t>(blocks_.size()); }
  /// Multiply-accumulates of one forward pass of one image (dense attention counted in full).
  [[nodiscard]] double macs() const;

 private:
  struct Block {
    Param norm1;
    JiTAttention attn;
    Param norm2;
    nn::SwiGLU mlp;
    nn::Linear modulation;
  };
  [[nodiscard]] Var embed_patches(const Var& x) const;
  [[nodiscard]] Var image_of(const Var& tokens) const;

  JiTOptions o_;
  int64_t grid_, tile_;
  Param pos_embed_, in_context_;
  nn::Linear time0_, time2_;
  nn::Embedding labels_;
  Param patch1_, patch1_bias_, patch2_, patch2_bias_;
  std::vector<Block> blocks_;
  Param final_norm_;
  nn::Linear final_linear_, final_modulation_;
};

// The utilities of PixelGen's SLA2 training.
void enable_sla2_qat(JiT& net);
void disable_sla2_qat(JiT& net);
/// "sla2_blocks_0_attn/alpha_mean", ".../alpha_std", ".../sparsity", ".../router_params" (alpha
/// after the sigmoid); after a forward pass with measure_error also "quant_cosine", "quant_rel_l1"
/// and "quant_scale_{q,k,v}_{min,max}".
[[nodiscard]] std::map<std::string, double> get_sla2_statistics(const JiT& net);
/// One line for each SLA2 block (sparsity, top-k, feature map, QAT, router parameters) and a total.
void log_sla2_config(const JiT& net, const std::function<void(const std::string&)>& print);

}  // namespace tenun
