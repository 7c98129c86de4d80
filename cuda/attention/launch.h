// Private to cuda/attention: the entry points of the kernels, called by flash.cu, linear.cu
// and select.cu.
// `compute` is f32 or f64: the type C of args.h. Kernels run in the order of the calls.
#pragma once
#include "tenun/cuda/attention/args.h"

namespace tenun::TENUN_BACKEND::attention {

// flash_plain.cu, flash_backward_plain.cu
void flash_forward_plain(const FlashForward& a, DType compute);
void flash_backward_plain(const FlashBackward& a, DType compute);

// flash_tensor_bf16.cu, ..._f16.cu, ..._f32.cu: d <= 128 and a multiple of 8, rows that cp.async
// can read, scale > 0, neither weight nor dropout
void flash_forward_bf16(const FlashForward& a);
void flash_forward_f16(const FlashForward& a);
void flash_forward_f32(const FlashForward& a);
// flash_hopper_bf16.cu, flash_hopper_f16.cu: the same on sm_90a; false: not taken, nothing done
[[nodiscard]] bool flash_forward_hopper_bf16(const FlashForward& a);
[[nodiscard]] bool flash_forward_hopper_f16(const FlashForward& a);
// flash_low_bf16.cu, ..._f16.cu, ..._f32.cu: q, k i8 with units, v as it is
void flash_forward_low_bf16(const FlashForward& a);
void flash_forward_low_f16(const FlashForward& a);
void flash_forward_low_f32(const FlashForward& a);
// flash_low_int8.cu, flash_low_fp8.cu: v of low_values(); q, k i8 with units, or bf16, f16, f32
void flash_forward_low_int8(const FlashForward& a);
void flash_forward_low_fp8(const FlashForward& a);
// flash_gradient_bf16.cu, ..._f16.cu, ..._f32.cu: the same
void flash_backward_bf16(const FlashBackward& a);
void flash_backward_f16(const FlashBackward& a);
void flash_backward_f32(const FlashBackward& a);
// flash_general_bf16.cu, ..._f16.cu, ..._f32.cu: any scale, with weight and dropout
void flash_forward_general_bf16(const FlashForward& a);
void flash_forward_general_f16(const FlashForward& a);
void flash_forward_general_f32(const FlashForward& a);
void flash_backward_general_bf16(const FlashBackward& a);
void flash_backward_general_f16(const FlashBackward& a);
void flash_backward_general_f32(const FlashBackward& a);

// linear_plain.cu
void product_f64(const Product& p);
void product_tensor(const Product& p);  // product_tensor.cu: bf16, strides in 16 bytes
void product_tf32(const Product& p);    // product_tf32.cu: f32, in TF32; c in rows
void product_f32(const Product& p);     // the same, with f32's digits
void features(const Features& a, DType compute);
void feature_gradient(const FeatureGradient& a, DType compute);
void extend(const Extend& a, DType compute);
void linear_output(const LinearOutput& a, DType compute);
void linear_gradient(const LinearGradient& a, DType compute);
void list_weights(const ListWeights& a, DType compute);

// mix.cu
void base_two(const BaseTwo& a);
void weight_gradient(const WeightGradient& a);
void row_dot(const RowDot& a, DType compute);
void mix(const Mix& a, DType compute);
void mix_gradient(const MixGradient& a, DType compute);

// block_means.cu
void block_mean(const BlockMean& a, DType compute);
void channel_amax(const ChannelAmax& a, DType compute);
void round(const Round& a, DType compute);
// low_values.cu
void low_values(const LowValues& a);

// quantise.cu
void token_mean(const TokenMean& a, DType compute);
void quantise(const Quantise& a, DType compute);

// block_select.cu
void top_blocks(const TopBlocks& a, DType type);
void mass_blocks(const MassBlocks& a, DType type);
void soft_top(const SoftTop& a, DType type);
void soft_top_gradient(const SoftTopGradient& a, DType type);
void list_starts(const MaskLists& a);
void list_indices(const MaskLists& a);

}  // namespace tenun::TENUN_BACKEND::attention
