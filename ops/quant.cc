#include "tenun/ops/quant.h"

#include <algorithm>
#include <cmath>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/functors_other.h"
#include "tenun/ops/map.h"
#include "tenun/ops/sum.h"

namespace tenun {
namespace {

// The groups of a tensor, seen as [P, N, D].
struct Groups {
  int64_t p = 1, n = 1, d = 1;
  int64_t tokens = 0;  // of a group; 0: a group is a channel

  Groups(const Shape& x, const QuantOptions& o) {
    const int r = x.size();
    if (o.granularity == Granularity::tensor) {
      n = tokens = 1;
      d = x.numel();
      return;
    }
    for (int i = 0; i + 2 < r; ++i) p *= x[i];
    n = r >= 2 ? x[r - 2] : 1, d = x[r - 1];
    tokens = o.granularity == Granularity::token   ? 1
             : o.granularity == Granularity::block ? o.block
                                                   : 0;
  }
  [[nodiscard]] int64_t count() const { return (n + tokens - 1) / tokens; }  // in each of P
  [[nodiscard]] int64_t size() const { return tokens == 0 ? n : std::min(tokens, n) * d; }
  [[nodiscard]] Shape scales() const { return {p, tokens == 0 ? d : count()}; }

  // Scales of the groups, for broadcasting against [P, N, D].
  [[nodiscard]] Tensor spread(const Tensor& scale) const {
    if (tokens == 0) return scale.reshape({p, 1, d});
    if (tokens == 1) return scale.reshape({p, n, 1});
    return scale.reshape({p, count(), 1})
        .expand({p, count(), tokens})
        .reshape({p, count() * tokens, 1})
        .slice(1, 0, n);
  }
  // The adjoint of spread, for terms of shape [P, N, D].
  [[nodiscard]] Tensor gather(const Tensor& terms) const {
    if (tokens == 0) return sum_axes(terms, 0b010, false);
    const Tensor rows = sum_axes(terms, 0b100, false);
    if (tokens == 1) return rows;
    Tensor whole = Tensor::zeros({p, count() * tokens}, rows.dtype(), rows.device());
    Tensor front = whole.slice(1, 0, n);
    front.copy_(rows);
    return sum_axes(whole.view({p, count(), tokens}), 0b100, false);
  }
  [[nodiscard]] Tensor flat(const Tensor& x) const { return x.reshape({p, n, d}); }
};

// NaN wins and stays.
template <class C>
C larger(C most, C x) {
  const C a = x < 0 ? -x : x;
  return a > most || a != a ? a : most;
}

// Maxima are exact in any order, so the pieces may be cut freely: long groups are cut in pieces.
template <class T>
void scale_of_rows(Compute<T>* scale, const T* x, int64_t p, int64_t n, int64_t d, int64_t tokens) {
  using C = Compute<T>;
  constexpr int64_t kPiece = 1 << 14;
  const int64_t groups = (n + tokens - 1) / tokens, most = std::min(tokens, n) * d;
  const int64_t pieces = std::max<int64_t>(1, (most + kPiece - 1) / kPiece);
  std::vector<C> part(static_cast<size_t>(p * groups * pieces));
  parallel_for(0, p * groups * pieces,
               std::max<int64_t>(1, kPiece * 2 / std::max<int64_t>(most, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t group = i / pieces, first = group % groups * tokens;
                   const int64_t size = std::min(tokens, n - first) * d;
                   const int64_t a = i % pieces * kPiece, b = std::min(size, a + kPiece);
                   const T* const from = x + (group / groups * n + first) * d;
                   constexpr int kLanes = 16;
                   C lane[kLanes] = {};
                   int64_t j = a;
                   for (; j + kLanes <= b; j += kLanes)
                     for (int k = 0; k < kLanes; ++k)
                       lane[k] = larger(lane[k], static_cast<C>(from[j + k]));
                   for (; j < b; ++j) lane[0] = larger(lane[0], static_cast<C>(from[j]));
                   C m = 0;
                   for (const C v : lane) m = larger(m, v);
                   part[static_cast<size_t>(i)] = m;
                 }
               });
  for (int64_t g = 0; g < p * groups; ++g) {
    C m = 0;
    for (int64_t k = 0; k < pieces; ++k) m = larger(m, part[static_cast<size_t>(g * pieces + k)]);
    scale[g] = m / C(127);
  }
}

template <class T>
void scale_of_channels(Compute<T>* scale, const T* x, int64_t p, int64_t n, int64_t d) {
  using C = Compute<T>;
  constexpr int64_t kWidth = 64;  // channels that one task walks over all tokens
  const int64_t strips = (d + kWidth - 1) / kWidth;
  parallel_for(0, p * strips, std::max<int64_t>(1, 32768 / std::max<int64_t>(n * kWidth, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) {
                   const int64_t a = i % strips * kWidth, width = std::min(kWidth, d - a);
                   const T* from = x + i / strips * n * d + a;
                   C most[kWidth] = {};
                   for (int64_t t = 0; t < n; ++t, from += d)
                     for (int64_t c = 0; c < width; ++c)
                       most[c] = larger(most[c], static_cast<C>(from[c]));
                   for (int64_t c = 0; c < width; ++c)
                     scale[i / strips * d + a + c] = most[c] / C(127);
                 }
               });
}

void int8_scale_cpu(Tensor& scale, const Tensor& x, int64_t tokens) {
  visit_float(x.dtype(), "quantize_int8", [&]<class T>() {
    auto* const to = scale.mutable_data<Compute<T>>();
    if (tokens == 0)
      scale_of_channels(to, x.data<T>(), x.dim(0), x.dim(1), x.dim(2));
    else
      scale_of_rows(to, x.data<T>(), x.dim(0), x.dim(1), x.dim(2), tokens);
  });
}

// The dynamic scales [P, groups] of x [P, N, D].
Tensor dynamic_scale(const Tensor& x, const Groups& g) {
  Tensor scale(g.scales(), x.dtype() == DType::f64 ? DType::f64 : DType::f32, x.device());
  kernel::int8_scale(x.device(), scale, x.contiguous(), g.tokens);
  return scale;
}

struct FakeQuant {
  static constexpr const char* name = "fake_quant_int8";
  QuantOptions options;

