#include "tenun/ops/attention/flash_detail.h"

#include "tenun/core/parallel.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"
#include "tenun/ops/attention/select.h"

namespace tenun::attn {
namespace {

template <class T>
T largest(const T* x, int64_t n) {
  T m = 0;
  for (int64_t i = 0; i < n; ++i) m = larger(m, std::abs(x[i]));
  return m;
}

// Rounds rows in groups of `block` to integers of one unit each: x becomes amax / 127 times them.
template <class T>
Tensor round_rows(Tensor& x, int64_t block) {
  const int64_t heads = x.dim(0) * x.dim(1), n = x.dim(2), d = x.dim(3), groups = blocks(n, block);
  Tensor unit({heads, groups}, x.dtype());
  T* const p = x.mutable_data<T>();
  T* const u = unit.mutable_data<T>();
  parallel_for(0, heads * groups, grain(8 * block * d), [&](int64_t b, int64_t e) {
    for (int64_t g = b; g < e; ++g) {
      const int64_t first = g % groups * block, count = std::min(block, n - first) * d;
      T* const at = p + (g / groups * n + first) * d;
      u[g] = largest(at, count) / T(127);
      for (int64_t i = 0; i < count; ++i) at[i] = u[g] > 0 ? std::rint(at[i] / u[g]) : T(0);
    }
  });
  return unit;
}

Tensor round_channels(Tensor& x, LowBit to) {
  const int64_t heads = x.dim(0) * x.dim(1), n = x.dim(2), d = x.dim(3);
  Tensor unit = Tensor::zeros({heads, d}, x.dtype());
  double* const p = x.mutable_data<double>();
  double* const u = unit.mutable_data<double>();
  const auto rounded = [&](double y) {
    return to == LowBit::fp8 ? static_cast<double>(e4m3(y)) : std::rint(y);
  };
  parallel_for(0, heads, grain(8 * n * d), [&](int64_t b, int64_t e) {
    for (int64_t h = b; h < e; ++h) {
      double* const at = p + h * n * d;
      double* const scale = u + h * d;
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < d; ++c) scale[c] = larger(scale[c], std::abs(at[i * d + c]));
      for (int64_t c = 0; c < d; ++c) scale[c] /= largest_value(to);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < d; ++c)
          at[i * d + c] = scale[c] > 0 ? rounded(at[i * d + c] / scale[c]) : 0;
    }
  });
  return unit;
}

}  // namespace

LowBitOperands low_bit_operands(const Tensor& q, Tensor& k, Tensor& v, const FlashArgs& args) {
  LowBitOperands low{args.quant, {}, {}, {}};
  if (!args.quant.any()) return low;
  k = smoothed(k);
  if (low.qk()) {
    low.q_unit = Tensor({q.dim(0) * q.dim(1), blocks(q.dim(2), args.block_q)}, q.dtype());
    double* const unit = low.q_unit.mutable_data<double>();
    const Heads<double> heads(q);
    const int64_t groups = blocks(q.dim(2), args.block_q);
    for (int64_t g = 0; g < q.dim(0) * q.dim(1) * groups; ++g) {
      const int64_t first = g % groups * args.block_q;
      const int64_t last = std::min(first + args.block_q, q.dim(2));
      double most = 0;
      for (int64_t i = first; i < last; ++i)
        most = larger(most, largest(heads[g / groups].row(i), q.dim(3)));
      unit[g] = most / 127;
    }
    low.k_unit = round_rows<double>(k, args.block_k);
  }
  if (low.pv()) {
    v = v.clone();
    low.v_unit = round_channels(v, args.quant.pv);
  }
  return low;
}

Tensor token_mean(const Tensor& x) { return block_mean(x, std::max<int64_t>(x.dim(2), 1)); }

Tensor smoothed(const Tensor& x_) {
  const Tensor x = compute_rows(x_), mean = token_mean(x);
  Tensor y(x.shape(), x.dtype(), x.device());
  visit<DType::f32, DType::f64>(x.dtype(), "smooth", [&]<class T>() {
    const Shape& s = x.strides();
    run_rows(x.device(), x.dim(0) * x.dim(1) * x.dim(2), 4 * x.dim(3), [&] {
      return SubtractMean<T>{x.data<T>(), mean.data<T>(), y.mutable_data<T>(),
                             x.dim(1),    s[0],           s[1],
                             s[2],        x.dim(2),       x.dim(3)};
    });
  });
  return y;
}

Tensor log2_of(const Tensor& weight) {
  if (!weight.defined()) return {};
  Tensor y(weight.shape(), weight.dtype());
  const Tensor x = weight.contiguous();
  visit<DType::f32, DType::f64>(x.dtype(), "soft mask", [&]<class T>() {
    const T* const in = x.data<T>();
    T* const out = y.mutable_data<T>();
    for (int64_t i = 0; i < x.numel(); ++i)
      out[i] = std::log2(std::max(in[i], std::numeric_limits<T>::min()));
  });
  return y;
}

void keep_factors(float* out, int64_t by_key, int64_t by_query, const FlashArgs& args, int64_t bh,
                  int64_t nq, int64_t nk, int64_t q0, int64_t queries, int64_t k0, int64_t keys) {
  const auto factor = static_cast<float>(1 / (1 - args.dropout));
  const auto drop = static_cast<float>(args.dropout);
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t base = (bh * nq + q0 + i) * nk;
    Philox four{};
    int64_t held = -1;
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t at = base + k0 + j;
      if (at / 4 != held) {
        held = at / 4;
        four = Philox::at(args.key.key, 0, static_cast<uint64_t>(held));
      }
      out[j * by_key + i * by_query] = uniform_from_bits(four.x[at % 4]) < drop ? 0.0f : factor;
    }
  }
}

}  // namespace tenun::attn
