#include "tenun/nn/layers.h"

#include "tenun/ops/dropout.h"
#include "tenun/ops/index.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/norm.h"
#include "tenun/ops/swiglu.h"

namespace tenun::nn {

Linear::Linear(const ParameterScope& p, int64_t in, int64_t out, const Init& w, const Init& b,
               Bias with_bias)
    : weight(p.add("weight", {out, in}, w)),
      bias(with_bias == Bias::yes ? p.add("bias", {out}, b) : Param()) {}
Linear::Linear(const ParameterScope& p, int64_t in, int64_t out, Bias with_bias)
    : Linear(p, in, out, Init::fan_in(in), Init::fan_in(in), with_bias) {}
Var Linear::operator()(const Var& x) const { return linear(x, weight, bias); }

Embedding::Embedding(const ParameterScope& p, int64_t count, int64_t width, const Init& init)
    : weight(p.add("weight", {count, width}, init)) {}
Var Embedding::operator()(const Tensor& ids) const { return embedding(weight, ids); }

RMSNorm::RMSNorm(const ParameterScope& p, int64_t width, double eps_)
    : weight(p.add("weight", {width}, Init::ones())), eps(eps_) {}
Var RMSNorm::operator()(const Var& x) const { return rms_norm(x, weight, eps); }

LayerNorm::LayerNorm(const ParameterScope& p, int64_t width, double eps_)
    : weight(p.add("weight", {width}, Init::ones())),
      bias(p.add("bias", {width}, Init::zeros())),
      eps(eps_) {}
Var LayerNorm::operator()(const Var& x) const { return layer_norm(x, weight, bias, eps); }

SwiGLU::SwiGLU(const ParameterScope& p, int64_t width, double ratio, double drop_prob)
    : w12(p / "w12", width, 2 * hidden(width, ratio), Init::xavier(width, 2 * hidden(width, ratio)),
          Init::zeros()),
      w3(p / "w3", hidden(width, ratio), width, Init::xavier(hidden(width, ratio), width),
         Init::zeros()),
      drop(drop_prob) {}
Var SwiGLU::operator()(const Var& x, const SampleKeys* keys) const {
  Var u = swiglu(w12(x));
  if (keys != nullptr && drop > 0) u = dropout(u, drop, *keys);
  return w3(u);
}

}  // namespace tenun::nn
