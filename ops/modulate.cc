#include "tenun/ops/modulate.h"

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/ops/functors_norm.h"
#include "tenun/ops/norm_rows.h"
#include "tenun/ops/rows.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

// dx = dy (1 + scale), dscale = sum over N of dy x, dshift = sum over N of dy.
struct Modulate {
  static constexpr const char* name = "modulate";
  static constexpr Cast cast = Cast::widest;
  Saved x{}, scale{};

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& shift, const Tensor& scale_) {
    if (c.recording) x = x_, scale = scale_;
    return map(fn::ScaleShift{}, x_, scale_.unsqueeze(1), shift.unsqueeze(1));
  }
  Grads<3> backward(const Ctx& c, const Tensor& dy) {
    const Tensor& v = x.get();
    const Tensor gain = map(fn::AddNumber{1}, in_compute(scale.get(), v.dtype()));
    const RowGrads r =
        norm_rows_backward(when(c.needs[0], RowWants::dx) | when(c.needs[1], RowWants::sum_dy) |
                               when(c.needs[2], RowWants::sum_dyx),
                           dy, v, {}, v.dim(0), gain);
    return {r.dx, r.sum_dy.defined() ? r.sum_dy.to(v.dtype()) : Tensor(),
            r.sum_dyx.defined() ? r.sum_dyx.to(v.dtype()) : Tensor()};
  }
};

// With x^ = x / rms(x): gain = w (1 + scale), dshift = sum dy, dscale = w sum dy x^,
// dw = sum over B of (1 + scale) sum dy x^; dx as in rms_norm with that gain.
struct RmsNormModulate {
  static constexpr const char* name = "rms_norm_modulate";
  double eps = 0;
  DType out = DType::f32;
  Saved x{}, weight{}, scale{}, rstd{};
  DType shift_dtype = DType::f32;

  // Both [B, C] in the compute type; the weight may be absent.
  [[nodiscard]] static Tensor gain(const Tensor& w, const Tensor& s, DType d) {
    const Tensor scale = in_compute(s, d);
    return w.defined() ? map(fn::ScaleBy{}, in_compute(w, d), scale) : map(fn::AddNumber{1}, scale);
  }

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& w, const Tensor& shift,
                 const Tensor& s) {
    RowStats stats;
    const DType d = x_.dtype();
    const Tensor y = norm_rows(RowNorm::rms, stats, x_, x_.dim(0), gain(w, s, d),
                               in_compute(shift, d), eps, out);
    if (c.recording) x = x_, weight = w, scale = s, rstd = stats.rstd, shift_dtype = shift.dtype();
    return y;
  }
  Grads<4> backward(const Ctx& c, const Tensor& dy) {
    const Tensor &v = x.get(), &w = weight.get(), &s = scale.get();
    const DType d = v.dtype();
    const RowGrads r =
        norm_rows_backward(when(c.needs[0], RowWants::dx) | when(c.needs[2], RowWants::sum_dy) |
                               when(c.needs[1] || c.needs[3], RowWants::sum_dyx),
                           dy, v, {.mean = {}, .rstd = rstd.get()}, v.dim(0), gain(w, s, d));
    Grads<4> g;
    if (c.needs[0]) g[0] = r.dx;
    if (c.needs[1])
      g[1] = sum_axes(map(fn::ScaleBy{}, r.sum_dyx, in_compute(s, d)), 1, false).to(w.dtype());
    if (c.needs[2]) g[2] = r.sum_dy.to(shift_dtype);
    if (c.needs[3])
      g[3] =
          (w.defined() ? map(fn::TimesBy{}, r.sum_dyx, in_compute(w, d)) : r.sum_dyx).to(s.dtype());
    return g;
  }
};

// dh = dout; dy = gate dout; dgate = sum over N of y dout.
struct ResidualGate {
  static constexpr const char* name = "residual_gate";
  Saved gate{}, y{};
  DType h_dtype = DType::f32;

