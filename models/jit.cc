#include "tenun/models/jit.h"

#include <cmath>

#include "tenun/core/check.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/modulate.h"
#include "tenun/ops/norm.h"
#include "tenun/ops/patchify.h"
#include "tenun/ops/shape.h"
#include "tenun/ops/sinusoid.h"

namespace tenun {
namespace {

constexpr double kEps = 1e-6;           // of every RMSNorm
constexpr int64_t kTimeChannels = 256;  // of the sinusoid

// Dropout acts in the middle half of the blocks.
bool drops(const JiTOptions& o, int64_t layer) {
  return layer >= o.depth / 4 && layer < o.depth / 4 * 3;
}

nn::Linear zero_linear(const ParameterScope& p, int64_t in, int64_t out) {
  return {p, in, out, Init::zeros(), Init::zeros()};
}

// (B, G*G, C) in raster order <-> square tiles of `tile` x `tile` tokens, tile by tile.
Var to_tiles(const Var& h, int64_t grid, int64_t tile) {
  const int64_t b = h.dim(0), c = h.dim(2), n = grid / tile;
  return reshape(permute(reshape(h, {b, n, tile, n, tile, c}), {0, 1, 3, 2, 4, 5}),
                 {b, grid * grid, c});
}
Var from_tiles(const Var& h, int64_t grid, int64_t tile) {
  const int64_t b = h.dim(0), c = h.dim(2), n = grid / tile;
  return reshape(permute(reshape(h, {b, n, n, tile, tile, c}), {0, 1, 3, 2, 4, 5}),
                 {b, grid * grid, c});
}

// Vectors of the sample: m (B, k*C) as k views of (B, C).
std::vector<Var> vectors(const Var& m, int64_t k) { return chunk(m, k, 1); }

}  // namespace

JiT::JiT(const ParameterScope& p, const JiTOptions& o) : o_(o) {
  check(o.input_size > 0 && o.patch_size > 0 && o.input_size % o.patch_size == 0, "JiT",
        "input_size {} is no multiple of patch_size {}", o.input_size, o.patch_size);
  check(o.hidden_size % o.num_heads == 0 && o.head_dim() % 4 == 0, "JiT",
        "hidden_size {} over {} heads must give a multiple of 4 (rotary pairs in two directions)",
        o.hidden_size, o.num_heads);
  check(o.in_context_len == 0 || o.in_context_start < o.depth, "JiT",
        "in_context_start {} must be below depth {}", o.in_context_start, o.depth);
  grid_ = o.input_size / o.patch_size;
  tile_ = o.attention_of(o.depth - 1).tile == TokenOrder::tile_8x8 ? 8 : 1;
  check(grid_ % tile_ == 0, "JiT",
        "a token grid of {} x {} cannot be cut into 8 x 8 tiles; use attention.tile: row", grid_,
        grid_);
  const int64_t c = o.hidden_size;
  const int64_t patch_in = o.in_channels * o.patch_size * o.patch_size;
  pos_embed_ =
      p.add("pos_embed", {1, grid_ * grid_, c},
            Init::constant(sincos_pos_embed(c, grid_, DType::f32).unsqueeze(0)), Trainable::no);
  if (o.in_context_len > 0)
    in_context_ = p.add("in_context_posemb", {1, o.in_context_len, c}, Init::normal(0.02));
  time0_ = {p / "t_embedder.mlp.0", kTimeChannels, c, Init::normal(0.02), Init::zeros()};
  time2_ = {p / "t_embedder.mlp.2", c, c, Init::normal(0.02), Init::zeros()};
  labels_ = {p / "y_embedder.embedding_table", o.num_classes + 1, c, Init::normal(0.02)};
  const ParameterScope x = p / "x_embedder";
  if (o.use_bottleneck) {
    patch1_ = (x / "proj1")
                  .add("weight", {o.bottleneck_dim, o.in_channels, o.patch_size, o.patch_size},
                       Init::xavier(patch_in, o.bottleneck_dim));
    patch2_ =
        (x / "proj2").add("weight", {c, o.bottleneck_dim, 1, 1}, Init::xavier(o.bottleneck_dim, c));
    patch2_bias_ = (x / "proj2").add("bias", {c}, Init::zeros());
  } else {
    patch1_ = (x / "proj1")
                  .add("weight", {c, o.in_channels, o.patch_size, o.patch_size},
                       Init::xavier(patch_in, c));
    patch1_bias_ = (x / "proj1").add("bias", {c}, Init::zeros());
  }
  for (int64_t i = 0; i < o.depth; ++i) {
    const ParameterScope b = p / "blocks" / i;
    const Param norm1 = (b / "norm1").add("weight", {c}, Init::ones());
    JiTAttention attn(b / "attn", o, i);
    const Param norm2 = (b / "norm2").add("weight", {c}, Init::ones());
    nn::SwiGLU mlp(b / "mlp", c, o.mlp_ratio, drops(o, i) ? o.proj_drop : 0);
    blocks_.push_back(
        {norm1, std::move(attn), norm2, mlp, zero_linear(b / "adaLN_modulation.1", c, 6 * c)});
  }
  const ParameterScope f = p / "final_layer";
  final_norm_ = (f / "norm_final").add("weight", {c}, Init::ones());
  final_linear_ = zero_linear(f / "linear", c, patch_in);
  final_modulation_ = zero_linear(f / "adaLN_modulation.1", c, 2 * c);
}

// The convolution with kernel = stride = patch as a matrix product: x [B,C,S,S] -> patches
// [B,T,C*p*p].
Var JiT::embed_patches(const Var& x) const {
  const int64_t b = x.dim(0), ch = o_.in_channels, s = o_.patch_size;
  const Var patches = reshape(permute(reshape(x, {b, ch, grid_, s, grid_, s}), {0, 2, 4, 1, 3, 5}),
                              {b, grid_ * grid_, ch * s * s});
  const Var h = linear(patches, view(patch1_, {patch1_.value().dim(0), ch * s * s}), patch1_bias_);
  return patch2_.defined()
             ? linear(h, view(patch2_, {o_.hidden_size, o_.bottleneck_dim}), patch2_bias_)
             : h;
}

Var JiT::image_of(const Var& tokens) const {
  return unpatchify(tokens, o_.patch_size, o_.in_channels);
}

JiTOutput JiT::operator()(const Var& x, const Tensor& t, const Tensor& y,
                          const JiTForward& f) const {
  check<ShapeError>(x.shape() == Shape{x.dim(0), o_.in_channels, o_.input_size, o_.input_size},
                    "JiT", "x {} should be (B, {}, {}, {})", x.value(), o_.in_channels,
                    o_.input_size, o_.input_size);
  check<ShapeError>(t.shape() == Shape{x.dim(0)} && y.shape() == Shape{x.dim(0)}, "JiT",
                    "t {} and y {} should be ({})", t, y, x.dim(0));
  const int64_t b = x.dim(0), c = o_.hidden_size, len = o_.in_context_len,
                start = o_.in_context_start;
  const DType dtype = pos_embed_.value().dtype();

  const Var te = time2_(silu(time0_(timestep_embedding(t.to(dtype), kTimeChannels))));  // [B,C]
  const Var ye = labels_(y);                                                            // [B,C]
  const Var cond = silu(te + ye);                        // every modulation starts with this SiLU
  Var h = embed_patches(x) + pos_embed_.var().detach();  // [B,T,C]
  if (tile_ > 1) h = to_tiles(h, grid_, tile_);
  const auto raster = [&](const Var& v) { return tile_ > 1 ? from_tiles(v, grid_, tile_) : v; };

  JiTOutput out;
  int64_t prefix = 0;
  for (int64_t i = 0; i < o_.depth; ++i) {
    const Block& block = blocks_[static_cast<size_t>(i)];
    if (f.return_layer == i) out.feature = raster(prefix > 0 ? slice(h, 1, prefix) : h);
    if (i == start && len > 0) {
      h = concat({unsqueeze(ye, 1) + in_context_.var(), h}, 1);  // [B,L+T,C]
      prefix = len;
    }
    const auto m =
        vectors(block.modulation(cond), 6);  // shift, scale, gate of attention, then of the MLP
    SampleKeys attn_keys, mlp_keys;
    if (f.training != nullptr) {
      attn_keys = derive_keys(*f.training, Purpose::dropout, static_cast<uint64_t>(i), 0);
      mlp_keys = derive_keys(*f.training, Purpose::dropout, static_cast<uint64_t>(i), 1);
    }
    const auto a = block.attn(rms_norm_modulate(h, block.norm1, m[0], m[1], kEps), prefix,
                              f.training != nullptr ? &attn_keys : nullptr);
    h = residual_gate(h, m[2], a.y);
    if (a.aux.defined()) out.aux = out.aux.defined() ? out.aux + a.aux : a.aux;
    const Var u = block.mlp(rms_norm_modulate(h, block.norm2, m[3], m[4], kEps),
                            f.training != nullptr ? &mlp_keys : nullptr);
    h = residual_gate(h, m[5], u);
  }
  if (f.return_layer == o_.depth) out.feature = raster(prefix > 0 ? slice(h, 1, prefix) : h);
  if (prefix > 0) h = slice(h, 1, prefix);  // [B,T,C]
  if (f.return_last) out.last = raster(h);
  const auto m = vectors(final_modulation_(cond), 2);
  const Var o = final_linear_(rms_norm_modulate(h, final_norm_, m[0], m[1], kEps));  // [B,T,p*p*3]
  out.image = image_of(raster(o));
  check(out.image.dim(0) == b && h.dim(2) == c, "JiT", "internal shape error");
  return out;
}

double JiT::macs() const {
  const auto c = static_cast<double>(o_.hidden_size), t = static_cast<double>(grid_ * grid_),
             len = static_cast<double>(o_.in_context_len);
  const auto hidden = static_cast<double>(nn::SwiGLU::hidden(o_.hidden_size, o_.mlp_ratio));
  const auto pixels = static_cast<double>(o_.in_channels * o_.patch_size * o_.patch_size),
             bottleneck = static_cast<double>(o_.bottleneck_dim);
  double sum = o_.use_bottleneck ? t * (pixels * bottleneck + bottleneck * c) : t * pixels * c;
  sum += kTimeChannels * c + c * c;
  for (int64_t i = 0; i < o_.depth; ++i) {
    const double n = t + (i >= o_.in_context_start ? len : 0);
    sum += n * (3 * c * c + c * c + 3 * hidden * c) + 2 * n * n * c + 6 * c * c;
    if (attention(i).options.method == "pixelgen_sla2")
      sum += n * c * c + 2 * n * c * c / static_cast<double>(o_.num_heads);
  }
  return sum + 2 * c * c + t * c * pixels;
}

}  // namespace tenun
