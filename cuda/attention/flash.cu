// The slots of ops/attention/flash.h: chooses the kernels and prepares the operands of low-bit
// products.
#include "tenun/cuda/attention/launch.h"
#include "tenun/cuda/attention/operands.h"
#include "tenun/cuda/attention/register.h"
#include "tenun/cuda/runtime.h"

namespace tenun::TENUN_BACKEND::attention {
namespace {

using attn::FlashArgs;
using attn::FlashGrads;
using attn::LowBit;

FlashProblem problem(const Tensor& q, const Tensor& k, const Tensor& v, const FlashArgs& args) {
  FlashProblem p;
  p.heads = q.dim(0) * q.dim(1);
  check_heads(p.heads);
  p.nq = q.dim(2), p.nk = k.dim(2), p.d = q.dim(3);
  p.scale = args.scale;
  p.q = rows_of(q), p.k = rows_of(k), p.v = rows_of(v);
  p.rows = row_lists(args.lists), p.columns = column_lists(args.lists);
  const int64_t block_q = args.lists != nullptr ? args.lists->block_q : args.block_q;
  const int64_t block_k = args.lists != nullptr ? args.lists->block_k : args.block_k;
  p.block_q = block_q > 0 ? block_q : p.nq, p.block_k = block_k > 0 ? block_k : p.nk;
  p.weight = read(args.weight);
  p.dropout = static_cast<float>(args.dropout), p.key = args.key.key;
  p.keep_scale = static_cast<float>(1 / (1 - args.dropout));
  return p;
}

/// May cp.async read the rows of x, 16 bytes at a time?
bool in_chunks(const Tensor& x) {
  const Shape& s = x.strides();
  const int64_t chunk = 16 / size_of(x.dtype());
  return s[3] == 1 && s[0] % chunk == 0 && s[1] % chunk == 0 && s[2] % chunk == 0 &&
         reinterpret_cast<uintptr_t>(x.raw()) % 16 == 0;
}
/// x, or a copy whose rows it may read, with zeros behind its channels up to channel d.
Tensor chunked(const Tensor& x, int64_t d) {
  if (!x.defined() || (x.dim(3) == d && in_chunks(x))) return x;
  if (x.dim(3) == d) return x.clone();
  Tensor wide({x.dim(0), x.dim(1), x.dim(2), d}, x.dtype(), x.device());
  wide.slice(3, 0, x.dim(3)).copy_(x);
  wide.slice(3, x.dim(3), d).fill_(0);
  return wide;
}

/// A result with d channels: `to` itself, or room whose first channels go to it at the end.
class Widened {
 public:
  Widened(Tensor& to, int64_t d) : to_(to), room_(to) {
    if (to.defined() && to.dim(3) != d)
      room_ = Tensor({to.dim(0), to.dim(1), to.dim(2), d}, to.dtype(), to.device());
  }
  [[nodiscard]] void* raw() { return write(room_); }
  void finish() {
    if (to_.defined() && room_.dim(3) != to_.dim(3)) to_.copy_(room_.slice(3, 0, to_.dim(3)));
  }

 private:
  Tensor& to_;
  Tensor room_;
};

/// The head size that the tensor-core kernels work on: whole tiles of 8 columns, rows of whole 16
/// bytes.
int64_t whole_chunks(int64_t d, LowBit scores) {
  const int64_t chunk = scores == LowBit::int8 ? 16 : 8;
  return (d + chunk - 1) / chunk * chunk;
}

/// Shared memory of the kernel for f32 scores beside 8-bit values and a head size above 64.
constexpr size_t kWideScores = size_t{112} << 10;

/// Is it more than softmax(scale q k^T) v with a positive scale?
bool is_general(const FlashProblem& p) {
  return p.weight != nullptr || p.dropout > 0 || !(static_cast<float>(p.scale) > 0);
}
/// Do the tensor-core kernels take this? What they do not take is said once.
bool on_tensor_cores(const Tensor& q, const FlashProblem& p, attn::Quant quant) {
  if (q.dtype() == DType::f64) return false;
  const char* const why =
      q.dim(3) > 128 ? "a head size above 128"
      : quant.any() && is_general(p)
          ? "soft weights, dropout or a scale that is not positive with low-bit products"
      : q.dtype() == DType::f32 && q.dim(3) > 64 && quant.qk == LowBit::none &&
              quant.pv != LowBit::none && shared_limit() < kWideScores
          ? "f32 scores beside 8-bit values with little shared memory"
          : nullptr;
  if (why != nullptr) attn::note_plain_kernel(why);
  return why == nullptr;
}

// The mean of all tokens is taken from means of so many, the largest value from those of so many.
constexpr int64_t kMeanBlock = 64, kAmaxTokens = 256;

/// The integers of low-bit products, and their units. Tensors in the compute type, or as the
/// tensor-core kernels read them.
struct LowBitOperands {
  Tensor mean, q, k, v, q_unit, k_unit, v_unit;

