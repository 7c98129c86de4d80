// Forward pass: cuts the work into panels of up to 64 queries and lists of tiles, and hands them to
// the kernel of the types at hand (ops/attention/kernels). f32 and f64 run in their own type, bf16
// as bf16 products with f32 sums (head sizes that are multiples of 8; else in f32, as f16), the
// low-bit products in 8-bit arithmetic (FP8 emulated): the golden definition of int8_attention is
// kept (P rounded to 1/127 of the running maximum that includes the whole key block, one unit per
// block), so a tile is then a whole key block. f64 holds the same integers in doubles.
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash_panels.h"
#include "tenun/ops/functors_unary.h"
#include "tenun/ops/map.h"

namespace tenun::attn {
namespace {

template <class T>
void run(const FlashPanels<T>& f) {
  using Block = typename FlashPanels<T>::Block;
  const int64_t block = f.block(), rows = blocks(f.nq, block);
  const int64_t per_block = blocks(std::min(block, f.nq), kPanel);
  const int64_t flops = 4 * std::min({kPanel, block, f.nq}) * f.nk * f.d;
  // The panels of a small block share its list and unit.
  const int64_t piece = std::max(grain(flops), per_block <= 4 ? per_block : 1);
  parallel_for(0, f.heads * rows * per_block, piece, [&](int64_t begin, int64_t end) {
    typename FlashPanels<T>::Room room(f);
    std::vector<simd::Tile> tiles;
    T unit = 1;
    int64_t owner = -1;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i / per_block, bh = at / rows, row = at % rows;
      const int64_t first = row * block + i % per_block * kPanel;
      const int64_t count = std::min({kPanel, (row + 1) * block - first, f.nq - first});
      if (count <= 0) continue;
      if (at != owner) {
        f.list_tiles(tiles, bh, row);
        unit = f.query_unit(bh, row);
        owner = at;
      }
      f.panel(room, Block{bh, row, tiles, unit}, first, count, nullptr);
    }
  });
}

void flash_forward_cpu(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                       const FlashArgs& args_) {
  FlashArgs args = args_;
  if (args.lists != nullptr) args.block_q = args.lists->block_q, args.block_k = args.lists->block_k;
  if (q.numel() == 0) return;
  if (args.scale < 0) {  // the kernels take the largest score for the one with the largest product
    args.scale = -args.scale;
    return flash_forward_cpu(o, lse, map(fn::Neg{}, q), k, v, args);
  }
  const DType type = compute_dtype(q.dtype());
  visit<DType::f32, DType::f64>(type, "attention", [&]<class T>() {
    const Operands<T> in = operands<T>(q, k, v, args);
    const DType out_type = in.score == Score::bf16 ? DType::bf16 : type;
    Tensor wide = !o.defined() || o.dtype() == out_type ? o : Tensor(o.shape(), out_type);
    const Tensor bias = log2_of(args.weight);
    run(FlashPanels<T>{in, q.dim(0) * q.dim(1), q.dim(2), k.dim(2), q.dim(3), args,
                       bias.defined() ? bias.data<T>() : nullptr,
                       o.defined() ? reinterpret_cast<char*>(wide.raw()) : nullptr,
                       lse.mutable_data<T>()});
    if (o.defined() && o.dtype() != out_type) o.copy_(wide);
  });
}

}  // namespace

constinit Kernel<void(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                      const FlashArgs& args)>
    kernel::flash_forward{"flash attention forward", flash_forward_cpu};

}  // namespace tenun::attn
