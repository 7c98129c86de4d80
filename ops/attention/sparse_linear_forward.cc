// Both branches of sparse_linear, head by head: one pass over K and V makes the states of the key
// blocks (and the 8-bit keys, and the units of the 8-bit values), then every panel of queries meets
// its listed blocks and the sum of the other states, and is mixed before it leaves the cache.
#include <cstring>
#include <optional>
#include <vector>

#include "tenun/core/parallel.h"
#include "tenun/ops/attention/flash_panels.h"
#include "tenun/ops/attention/linear_states.h"
#include "tenun/ops/attention/sparse_linear.h"

namespace tenun::attn {
namespace {

template <class T>
struct SparseLinearForward {
  const Tensor &q, &k, &v;
  const FlashArgs& args;
  const LinearStates<T> linear;
  const bool low;  // products of the linear branch in bf16
  char *o, *exact;
  T* lse;

  SparseLinearForward(const Tensor& q_, const Tensor& k_, const Tensor& v_, const FlashArgs& flash,
                      const LinearArgs& linear_, bool low_)
      : q(q_), k(k_), v(v_), args(flash), linear(q_, k_, v_, linear_, low_), low(low_) {}

  void run() const {
    linear.each_head([&](int64_t bh) { head(bh); });
  }

  void head(int64_t bh) const {
    const int64_t cols = linear.cols(), rows = linear.rows(), state = linear.state(), d = linear.d;
    Scratch<T> memory(cols * state + linear.sum_room(rows) + linear.weight_room() + 64);
    T *const key = memory.take(cols * state), *const sums = memory.take(linear.sum_room(rows));
    const auto own = [&](const Tensor& x) {
      const int64_t b = bh / x.dim(1), h = bh % x.dim(1);
      return x.slice(0, b, b + 1).slice(1, h, h + 1);
    };
    FlashArgs mine = args;
    if (args.k_pooled.defined()) mine.k_pooled = own(args.k_pooled);
    Operands<T> in;
    if constexpr (std::is_same_v<T, float>) {
      in = states_and_operands(bh, key, sums, own(q), own(k), own(v), mine);
    } else {
      linear.key_states(bh, key, sums, [](int64_t) {});
      in = operands<T>(own(q), own(k), own(v), mine);
    }
    const T* const w = linear.weights(bh, memory.take(linear.weight_room()));
    const typename LinearStates<T>::Sums states = linear.row_sums(bh, key, sums, w);

    FlashPanels<T> f{in, 1, linear.nq, linear.nk, d, args, nullptr, nullptr, lse + bh * linear.nq,
                     bh};
    const int64_t size = linear.nq * f.row_bytes();
    f.o = o + bh * size;
    char* const apart = exact == nullptr ? nullptr : exact + bh * size;
    const int64_t flops = 8 * std::min(linear.block_q, linear.nq) * state;
    parallel_for(0, rows, grain(flops),
                 [&](int64_t b, int64_t e) { query_blocks(bh, b, e, f, states, apart); });
  }

  // Low-bit operands are made of the blocks that the states have just brought into the cache.
  Operands<float> states_and_operands(int64_t bh, float* key, float* sum, const Tensor& q_,
                                      const Tensor& k_, const Tensor& v_,
                                      const FlashArgs& mine) const {
    Operands<float> in = lay_out(q_, k_, v_, mine);
    const bool low_k = in.score == Score::s8, low_v = mine.quant.pv != LowBit::none;
    std::optional<KeyBlocks> made;
    if (low_k) made.emplace(in, k_, mine);
    const auto d = static_cast<size_t>(linear.d), cols = static_cast<size_t>(linear.cols());
    std::vector<float> most(low_v ? cols * d : 0), largest(low_v ? d : 0);
    const int64_t block = linear.block_k;
    linear.key_states(bh, key, sum, [&](int64_t j) {
      if (!low_k && !low_v) return;
      const int64_t first = j * block, count = std::min(block, linear.nk - first);
      Scratch<float> room(count * linear.d);
      float* const own = room.take(count * linear.d);
      if (low_k) made->make(j, linear.k.rows(bh, first, count, own));
      if (!low_v) return;
      const simd::TokenRows<float> x = linear.v.rows(bh, first, count, own);
      simd::pack_kernels().largest(x.p, x.stride, x.count, linear.d, most.data() + j * linear.d);
    });
    for (size_t i = 0; i < most.size(); ++i) largest[i % d] = larger(largest[i % d], most[i]);
    add_rest(in, q_, k_, v_, mine, low_v ? largest.data() : nullptr);
    return in;
  }

