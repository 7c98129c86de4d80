// Operands for `tenun bench attention` and `tenun viz`: random ones, those of a file, and
// those that a trained network hands to its attention while it draws a picture.
// A file is safetensors. q, k (B, H, N, D) and optionally v and what the method learned (kLearned)
// stand in it under these names, under `layers.N.` for every block N, or under `in.` as in
// a reference file (docs/golden_files.md). Its metadata may state the method as JSON (`spec`,
// `layers.N.spec`, `attrs`: method, block_q, block_k, topk_ratio, prefix, ...; without one it is
// sla2) and the token grid (`grid`: tokens in a row of the image; `tile`: 1, or 8 for tiles of 8 x
// 8). save_layers writes both, and `picture` (3, S, S) in [-1, 1], what a network drew meanwhile.
#pragma once
#include <array>
#include <string>
#include <vector>

#include "tenun/ops/attention/attention.h"

namespace tenun::tools {

struct AttentionLayer {
  int64_t layer = 0;
  Tensor q, k, v;  ///< f32 (B, H, N, D); v may be undefined in files
  AttentionSpec spec;
  AttentionParams params;
};

struct AttentionLayers {
  std::string source;  ///< "random", or the path
  int64_t grid = 0;    ///< image tokens in a row; 0: the tokens are no image
  int64_t tile = 1;    ///< the image tokens come in tiles of tile x tile
  std::vector<AttentionLayer> layers;
  Tensor picture{};  ///< f32 (3, S, S): what the first sample became; undefined: unknown
};

/// A block's operands for the first sample of the batch alone; v is k where there is none.
[[nodiscard]] AttentionLayer first_sample(const AttentionLayer& l);

/// What methods learn, by the names that it has in files.
struct Learned {
  const char* name;
  Var AttentionParams::*at;
};
inline constexpr std::array<Learned, 9> kLearned{{{"router_q", &AttentionParams::router_q},
                                                  {"router_k", &AttentionParams::router_k},
                                                  {"alpha", &AttentionParams::alpha},
                                                  {"proj_l", &AttentionParams::proj_l},
                                                  {"proj_weight", &AttentionParams::proj_weight},
                                                  {"proj_bias", &AttentionParams::proj_bias},
                                                  {"gate_c", &AttentionParams::gate_c},
                                                  {"q_step", &AttentionParams::q_step},
                                                  {"k_step", &AttentionParams::k_step}}};

/// Standard normal q, k, v.
[[nodiscard]] AttentionLayer random_layer(int64_t batch, int64_t heads, int64_t n, int64_t d,
                                          uint64_t seed);
/// What `spec.method` learns, as it might be after training: routers near the identity, gates near
/// one half. Values that `given` has are kept.
[[nodiscard]] AttentionParams fill_params(const AttentionSpec& spec, const Tensor& q,
                                          const AttentionParams& given, uint64_t seed);
/// Sets what makes the method leave out about this share of the blocks.
void set_sparsity(AttentionSpec& spec, double sparsity, int64_t keys);

/// IoError where shapes do not fit each other.
[[nodiscard]] AttentionLayers load_layers(const std::string& path);
void save_layers(const std::string& path, const AttentionLayers& layers);

struct CaptureOptions {
  std::string ckpt, config;      ///< config empty: config.yaml of the checkpoint's run
  std::vector<int64_t> classes;  ///< one picture each; empty: the first class
  int64_t steps = 10;            ///< of the sampler; operands are those of the middle evaluation
  uint64_t seed = 0;
};
/// Draws pictures with the averaged weights and keeps what every block's attention gets (the half
/// of the batch that is told its class).
[[nodiscard]] AttentionLayers capture_layers(const CaptureOptions& o);

}  // namespace tenun::tools
