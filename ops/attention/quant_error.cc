// How far the low-bit forward is from the unrounded one: what monitors of quantisation-aware
// training show.
#include <algorithm>
#include <cmath>

#include "tenun/autograd/tape.h"
#include "tenun/core/check.h"
#include "tenun/ops/attention/attention.h"
#include "tenun/ops/attention/flash_detail.h"
#include "tenun/ops/attention/tile.h"

namespace tenun {
namespace {

// Scales of groups of `block` rows (all channels), or of each channel over all rows (block 0).
ScaleRange scales(const Tensor& x_, int64_t block, LowBit type) {
  const Tensor x = attn::compute_rows(x_.to(cpu()));
  const int64_t n = x.dim(2), d = x.dim(3);
  const int64_t groups = block > 0 ? attn::blocks(n, block) : d;
  ScaleRange range{std::numeric_limits<double>::infinity(), 0};
  visit<DType::f32, DType::f64>(x.dtype(), "quant error", [&]<class T>() {
    const attn::Heads<T> heads(x);
    std::vector<double> most(static_cast<size_t>(groups));
    for (int64_t h = 0; h < x.dim(0) * x.dim(1); ++h) {
      std::fill(most.begin(), most.end(), 0.0);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < d; ++c) {
          double& m = most[static_cast<size_t>(block > 0 ? i / block : c)];
          m = std::max(m, std::abs(static_cast<double>(heads[h].row(i)[c])));
        }
      for (const double m : most) {
        const double scale = m / attn::largest_value(type);
        range = {std::min(range.low, scale), std::max(range.high, scale)};
      }
    }
  });
  return range.low <= range.high ? range : ScaleRange{};
}

}  // namespace

AttentionQuantError attention_quant_error(const Tensor& q, const Tensor& k, const Tensor& v,
                                          const AttentionSpec& spec,
                                          const AttentionParams& params) {
  attn::check_qkv("attention_quant_error", q, k, v);
  const NoGrad constant;
  AttentionSpec exact = spec;
  exact.quant = {};
  exact.aux = false;
  // Without rounding, `sage` is dense attention; by itself it rounds q k^T.
  const bool sage = spec.method == AttentionMethod::sage;
  if (sage) exact.method = AttentionMethod::dense;
  const Quant quant = sage && !spec.quant.any() ? Quant{LowBit::int8, LowBit::none} : spec.quant;
  AttentionQuantError e;
  if (!quant.any()) return e;
  const auto got = attention(q, k, v, spec, params).o.value().values<double>(),
             want = attention(q, k, v, exact, params).o.value().values<double>();
  double xy = 0, xx = 0, yy = 0, distance = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    xy += got[i] * want[i], xx += got[i] * got[i], yy += want[i] * want[i];
    distance += std::abs(got[i] - want[i]), size += std::abs(want[i]);
  }
  if (xx > 0 && yy > 0) e.cosine = xy / std::sqrt(xx * yy);
  if (size > 0) e.rel_l1 = distance / size;
  if (quant.qk != LowBit::none) {
    e.q = scales(q, spec.block_q, quant.qk);
    e.k = scales(attn::smoothed(k), spec.block_k, quant.qk);
  }
  if (quant.pv != LowBit::none) e.v = scales(v, 0, quant.pv);
  return e;
}

}  // namespace tenun
