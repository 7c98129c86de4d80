// Compiled once a level: the forward kernels. Degrees of the exponential: 5 for f32 probabilities,
// 3 for bf16 (its rounding is 50 times larger), 4 for 8 bits (rounding to 1/127 must rarely flip).
#include "tenun/ops/attention/kernels/forward.h"

namespace tenun::simd::TENUN_ISA {
namespace {

using InF32 = Policy<float, F32Kind, 1, F32Kind, 1, 5>;
using InF64 = Policy<double, F64Kind, 1, F64Kind, 1, 5>;
using InBf16 = Policy<float, Bf16Kind, 2, Bf16Kind, 2, 3, true>;
using S8F32 = Policy<float, S8U8Kind, 4, F32Kind, 1, 5, true>;
using S8Bf16 = Policy<float, S8U8Kind, 4, Bf16Kind, 2, 3, true>;
using S8S8 = Policy<float, S8U8Kind, 4, S8U8Kind, 4, 4, true>;
using F32S8 = Policy<float, F32Kind, 1, S8U8Kind, 4, 4>;
template <bool Scores, bool Values>
using LowF64 = Policy<double, F64Kind, 1, F64Kind, 1, 5, Scores, Values>;

}  // namespace

extern const FlashKernels flash_kernels{
    forward_panel<InF32>,
    forward_panel<InF64>,
    forward_panel<InBf16>,
    forward_panel<S8F32>,
    forward_panel<S8Bf16>,
    forward_panel<S8S8>,
    forward_panel<F32S8>,
    {{forward_panel<LowF64<false, false>>, forward_panel<LowF64<false, true>>},
     {forward_panel<LowF64<true, false>>, forward_panel<LowF64<true, true>>}}};

}  // namespace tenun::simd::TENUN_ISA