  LowBitOperands(FlashForward& a, const Tensor& q_, const Tensor& k_, const Tensor& v_,
                 const FlashArgs& args, DType type, bool fast) {
    const FlashProblem& p = a.in;
    const attn::Quant quant = args.quant;
    const auto blocks = [](int64_t n, int64_t block) { return (n + block - 1) / block; };
    const auto tensor = [&](const Shape& shape) { return Tensor(shape, type, q_.device()); };
    mean = tensor({p.heads, p.d});
    Tensor pooled = args.k_pooled.defined() && args.k_pooled.dim(3) == p.d
                        ? args.k_pooled.contiguous()
                        : Tensor();
    const int64_t block = pooled.defined() ? p.block_k : kMeanBlock;
    if (!pooled.defined()) {
      pooled = tensor({p.heads, blocks(p.nk, block), p.d});
      block_mean({p.k, p.heads, p.nk, p.d, block, false, pooled.raw()}, type);
    }
    token_mean({pooled.raw(), p.heads, p.nk, p.d, block, mean.raw()}, type);
    const DType scores = !fast ? type : quant.qk == LowBit::int8 ? DType::i8 : k_.dtype();
    if (quant.qk == LowBit::int8) {
      q_unit = tensor({p.heads, blocks(p.nq, p.block_q)});
      k_unit = tensor({p.heads, blocks(p.nk, p.block_k)});
      q = Tensor(q_.shape(), scores, q_.device()), k = Tensor(k_.shape(), scores, k_.device());
      quantise({p.q, nullptr, p.heads, p.nq, p.d, p.block_q, q_unit.raw(), q.raw(), scores}, type);
      quantise({p.k, mean.raw(), p.heads, p.nk, p.d, p.block_k, k_unit.raw(), k.raw(), scores},
               type);
      a.units.q = q_unit.raw(), a.units.k = k_unit.raw();
      a.in.q = rows_of(q);
    } else {
      k = Tensor(k_.shape(), scores, k_.device());
      round({p.k, mean.raw(), p.heads, p.nk, p.d, nullptr, false, k.raw(), scores}, type);
    }
    a.in.k = rows_of(k);
    if (quant.pv == LowBit::none) return;
    a.units.fp8 = quant.pv == LowBit::fp8;
    a.units.most = a.units.fp8 ? 448 : 127;
    v_unit = tensor({p.heads, p.d});
    a.units.v = v_unit.raw();
    // In two steps: a channel has as many numbers as there are tokens.
    const int64_t parts = blocks(p.nk, kAmaxTokens);
    Tensor part = tensor({p.heads, parts, p.d});
    channel_amax({p.v, p.heads, p.nk, p.d, kAmaxTokens, 1, part.raw()}, type);
    channel_amax({{part.raw(), type, p.heads, 0, parts * p.d, p.d, 1},
                  p.heads,
                  parts,
                  p.d,
                  parts,
                  a.units.most,
                  v_unit.raw()},
                 type);
    if (fast) {
      const int64_t per = blocks(p.block_k < p.nk ? p.block_k : p.nk, 64);
      v = Tensor({p.heads, blocks(p.nk, p.block_k) * per, p.d, 64}, DType::i8, v_.device());
      low_values({p.v, p.heads, p.nk, p.d, p.block_k, per, v_unit.raw(), a.units.fp8, v.raw()});
      a.in.v.p = v.raw();
      return;
    }
    v = tensor(v_.shape());
    round({p.v, nullptr, p.heads, p.nk, p.d, v_unit.raw(), a.units.fp8, v.raw(), type}, type);
    a.in.v = rows_of(v);
  }
};

void flash_forward(Tensor& o, Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                   const FlashArgs& args) {
  if (q.numel() == 0) return;
  const DType type = attn::compute_dtype(q.dtype());
  const attn::Quant quant = k.numel() > 0 ? args.quant : attn::Quant{};
  const bool fast = k.numel() > 0 && on_tensor_cores(q, problem(q, k, v, args), quant);
  const int64_t d = fast ? whole_chunks(q.dim(3), quant.qk) : q.dim(3);
  const Tensor qs = fast ? chunked(q, d) : q, ks = fast ? chunked(k, d) : k,
               vs = fast ? chunked(v, d) : v;
  Widened wide(o, d);
  FlashForward a;
  a.in = problem(qs, ks, vs, args);
  a.o = wide.raw();
  if (o.defined()) a.o_dtype = o.dtype();
  a.lse = lse.raw();
  const DType t = q.dtype();
  if (quant.any()) {
    const LowBitOperands low(a, qs, ks, vs, args, type, fast);
    if (!fast)
      flash_forward_plain(a, type);
    else if (quant.pv != LowBit::none)
      quant.pv == LowBit::int8 ? flash_forward_low_int8(a) : flash_forward_low_fp8(a);
    else
      t == DType::f32    ? flash_forward_low_f32(a)
      : t == DType::bf16 ? flash_forward_low_bf16(a)
                         : flash_forward_low_f16(a);
  } else if (!fast) {
    flash_forward_plain(a, type);
  } else if (is_general(a.in)) {
    t == DType::f32    ? flash_forward_general_f32(a)
    : t == DType::bf16 ? flash_forward_general_bf16(a)
                       : flash_forward_general_f16(a);
  } else if (t == DType::f32) {
    flash_forward_f32(a);
  } else if (!(t == DType::bf16 ? flash_forward_hopper_bf16(a) : flash_forward_hopper_f16(a))) {
    t == DType::bf16 ? flash_forward_bf16(a) : flash_forward_f16(a);
  }
  wide.finish();
}

void flash_backward(FlashGrads& g, const Tensor& dy, const Tensor& q, const Tensor& k,
                    const Tensor& v, const Tensor& lse, const Tensor& delta,
                    const FlashArgs& args) {
  if (q.numel() == 0 || k.numel() == 0) {
    for (Tensor* t : {&g.dq, &g.dk, &g.dv, &g.dweight})
      if (t->defined()) t->fill_(0);
    return;
  }
  const bool fast =
      on_tensor_cores(q, problem(q, k, v, args), {}) && (!dy.defined() || dy.dtype() == q.dtype());
  const int64_t d = fast ? whole_chunks(q.dim(3), LowBit::none) : q.dim(3);
  const Tensor qs = fast ? chunked(q, d) : q, ks = fast ? chunked(k, d) : k,
               vs = fast ? chunked(v, d) : v, dys = fast ? chunked(dy, d) : dy;
  Widened dq(g.dq, d), dk(g.dk, d), dv(g.dv, d);
  FlashBackward a;
  a.in = problem(qs, ks, vs, args);
  a.dy = rows_of(dys);
  a.lse = lse.raw(), a.delta = delta.raw();
  a.dq = dq.raw(), a.dk = dk.raw(), a.dv = dv.raw(), a.dweight = write(g.dweight);
  if (!fast) return flash_backward_plain(a, attn::compute_dtype(q.dtype()));
  Tensor l2({lse.numel() + kRowPadding}, DType::f32, lse.device()), padded = empty_like(l2);
  base_two({lse.data<float>(), delta.data<float>(), l2.mutable_data<float>(),
            padded.mutable_data<float>(), lse.numel()});
  a.l2 = l2.data<float>(), a.padded_delta = padded.data<float>();
  const DType t = q.dtype();
  if (is_general(a.in))
    t == DType::f32    ? flash_backward_general_f32(a)
    : t == DType::bf16 ? flash_backward_general_bf16(a)
                       : flash_backward_general_f16(a);
  else
    t == DType::f32    ? flash_backward_f32(a)
    : t == DType::bf16 ? flash_backward_bf16(a)
                       : flash_backward_f16(a);
  for (Widened* w : {&dq, &dk, &dv}) w->finish();
}

void row_dot(Tensor& delta, const Tensor& a, const Tensor& b) {
  attention::row_dot({rows_of(a), rows_of(b), a.dim(0) * a.dim(1), a.dim(2), a.dim(3), delta.raw()},
                     delta.dtype());
}

}  // namespace

void register_flash() {
  attn::kernel::flash_forward.set(kDevice, flash_forward);
  attn::kernel::flash_backward.set(kDevice, flash_backward);
  attn::kernel::row_dot.set(kDevice, row_dot);
}

}  // namespace tenun::TENUN_BACKEND::attention
