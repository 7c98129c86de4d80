// Compiled once a level: the forward kernels. Degrees of the exponential: 5 for f32 probabilities,
// 3 for bf16 (its rounding is 50 times larger) and for integers up to 127 (at most one in a hundred
// becomes its neighbour), 4 for FP8.
#include "tenun/ops/attention/kernels/forward.h"

namespace tenun::simd::TENUN_ISA {
namespace {

using InF32 = Policy<float, F32Kind, 1, F32Kind, 1, 5>;
using InF64 = Policy<double, F64Kind, 1, F64Kind, 1, 5>;
using InBf16 = Policy<float, Bf16Kind, 2, Bf16Kind, 2, 3, true>;
using S8F32 = Policy<float, S8U8Kind, 4, F32Kind, 1, 5, true>;
using S8Bf16 = Policy<float, S8U8Kind, 4, Bf16Kind, 2, 3, true>;
using S8S8 = Policy<float, S8U8Kind, 4, S8U8Kind, 4, 3, true, Round::int8>;
using F32S8 = Policy<float, F32Kind, 1, S8U8Kind, 4, 3, false, Round::int8>;
using S8F8 = Policy<float, S8U8Kind, 4, Bf16Kind, 2, 4, true, Round::fp8>;
using F32F8 = Policy<float, F32Kind, 1, Bf16Kind, 2, 4, false, Round::fp8>;
template <bool Scores, Round R>
using LowF64 = Policy<double, F64Kind, 1, F64Kind, 1, 5, Scores, R>;

}  // namespace

extern const FlashKernels flash_kernels{
    forward_panel<InF32>,
    forward_panel<InF64>,
    forward_panel<InBf16>,
    forward_panel<S8F32>,
    forward_panel<S8Bf16>,
    forward_panel<S8S8>,
    forward_panel<F32S8>,
    forward_panel<S8F8>,
    forward_panel<F32F8>,
    {{forward_panel<LowF64<false, Round::none>>, forward_panel<LowF64<false, Round::int8>>,
      forward_panel<LowF64<false, Round::fp8>>},
     {forward_panel<LowF64<true, Round::none>>, forward_panel<LowF64<true, Round::int8>>,
      forward_panel<LowF64<true, Round::fp8>>}}};

}  // namespace tenun::simd::TENUN_ISA
