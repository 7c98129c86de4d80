#include "tenun/ops/attention/flash.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/ops/attention/router.h"
#include "tenun/ops/attention/select_rows.h"
#include "tenun/ops/attention/token_rows.h"

namespace tenun::attn {
namespace {

void row_dot_cpu(Tensor& delta, const Tensor& a, const Tensor& b) {
  visit<DType::f32, DType::f64>(delta.dtype(), "row_dot", [&]<class T>() {
    const Tokens<T> ta(a), tb(b);
    T* const out = delta.mutable_data<T>();
    const int64_t n = a.dim(2), d = a.dim(3), per_head = blocks(n, kPanel);
    const int64_t panels = a.dim(0) * a.dim(1) * per_head;
    parallel_for(0, panels, grain(4 * kPanel * d), [&](int64_t begin, int64_t end) {
      std::vector<T> room(static_cast<size_t>(2 * kPanel * d));
      for (int64_t p = begin; p < end; ++p) {
        const int64_t bh = p / per_head, first = p % per_head * kPanel;
        const int64_t count = std::min(kPanel, n - first);
        const simd::TokenRows<T> xs = ta.rows(bh, first, count, room.data()),
                                 ys = tb.rows(bh, first, count, room.data() + kPanel * d);
        for (int64_t i = 0; i < count; ++i)
          out[bh * n + first + i] = dot(xs.p + i * xs.stride, ys.p + i * ys.stride, d);
      }
    });
  });
}

// Calls f(i) for the bytes that are not 0. Masks are mostly 0: those are passed over by eights.
template <class F>
void each_set(const uint8_t* p, int64_t n, F&& f) {
  for (int64_t i = 0; i < n;) {
    uint64_t eight = 1;
    if (i + 8 <= n) std::memcpy(&eight, p + i, 8);
    if (eight == 0) {
      i += 8;
      continue;
    }
    for (const int64_t end = std::min(i + 8, n); i < end; ++i)
      if (p[i] != 0) f(i);
  }
}

void block_lists_cpu(BlockLists& l, const Tensor& m) {
  const uint8_t* const on = m.data<uint8_t>();
  const int64_t heads = m.dim(0) * m.dim(1), rows = m.dim(2), cols = m.dim(3);
  l.row_start = Tensor::zeros({heads * rows + 1}, DType::i64);
  l.col_start = Tensor::zeros({heads * cols + 1}, DType::i64);
  int64_t* const row_start = l.row_start.mutable_data<int64_t>();
  int64_t* const col_start = l.col_start.mutable_data<int64_t>();
  // f(row, column) for what is selected in a head, row by row.
  const auto each = [&](int64_t head, auto&& f) {
    for (int64_t i = 0; i < rows; ++i)
      each_set(on + (head * rows + i) * cols, cols, [&](int64_t j) { f(i, j); });
  };
  const int64_t task = grain(rows * cols);
  parallel_for(0, heads, task, [&](int64_t b, int64_t e) {
    for (int64_t h = b; h < e; ++h)
      each(h, [&](int64_t i, int64_t j) {
        ++row_start[h * rows + i + 1], ++col_start[h * cols + j + 1];
      });
  });
  for (int64_t i = 0; i < heads * rows; ++i) row_start[i + 1] += row_start[i];
  for (int64_t i = 0; i < heads * cols; ++i) col_start[i + 1] += col_start[i];
  l.row_index = Tensor({row_start[heads * rows]}, DType::i32);
  l.col_index = Tensor({row_start[heads * rows]}, DType::i32);
  int32_t* const row_index = l.row_index.mutable_data<int32_t>();
  int32_t* const col_index = l.col_index.mutable_data<int32_t>();
  parallel_for(0, heads, task, [&](int64_t b, int64_t e) {
    for (int64_t h = b; h < e; ++h) {
      std::vector<int64_t> next(col_start + h * cols, col_start + (h + 1) * cols);
      int64_t at = row_start[h * rows];
      each(h, [&](int64_t i, int64_t j) {
        row_index[at++] = static_cast<int32_t>(j);
        col_index[next[static_cast<size_t>(j)]++] = static_cast<int32_t>(i);
      });
    }
  });
}

}  // namespace

constinit Kernel<void(Tensor& delta, const Tensor& a, const Tensor& b)> kernel::row_dot{
    "row_dot", row_dot_cpu};
constinit Kernel<void(BlockLists& lists, const Tensor& flags)> kernel::block_lists{"block lists",
                                                                                   block_lists_cpu};

FlashResult flash_forward(const Tensor& q, const Tensor& k, const Tensor& v,
                          const FlashArgs& args) {
  FlashResult r{Tensor(q.shape(), q.dtype(), q.device()),
                Tensor({q.dim(0), q.dim(1), q.dim(2)}, compute_dtype(q.dtype()), q.device())};
  kernel::flash_forward(q.device(), r.o, r.lse, q, k, v, args);
  return r;
}

Tensor row_dot(const Tensor& a, const Tensor& b) {
  Tensor delta({a.dim(0), a.dim(1), a.dim(2)}, compute_dtype(a.dtype()), a.device());
  kernel::row_dot(a.device(), delta, a, b);
  return delta;
}

BlockLists block_lists(const Tensor& mask, int64_t block_q, int64_t block_k) {
  const Section section("block lists");
  BlockLists l{block_q, block_k, {}, {}, {}, {}};
  kernel::block_lists(mask.device(), l, flags(mask).contiguous());
  return l;
}

void check_qkv(const char* op, const Tensor& q, const Tensor& k, const Tensor& v) {
  check<ShapeError>(q.rank() == 4 && k.rank() == 4 && v.shape() == k.shape() &&
                        q.dim(0) == k.dim(0) && q.dim(1) == k.dim(1) && q.dim(3) == k.dim(3),
                    op, "needs q (B, H, Nq, D) and k, v (B, H, Nk, D); got q {}, k {}, v {}", q, k,
                    v);
  check<DTypeError>(is_floating(q.dtype()) && q.dtype() == k.dtype() && q.dtype() == v.dtype(), op,
                    "needs q, k, v of one floating type; got q {}, k {}, v {}", q, k, v);
  check<ShapeError>(q.dim(3) >= 1, op, "needs at least one channel; got q {}", q);
}

void check_blocks(const char* op, const Tensor& q, const Tensor& k, const Tensor* mask,
                  int64_t block_q, int64_t block_k) {
  constexpr int64_t kMost = int64_t{1} << 30;
  check(block_q >= 1 && block_k >= 1 && block_q <= kMost && block_k <= kMost, op,
        "block sizes must be in [1, 2^30]; got block_q {}, block_k {}", block_q, block_k);
  if (mask == nullptr || !mask->defined()) return;
  const Shape want{q.dim(0), q.dim(1), blocks(q.dim(2), block_q), blocks(k.dim(2), block_k)};
  check<ShapeError>(mask->shape() == want, op,
                    "mask {} does not fit: q {}, k {} in blocks of {} x {} need {}", *mask, q, k,
                    block_q, block_k, want);
}

}  // namespace tenun::attn
