#include "tenun/ops/attention/select.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "tenun/autograd/function.h"
#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash.h"
#include "tenun/ops/attention/row_functors.h"
#include "tenun/ops/attention/row_kernel.h"
#include "tenun/ops/attention/select_rows.h"
#include "tenun/ops/attention/token_rows.h"
#include "tenun/ops/functors.h"
#include "tenun/ops/map.h"
#include "tenun/ops/matmul.h"

namespace tenun::attn {
namespace {

int64_t divisor_of(PoolDivisor divisor, int64_t block, int64_t count) {
  return divisor == PoolDivisor::block ? block : count;
}

void block_mean_cpu(Tensor& y, const Tensor& x, int64_t block, PoolDivisor divisor) {
  visit<DType::f32, DType::f64>(compute_dtype(x.dtype()), "block mean", [&]<class T>() {
    const Tokens<T> tokens(x);
    T* const out = y.mutable_data<T>();
    const int64_t n = x.dim(2), d = x.dim(3), count = blocks(n, block);
    parallel_for(0, x.dim(0) * x.dim(1) * count, grain(4 * block * d), [&](int64_t b, int64_t e) {
      std::vector<T> room(static_cast<size_t>(kPanel * d));
      for (int64_t i = b; i < e; ++i) {
        const int64_t first = i % count * block, last = std::min(first + block, n);
        T* __restrict const sum = out + i * d;
        std::fill_n(sum, d, T(0));
        for (int64_t at = first; at < last; at += kPanel) {
          const simd::TokenRows<T> rows =
              tokens.rows(i / count, at, std::min(kPanel, last - at), room.data());
          if constexpr (std::is_same_v<T, float>)
            simd::pack_kernels().sum(rows.p, rows.stride, rows.count, d, sum);
          else
            for (int64_t j = 0; j < rows.count; ++j)
              for (int64_t c = 0; c < d; ++c) sum[c] += rows.p[j * rows.stride + c];
        }
        const auto by = static_cast<T>(divisor_of(divisor, block, last - first));
        for (int64_t c = 0; c < d; ++c) sum[c] /= by;
      }
    });
  });
}

// The k-th largest of n numbers, k <= n; NaN is worse than all. A few of many by insertion, where
// most numbers cost one comparison; else by selection, linear in n.
template <class T>
T kth_largest(const T* x, int64_t n, int64_t k) {
  constexpr int64_t kFew = 32;
  if (k <= kFew) {
    T best[kFew];
    std::fill_n(best, k, -std::numeric_limits<T>::infinity());
    for (int64_t i = 0; i < n; ++i) {
      if (!(x[i] > best[k - 1])) continue;
      int64_t at = k - 1;
      for (; at > 0 && x[i] > best[at - 1]; --at) best[at] = best[at - 1];
      best[at] = x[i];
    }
    return best[k - 1];
  }
  std::vector<T> sorted(x, x + n);
  for (T& v : sorted) v = ranked(v);
  std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
  return sorted[static_cast<size_t>(k - 1)];
}

void topk_blocks_cpu(Tensor& mask, const Tensor& scores, int64_t k, Forced forced) {
  visit<DType::f32, DType::f64>(scores.dtype(), "top-k blocks", [&]<class T>() {
    const int64_t cols = scores.dim(-1);
    each_mask_row<T>(mask, scores, forced, [&](const T* x, uint8_t* m, int64_t first) {
      // The k-th largest score, then whatever is above it, then the first ones that equal it.
      const int64_t take = std::min(k, cols - first);
      if (take <= 0) return;
      const T least = kth_largest(x + first, cols - first, take);
      int64_t equal = take;
      for (int64_t i = first; i < cols; ++i) {
        m[i] = x[i] > least ? 1 : 0;
        equal -= m[i];
      }
      for (int64_t i = first; equal > 0; ++i)
        if (ranked(x[i]) == least) m[i] = 1, --equal;
    });
  });
}

// lambda by Newton steps inside a bracket that is halved where they leave it. In double for all
// types: rows are short.
double offset(const std::vector<double>& x, double target) {
  const auto n = static_cast<double>(x.size());
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const double share = target / n, c = std::abs(std::log(share / (1 - share))) + 1;
  double lo = -*high - c, hi = -*low + c, at = (lo + hi) / 2;
  for (int step = 0; step < 200; ++step) {
    double sum = 0, slope = 0;
    for (const double v : x) {
      const double m = 1 / (1 + std::exp(-(v + at)));
      sum += m, slope += m * (1 - m);
    }
    (sum < target ? lo : hi) = at;
    double next = slope > 0 ? at - (sum - target) / slope : lo;
    if (!(next > lo && next < hi)) next = (lo + hi) / 2;
    const double moved = std::abs(next - at);
    at = next;
    if (moved <= 1e-15 * (1 + std::abs(at))) break;
  }
  return at;
}

void soft_topk_cpu(Tensor& m, const Tensor& x, double target, double tau, Forced forced) {
  visit<DType::f32, DType::f64>(x.dtype(), "soft_topk", [&]<class T>() {
    const T* const in = x.data<T>();
    T* const out = m.mutable_data<T>();
    const int64_t cols = x.dim(-1);
    each_row(x, forced, [&](int64_t r, int64_t first) {
      T* const y = out + r * cols;
      std::fill(y, y + cols, T(1));
      if (target >= static_cast<double>(cols - first)) return;
      std::vector<double> v(in + r * cols + first, in + (r + 1) * cols);
      for (double& s : v) s /= tau;
      const double lambda = offset(v, target);
      for (int64_t i = first; i < cols; ++i)
        y[i] = static_cast<T>(1 / (1 + std::exp(-(v[static_cast<size_t>(i - first)] + lambda))));
    });
  });
}

void soft_topk_backward_cpu(Tensor& dx, const Tensor& dm, const Tensor& m, double tau) {
  visit<DType::f32, DType::f64>(m.dtype(), "soft_topk", [&]<class T>() {
    const T *const value = m.data<T>(), *const in = dm.data<T>();
    T* const out = dx.mutable_data<T>();
    const int64_t cols = m.dim(-1);
    each_row(m, {}, [&](int64_t r, int64_t) {
      double weight = 0, sum = 0;
      for (int64_t i = r * cols; i < (r + 1) * cols; ++i) {
        const double g = static_cast<double>(value[i]) * (1 - static_cast<double>(value[i]));
        weight += g, sum += g * static_cast<double>(in[i]);
      }
      const double mean = weight > 0 ? sum / weight : 0;
      for (int64_t i = r * cols; i < (r + 1) * cols; ++i) {
        const double g = static_cast<double>(value[i]) * (1 - static_cast<double>(value[i]));
        out[i] = static_cast<T>(g / tau * (static_cast<double>(in[i]) - mean));
      }
    });
  });
}

struct BlockMean {
  static constexpr const char* name = "block_mean";
  int64_t block;
  PoolDivisor divisor;
  Shape shape{};
  DType type = DType::f32;

