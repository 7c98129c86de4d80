// Selection by mass, of the worst, and at random; and the selectors by name.
#include "tenun/core/check.h"
#include "tenun/core/random.h"
#include "tenun/ops/attention/methods.h"
#include "tenun/ops/attention/select_rows.h"
#include "tenun/ops/elementwise.h"

namespace tenun {
namespace attn {
namespace {

// How many of the values in descending order are taken.
size_t prefix_length(const std::vector<double>& share, double p, Selector convention) {
  double sum = 0;
  size_t n = 0;
  if (convention == Selector::top_p) {
    while (n < share.size() && sum < p) sum += share[n++];
    return n;
  }
  for (const double s : share) {
    sum += s;
    if (!(sum <= p)) break;
    ++n;
  }
  return std::max<size_t>(n, 1);
}

void mass_blocks_cpu(Tensor& mask, const Tensor& scores, double p, Selector convention,
                     Forced forced) {
  visit<DType::f32, DType::f64>(scores.dtype(), "blocks by mass", [&]<class T>() {
    const int64_t cols = scores.dim(-1);
    each_mask_row<T>(mask, scores, forced, [&](const T* x, uint8_t* m, int64_t first) {
      const auto order = best_first(x, first, cols, cols);
      if (order.empty()) return;
      const T most = ranked(x[order[0]]);
      std::vector<double> share;
      double total = 0;
      for (const int64_t i : order) {
        // Where all scores are -inf, all are equal.
        const double e =
            ranked(x[i]) == most ? 1 : std::exp(static_cast<double>(ranked(x[i]) - most));
        share.push_back(e);
        total += e;
      }
      for (double& s : share) s /= total;
      const size_t take = std::min(prefix_length(share, p, convention), order.size());
      for (size_t i = 0; i < take; ++i) m[order[i]] = 1;
    });
  });
}

// `count` blocks of each row, by the order of random numbers of the element.
Tensor random_blocks(const Tensor& like, int64_t count, RandomKey key, Forced forced) {
  Tensor numbers(like.shape(), DType::f32, like.device());
  fill_uniform(numbers, key);
  return topk_blocks(numbers, count, forced);
}

}  // namespace

constinit Kernel<void(Tensor& mask, const Tensor& scores, double p, Selector convention,
                      Forced forced)>
    kernel::mass_blocks{"blocks by mass", mass_blocks_cpu};

Tensor mass_blocks(const Tensor& scores, double p, Selector convention, Forced forced) {
  Tensor mask(scores.shape(), DType::u8, scores.device());
  kernel::mass_blocks(scores.device(), mask, scores.contiguous(), p, convention, forced);
  return mask;
}

Tensor with_lowest(const Tensor& mask, const Tensor& scores_, int64_t k) {
  // On the host: a mask is small, and nothing else sorts from the low end.
  const Tensor scores = scores_.to(cpu()).contiguous();
  Tensor out = mask.to(cpu()).clone();
  visit<DType::f32, DType::f64>(scores.dtype(), "lowest blocks", [&]<class T>() {
    uint8_t* const m = out.mutable_data<uint8_t>();
    const T* const x = scores.data<T>();
    const int64_t cols = scores.dim(-1);
    each_row(scores, {}, [&](int64_t r, int64_t) {
      const auto order = best_first(x + r * cols, 0, cols, cols);
      int64_t left = k;
      for (auto i = order.rbegin(); i != order.rend() && left > 0; ++i)
        if (m[r * cols + *i] == 0) m[r * cols + *i] = 1, --left;
    });
  });
  return out.to(mask.device());
}

Forced forced_by(int64_t prefix, const Tensor& q, const Tensor& k, int64_t block_q,
                 int64_t block_k) {
  return {std::min(blocks(prefix, block_q), blocks(q.dim(2), block_q)),
          std::min(blocks(prefix, block_k), blocks(k.dim(2), block_k))};
}

int64_t count_of(const AttentionSpec& spec, int64_t count) {
  const double wanted = spec.topk > 0
                            ? static_cast<double>(spec.topk)
                            : std::ceil(spec.topk_ratio * static_cast<double>(count) - 1e-6);
  return static_cast<int64_t>(
      std::clamp(wanted, 1.0, static_cast<double>(std::max<int64_t>(count, 1))));
}

void check_self(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, int64_t block) {
  check_qkv(op, q, k, v);
  check_blocks(op, q, k, nullptr, block, block);
  check<ShapeError>(q.dim(2) == k.dim(2), op, "is self-attention: q {} and k {} differ in length",
                    q, k);
}

Tensor select_blocks(const char* op, const Tensor& scores, const AttentionSpec& spec,
                     Forced forced) {
  const int64_t count = selected_count(spec.topk_ratio, scores.dim(3));
  switch (spec.selector) {
    case Selector::topk: return topk_blocks(scores, count, forced);
    case Selector::top_p:
    case Selector::cdf: return mass_blocks(scores, spec.mass, spec.selector, forced);
    case Selector::random: return random_blocks(scores, count, spec.key, forced);
    case Selector::topk_top_p:
      return maximum(Var(topk_blocks(scores, count, forced)),
                     Var(mass_blocks(scores, spec.mass, Selector::top_p, forced)))
          .value();
    case Selector::threshold: break;
  }
  fail(op, "takes the selectors topk, top_p, topk_top_p, cdf and random, not {}",
       name(spec.selector));
}

}  // namespace attn

Tensor top_p_block_map(const Tensor& scores, double p, Selector convention) {
  constexpr const char* kOp = "top_p_block_map";
  check<ShapeError>(scores.rank() >= 1, kOp, "needs at least one axis, got {}", scores);
  check<DTypeError>(is_floating(scores.dtype()), kOp, "needs floating scores, got {}", scores);
  check(convention == Selector::top_p || convention == Selector::cdf, kOp,
        "knows top_p and cdf, not {}", name(convention));
  return attn::mass_blocks(scores.to(attn::compute_dtype(scores.dtype())), p, convention);
}

}  // namespace tenun
