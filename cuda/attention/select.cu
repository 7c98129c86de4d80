// The slots of pooling, selectors and block lists.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/operands.h"
#include "tenun/cuda/attention/register.h"
#include "tenun/cuda/runtime.h"
#include "tenun/ops/attention/select.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

using attn::Forced;

ScoreRows rows_of(const Tensor& scores, Forced forced) {
  const int64_t columns = scores.dim(-1);
  return {scores.raw(), columns > 0 ? scores.numel() / columns : 0,
          columns,      scores.rank() > 1 ? scores.dim(-2) : 1,
          forced.rows,  forced.cols};
}

void block_mean(Tensor& y, const Tensor& x, int64_t block, attn::PoolDivisor divisor) {
  attention::block_mean({attention::rows_of(x), x.dim(0) * x.dim(1), x.dim(2), x.dim(3), block,
                         divisor == attn::PoolDivisor::block, y.raw()},
                        y.dtype());
}
void topk_blocks(Tensor& mask, const Tensor& scores, int64_t k, Forced forced) {
  top_blocks({rows_of(scores, forced), k, mask.mutable_data<uint8_t>()}, scores.dtype());
}
void mass_blocks(Tensor& mask, const Tensor& scores, double p, Selector convention, Forced forced) {
  Tensor order(scores.shape(), DType::i32, scores.device()),
      share(scores.shape(), DType::f64, scores.device());
  attention::mass_blocks(
      {rows_of(scores, forced), p, convention == Selector::cdf, order.mutable_data<int32_t>(),
       share.mutable_data<double>(), mask.mutable_data<uint8_t>()},
      scores.dtype());
}
void soft_topk_forward(Tensor& m, const Tensor& x, double target, double tau, Forced forced) {
  soft_top({rows_of(x, forced), target, tau, m.raw()}, x.dtype());
}
void soft_topk_backward(Tensor& dx, const Tensor& dm, const Tensor& m, double tau) {
  const ScoreRows rows = rows_of(m, {});
  soft_top_gradient({dm.raw(), m.raw(), rows.rows, rows.columns, tau, dx.raw()}, m.dtype());
}
void block_lists(attn::BlockLists& l, const Tensor& flags) {
  MaskLists a;
  a.mask = flags.data<uint8_t>();
  a.heads = flags.dim(0) * flags.dim(1), a.tm = flags.dim(2), a.tn = flags.dim(3);
  l.row_start = Tensor({a.heads * a.tm + 1}, DType::i64, flags.device());
  l.col_start = Tensor({a.heads * a.tn + 1}, DType::i64, flags.device());
  a.row_start = l.row_start.mutable_data<int64_t>();
  a.column_start = l.col_start.mutable_data<int64_t>();
  list_starts(a);
  // Room for all pairs: how many are listed only the device knows.
  const Shape all{flags.numel()};
  l.row_index = Tensor(all, DType::i32, flags.device());
  l.col_index = Tensor(all, DType::i32, flags.device());
  a.row_index = l.row_index.mutable_data<int32_t>();
  a.column_index = l.col_index.mutable_data<int32_t>();
  if (flags.numel() > 0) list_indices(a);
}

}  // namespace

void register_select() {
  attn::kernel::block_mean.set(kDevice, block_mean);
  attn::kernel::topk_blocks.set(kDevice, topk_blocks);
  attn::kernel::mass_blocks.set(kDevice, mass_blocks);
  attn::kernel::soft_topk_forward.set(kDevice, soft_topk_forward);
  attn::kernel::soft_topk_backward.set(kDevice, soft_topk_backward);
  attn::kernel::block_lists.set(kDevice, block_lists);
}

}  // namespace tenun::TENUN_BACKEND::attention