  Tensor forward(const Ctx&, const Tensor& x) {
    const Groups g(x.shape(), options);
    const Tensor flat = g.flat(x);
    return map(fn::ToGrid{}, flat, g.spread(dynamic_scale(flat, g))).view(x.shape());
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) { return {dy}; }
};

struct FakeQuantLearned {
  static constexpr const char* name = "fake_quant_int8";
  QuantOptions options;
  ScaleGradient gradient;
  Saved x{}, scale{};

  Tensor forward(const Ctx& c, const Tensor& x_, const Tensor& scale_) {
    if (c.recording) x = x_, scale = scale_;
    const Groups g(x_.shape(), options);
    return map(fn::ToLearnedGrid{}, g.flat(x_), g.spread(scale_)).view(x_.shape());
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    const Groups g(dy.shape(), options);
    const Tensor d = g.flat(dy), v = g.flat(x.get()), s = g.spread(scale.get());
    Grads<2> grads;
    if (c.needs[0]) grads[0] = map(fn::PassInside{}, d, v, s).view(dy.shape());
    if (c.needs[1]) {
      const double n = 127.0 * static_cast<double>(std::max<int64_t>(g.size(), 1));
      const fn::ScaleTerm term{gradient == ScaleGradient::lsq ? 1 / std::sqrt(n) : 1.0};
      grads[1] = g.gather(map(term, s, v, d)).reshape(scale.get().shape());
    }
    return grads;
  }
};

}  // namespace

constinit Kernel<void(Tensor& scale, const Tensor& x, int64_t tokens)> kernel::int8_scale{
    "quantize_int8", int8_scale_cpu};

Granularity granularity_from_name(std::string_view name) {
  if (name == "tensor") return Granularity::tensor;
  if (name == "block") return Granularity::block;
  if (name == "token") return Granularity::token;
  check(name == "channel", "quantisation",
        "unknown granularity '{}'; there are tensor, block, token, channel", name);
  return Granularity::channel;
}

Shape scale_shape(const Shape& x, const QuantOptions& o) {
  const int r = x.size();
  const int least = o.granularity == Granularity::tensor  ? 0
                    : o.granularity == Granularity::token ? 1
                                                          : 2;
  check<ShapeError>(r >= least, "quantize_int8", "this granularity needs rank {} or more, got {}",
                    least, x);
  check(o.granularity != Granularity::block || o.block >= 1, "quantize_int8",
        "granularity block needs block >= 1, got {}", o.block);
  switch (o.granularity) {
    case Granularity::tensor: return {};
    case Granularity::token: return {x.begin(), x.end() - 1};
    case Granularity::channel: {
      Shape s(x.begin(), x.end() - 1);
      s[r - 2] = x[r - 1];
      return s;
    }
    default: {
      Shape s(x.begin(), x.end() - 1);
      s[r - 2] = x[r - 2] / o.block + (x[r - 2] % o.block != 0 ? 1 : 0);
      return s;
    }
  }
}

Quantized quantize_int8(const Tensor& x, const QuantOptions& o) {
  const Shape shape = scale_shape(x.shape(), o);
  const Groups g(x.shape(), o);
  const Tensor flat = g.flat(x), scale = dynamic_scale(flat, g), spread = g.spread(scale);
  Tensor q(flat.shape(), DType::i8, x.device());
  if (q.numel() > 0)
    kernel::map<fn::ToInt8>(x.device(), q, MapInputs{&flat, &spread}, fn::ToInt8{});
  return {q.view(x.shape()), scale.view(shape)};
}

Var fake_quant_int8(const Var& x, const QuantOptions& o) {
  (void)scale_shape(x.shape(), o);  // checks the options
  return apply(FakeQuant{o}, x);
}

Var fake_quant_int8(const Var& x, const Var& scale, const QuantOptions& o, ScaleGradient gradient) {
  const Shape want = scale_shape(x.shape(), o);
  check<ShapeError>(scale.shape() == want, "fake_quant_int8", "scale {} for x {}; expected {}",
                    scale.value(), x.value(), want);
  check<DTypeError>(is_floating(scale.dtype()), "fake_quant_int8",
                    "the scale must be floating, got {}", name(scale.dtype()));
  return apply(FakeQuantLearned{o, gradient}, x, scale);
}

}  // namespace tenun