  Tensor forward(const Ctx& c, const Tensor& h, const Tensor& gate_, const Tensor& y_) {
    if (c.recording) {
      h_dtype = h.dtype();
      if (c.needs[1] || c.needs[2]) gate = gate_, y = y_;
    }
    Tensor out(y_.shape(), wider(h.dtype(), y_.dtype()), y_.device());
    const Tensor g = gate_.unsqueeze(1);
    kernel::map<fn::GatedSum>(out.device(), out, MapInputs{&h, &g, &y_}, fn::GatedSum{});
    return out;
  }
  Grads<3> backward(const Ctx& c, const Tensor& dout) {
    Grads<3> g;
    if (c.needs[0]) g[0] = dout.to(h_dtype);
    if (!c.needs[1] && !c.needs[2]) return g;
    const Tensor &v = y.get(), &gt = gate.get();
    const RowGrads r =
        norm_rows_backward(when(c.needs[2], RowWants::dx) | when(c.needs[1], RowWants::sum_dyx),
                           dout, v, {}, v.dim(0), in_compute(gt, wider(v.dtype(), dout.dtype())));
    if (c.needs[1]) g[1] = r.sum_dyx.to(gt.dtype());
    if (c.needs[2]) g[2] = r.dx;
    return g;
  }
};

struct LayerScale {
  static constexpr const char* name = "layer_scale";
  static constexpr Cast cast = Cast::widest;
  Saved x{}, gamma{};

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& gamma_) {
    if (c.recording) {
      gamma = gamma_;
      if (c.needs[1]) x = x_;
    }
    return map(fn::TimesBy{}, x_, gamma_);
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    if (!c.needs[1]) return {map(fn::TimesBy{}, dy, gamma.get()), Tensor()};
    const Tensor& v = x.get();
    const RowGrads r =
        norm_rows_backward(when(c.needs[0], RowWants::dx) | RowWants::sum_dyx, dy, v, {}, 1,
                           in_compute(gamma.get(), v.dtype()).view({1, v.dim(-1)}));
    return {r.dx, r.sum_dyx.view({v.dim(-1)}).to(gamma.get().dtype())};
  }
};

void check_tokens(const char* op, const Var& x) {
  check<DTypeError>(is_floating(x.dtype()), op, "needs a floating type, got {}", x.value());
  check<ShapeError>(x.rank() == 3, op, "x must be [B, N, C], got {}", x.value());
}
void check_vector(const char* op, const char* what, const Var& v, const Var& x) {
  const Shape want{x.dim(0), x.dim(2)};
  check<ShapeError>(v.shape() == want, op, "{} {} for x {}: expected {}", what, v.value(),
                    x.value(), want);
}

}  // namespace

Var modulate(const Var& x, const Var& shift, const Var& scale) {
  check_tokens("modulate", x);
  check_vector("modulate", "shift", shift, x);
  check_vector("modulate", "scale", scale, x);
  return apply(Modulate{}, x, shift, scale);
}

Var rms_norm_modulate(const Var& x, const Var& weight, const Var& shift, const Var& scale,
                      double eps) {
  const char* const op = "rms_norm_modulate";
  check_tokens(op, x);
  check_vector(op, "shift", shift, x);
  check_vector(op, "scale", scale, x);
  check<ShapeError>(!weight.defined() || weight.shape() == Shape{x.dim(2)}, op,
                    "weight {} for x {}: expected [{}]", weight.value(), x.value(), x.dim(2));
  const DType low = Autocast::dtype();
  const DType out = low != DType::f32 && x.dtype() != DType::f64 ? low : x.dtype();
  return apply(RmsNormModulate{.eps = eps, .out = out}, x, weight, shift, scale);
}

Var residual_gate(const Var& h, const Var& gate, const Var& y) {
  check_tokens("residual_gate", y);
  check<ShapeError>(h.shape() == y.shape(), "residual_gate", "h {} and y {} differ in shape",
                    h.value(), y.value());
  check_vector("residual_gate", "gate", gate, y);
  return apply(ResidualGate{}, h, gate, y);
}

Var layer_scale(const Var& x, const Var& gamma) {
  check<ShapeError>(x.rank() >= 1 && gamma.shape() == Shape{x.dim(-1)}, "layer_scale",
                    "gamma {} for x {}: expected one number for each channel", gamma.value(),
                    x.value());
  return apply(LayerScale{}, x, gamma);
}

}  // namespace tenun