  // Query blocks begin .. end of a head.
  void query_blocks(int64_t bh, int64_t begin, int64_t end, const FlashPanels<T>& f,
                    const typename LinearStates<T>::Sums& states, char* apart) const {
    const int64_t wide = linear.wide(), nq = linear.nq, block = linear.block_q;
    typename FlashPanels<T>::Room room(f);
    Scratch<T> own(linear.state() + (kPanel + wide) * wide + 64);
    T *const sum = own.take(linear.state()), *const pairs = own.take(wide * wide);
    simd::PanelMix<T> mix{};
    mix.feature = linear.feature, mix.eps = static_cast<T>(linear.args.eps);
    mix.scratch = own.take(kPanel * wide), mix.states = states.states;
    std::vector<simd::Tile> tiles, next;
    for (int64_t i = begin; i < end; ++i) {
      // What the next block reads is fetched meanwhile; with a task a head it comes right behind.
      const bool last = i + 1 == linear.rows();
      f.list_tiles(tiles, 0, i);
      next.clear();
      if (!last) f.list_tiles(next, 0, i + 1);
      mix.gate = linear.args.gate.template data<T>()[bh * linear.rows() + i];
      const bool mixes = mix.gate != 1;  // else no NaN of the linear branch comes through
      if (mixes) mix.state = states.of(i, sum);
      if constexpr (std::is_same_v<T, float>)
        if (mixes && low) {
          auto* const groups = reinterpret_cast<simd::Group*>(pairs);
          simd::pack_kernels().value_pairs(mix.state, wide, linear.d, wide, wide, groups);
          mix.pairs = groups;
        }
      typename FlashPanels<T>::Block b{0, i, tiles, f.query_unit(0, i)};
      if (!next.empty()) b.following = next[0];
      const auto soon = last ? std::span<const int32_t>{} : states.needed(i + 1);
      mix.soon = soon.data();
      linear.panels(i, block, nq, [&](int64_t at, int64_t count) {
        mix.soon_count = at == i * block ? std::ssize(soon) : 0;
        const int64_t offset = at * f.row_bytes();
        mix.exact = apart == nullptr ? nullptr : apart + offset;
        f.panel(room, b, at, count, mixes ? &mix : nullptr);
        if (apart != nullptr && !mixes)
          std::memcpy(apart + offset, f.o + offset, static_cast<size_t>(count * f.row_bytes()));
      });
    }
  }
};

void sparse_linear_forward_cpu(Tensor& o, Tensor& exact, Tensor& lse, const Tensor& q,
                               const Tensor& k, const Tensor& v, const FlashArgs& flash,
                               const LinearArgs& linear) {
  if (q.numel() == 0) return;
  FlashArgs args = flash;
  args.block_q = args.lists->block_q, args.block_k = args.lists->block_k;
  visit<DType::f32, DType::f64>(compute_dtype(q.dtype()), "attention", [&]<class T>() {
    const bool pairs = std::is_same_v<T, float> && multiplies_bf16(q, k, v, args);
    const bool low = pairs || (std::is_same_v<T, float> && args.quant.any());
    const DType type = pairs ? DType::bf16 : dtype_of<T>;
    const auto room = [&](const Tensor& x) {
      return !x.defined() || x.dtype() == type ? x : Tensor(x.shape(), type);
    };
    Tensor wide = room(o), wide_exact = room(exact);
    SparseLinearForward<T> f(q, k, v, args, linear, low);
    f.o = reinterpret_cast<char*>(wide.raw());
    f.exact = exact.defined() ? reinterpret_cast<char*>(wide_exact.raw()) : nullptr;
    f.lse = lse.mutable_data<T>();
    f.run();
    if (o.dtype() != type) o.copy_(wide);
    if (exact.defined() && exact.dtype() != type) exact.copy_(wide_exact);
  });
}

}  // namespace

constinit Kernel<void(Tensor& o, Tensor& exact, Tensor& lse, const Tensor& q, const Tensor& k,
                      const Tensor& v, const FlashArgs& flash, const LinearArgs& linear)>
    kernel::sparse_linear_forward{"sparse linear attention forward", sparse_linear_forward_cpu};

}  // namespace tenun::attn