  Tensor forward(const Ctx&, const Tensor& x) {
    shape = x.shape(), type = x.dtype();
    Tensor y({x.dim(0), x.dim(1), blocks(x.dim(2), block), x.dim(3)}, compute_dtype(x.dtype()),
             x.device());
    kernel::block_mean(x.device(), y, x, block, divisor);
    return y;
  }
  Grads<1> backward(const Ctx&, const Tensor& dy_) {
    const Tensor dy = dy_.contiguous();
    Tensor dx(shape, dy.dtype(), dy.device());
    visit<DType::f32, DType::f64>(dy.dtype(), name, [&]<class T>() {
      run_rows(dy.device(), shape[0] * shape[1] * shape[2], 4 * shape[3], [&] {
        return BlockMeanGradient<T>{dy.data<T>(),
                                    dx.mutable_data<T>(),
                                    shape[2],
                                    shape[3],
                                    block,
                                    blocks(shape[2], block),
                                    divisor == PoolDivisor::block};
      });
    });
    return {dx.to(type)};
  }
};

Tensor scaled(const Tensor& x, double by) { return map(fn::MulScalar(by), x); }

struct BlockScores {
  static constexpr const char* name = "block_scores";
  double scale;
  Saved a{}, b{};

  Tensor forward(const Ctx& c, const Tensor& a_, const Tensor& b_) {
    if (c.recording) a = a_, b = b_;
    return scaled(matmul(a_, b_.transpose(-2, -1)), scale);
  }
  Grads<2> backward(const Ctx& c, const Tensor& dy) {
    Grads<2> g;
    if (c.needs[0]) g[0] = scaled(matmul(dy, b.get()), scale);
    if (c.needs[1]) g[1] = scaled(matmul(dy.transpose(-2, -1), a.get()), scale);
    return g;
  }
};

struct SoftTopk {
  static constexpr const char* name = "soft_topk";
  static constexpr Cast cast = Cast::f32;
  double target, tau;
  Forced forced;
  Saved m{};
  DType type = DType::f32;

