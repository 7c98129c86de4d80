// Layers: plain structs that hold their parameters and are called like functions. Weights have
// PyTorch's shapes and names; x is [..., features] unless stated.
//
//   nn::Linear fc(scope / "fc", 768, 3072);
//   Var y = fc(x);
#pragma once
#include "tenun/nn/parameters.h"
#include "tenun/ops/dropout.h"

namespace tenun::nn {

enum class Bias : uint8_t { no, yes };

/// y = x weight^T + bias; weight (out, in).
struct Linear {
  Param weight, bias;
  Linear() = default;
  Linear(const ParameterScope& p, int64_t in, int64_t out,
         Bias with_bias = Bias::yes);  ///< Init::fan_in, as PyTorch
  Linear(const ParameterScope& p, int64_t in, int64_t out, const Init& w, const Init& b,
         Bias with_bias = Bias::yes);
  [[nodiscard]] Var operator()(const Var& x) const;
};

/// A row of the table for each id; ids i64 of any shape.
struct Embedding {
  Param weight;
  Embedding() = default;
  Embedding(const ParameterScope& p, int64_t count, int64_t width,
            const Init& init = Init::normal(1));
  [[nodiscard]] Var operator()(const Tensor& ids) const;
};

/// y = weight x / sqrt(mean(x^2) + eps) over the last axis.
struct RMSNorm {
  Param weight;
  double eps = 1e-6;
  RMSNorm() = default;
  RMSNorm(const ParameterScope& p, int64_t width, double eps_ = 1e-6);
  [[nodiscard]] Var operator()(const Var& x) const;
};

/// y = weight (x - mean) / sqrt(var + eps) + bias over the last axis.
struct LayerNorm {
  Param weight, bias;
  double eps = 1e-5;
  LayerNorm() = default;
  LayerNorm(const ParameterScope& p, int64_t width, double eps_ = 1e-5);
  [[nodiscard]] Var operator()(const Var& x) const;
};

/// w3(silu(a) * b) with [a, b] = w12(x): the feed-forward network of JiT. The hidden width is
/// int(int(width * ratio) * 2 / 3), truncated.
struct SwiGLU {
  Linear w12, w3;
  double drop = 0;
  SwiGLU() = default;
  SwiGLU(const ParameterScope& p, int64_t width, double ratio, double drop_prob);
  /// `keys`: randomness of the dropout, a key for each sample; used in training only.
  [[nodiscard]] Var operator()(const Var& x, const SampleKeys* keys = nullptr) const;
  [[nodiscard]] static int64_t hidden(int64_t width, double ratio) {
    return static_cast<int64_t>(
        static_cast<double>(static_cast<int64_t>(static_cast<double>(width) * ratio)) * 2 / 3);
  }
};

}  // namespace tenun::nn