  Tensor forward(const Ctx& c, const Tensor& x) {
    type = x.dtype();
    Tensor y(x.shape(), compute_dtype(type), x.device());
    kernel::soft_topk_forward(x.device(), y, x.to(y.dtype()).contiguous(), target, tau, forced);
    if (c.recording) m = y;
    return y.to(type);
  }
  Grads<1> backward(const Ctx&, const Tensor& dy) {
    const Tensor& y = m.get();
    Tensor dx(y.shape(), y.dtype(), y.device());
    kernel::soft_topk_backward(y.device(), dx, dy.to(y.dtype()).contiguous(), y, tau);
    return {dx.to(type)};
  }
};

}  // namespace

constinit Kernel<void(Tensor& y, const Tensor& x, int64_t block, PoolDivisor divisor)>
    kernel::block_mean{"block mean", block_mean_cpu};
constinit Kernel<void(Tensor& mask, const Tensor& scores, int64_t k, Forced forced)>
    kernel::topk_blocks{"top-k blocks", topk_blocks_cpu};
constinit Kernel<void(Tensor& m, const Tensor& x, double target, double tau, Forced forced)>
    kernel::soft_topk_forward{"soft_topk forward", soft_topk_cpu};
constinit Kernel<void(Tensor& dx, const Tensor& dm, const Tensor& m, double tau)>
    kernel::soft_topk_backward{"soft_topk backward", soft_topk_backward_cpu};

int64_t share_of(double ratio, int64_t count) {
  return static_cast<int64_t>(std::floor(ratio * static_cast<double>(count) + 1e-6));
}
int64_t selected_count(double ratio, int64_t count) {
  return std::clamp<int64_t>(share_of(ratio, count), 1, std::max<int64_t>(count, 1));
}

Tensor block_mean(const Tensor& x, int64_t block) {
  Tensor y({x.dim(0), x.dim(1), blocks(x.dim(2), block), x.dim(3)}, compute_dtype(x.dtype()),
           x.device());
  kernel::block_mean(x.device(), y, x, block, PoolDivisor::count);
  return y;
}
Var block_mean(const Var& x, int64_t block, PoolDivisor divisor) {
  return apply(BlockMean{.block = block, .divisor = divisor}, x);
}
Var block_scores(const Var& a, const Var& b, double scale) {
  return apply(BlockScores{.scale = scale}, a, b);
}
Tensor topk_blocks(const Tensor& scores, int64_t k, Forced forced) {
  Tensor mask(scores.shape(), DType::u8, scores.device());
  kernel::topk_blocks(scores.device(), mask, scores.contiguous(), k, forced);
  return mask;
}
Var soft_topk(const Var& x, double target, double tau, Forced forced) {
  check<ShapeError>(x.rank() >= 1, "soft_topk", "needs at least one axis, got {}", x.value());
  check(target > 0, "soft_topk", "the target {} must be positive", target);
  check(tau > 0, "soft_topk", "tau {} must be positive", tau);
  return apply(SoftTopk{.target = target, .tau = tau, .forced = forced}, x);
}

void check_ratio(const char* op, const char* what, double ratio) {
  check(ratio >= 0 && ratio <= 1, op, "{} must be in [0, 1], got {}", what, ratio);
}

double density(const Tensor& mask) {
  if (mask.dtype() == DType::u8) {  // flags; without a copy
    const Tensor flags = mask.to(cpu()).contiguous();
    const auto m = flags.span<uint8_t>();
    const auto on = m.size() - static_cast<size_t>(std::count(m.begin(), m.end(), 0));
    return m.empty() ? 0 : static_cast<double>(on) / static_cast<double>(m.size());
  }
  const std::vector<double> m = mask.values<double>();
  return m.empty() ? 0 : std::accumulate(m.begin(), m.end(), 0.0) / static_cast<double>(m.size());
}

}  // namespace tenun::attn
