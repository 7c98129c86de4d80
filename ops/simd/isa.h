// Instruction sets of the CPU kernels. The library is compiled for x86-64-v3; the sources listed in
// simd_sources of ops/meson.build are compiled once for every level below, each time into the
// namespace tenun::simd::<level>, and the level is picked at run time. A family of kernels is one
// struct of function pointers with one instance a level:
//
//   struct ProductKernels { ... };   // the family's header, for both sides; an instance a level
//   product_kernels().f32(m, n, k, a, b, ldb, c, ldc, Into::set);
//
// Rules for those sources: they include only <immintrin.h>, <cstdint>, <cstddef> and headers that
// are marked as safe for them, and put all they define into that namespace or an anonymous one. An
// inline function of another namespace might be kept by the linker for callers on older processors
// (tests/isa_symbols.sh checks). Errors: ConfigError for a bad TENUN_CPU_ISA.
#pragma once
#include <cstdint>
#include <string_view>

namespace tenun::simd {

/// avx2: x86-64-v3; avx512: x86-64-v4; avx512_bf16: and the VNNI and BF16 dot products.
enum class Isa : uint8_t { avx2, avx512, avx512_bf16 };
inline constexpr Isa kLevels[] = {Isa::avx2, Isa::avx512, Isa::avx512_bf16};

[[nodiscard]] std::string_view name(Isa isa);
[[nodiscard]] bool supported(Isa isa);
/// The best level of this processor, or the one that the environment variable TENUN_CPU_ISA names.
[[nodiscard]] Isa active_isa();
/// What TENUN_CPU_ISA = `text` stands for; "" is the best level.
[[nodiscard]] Isa isa_from(std::string_view text);

template <class Kernels>
[[nodiscard]] const Kernels& choose(Isa isa, const Kernels& avx2, const Kernels& avx512,
                                    const Kernels& avx512_bf16) {
  return isa == Isa::avx512_bf16 ? avx512_bf16 : isa == Isa::avx512 ? avx512 : avx2;
}

struct GemmKernels;     // ops/simd/gemm_kernels.h
struct ProductKernels;  // ops/simd/product_kernels.h
[[nodiscard]] const GemmKernels& gemm_kernels(Isa isa = active_isa());
[[nodiscard]] const ProductKernels& product_kernels(Isa isa = active_isa());
struct FlashKernels;  // ops/attention/kernels/kernels.h
[[nodiscard]] const FlashKernels& flash_kernels(Isa isa = active_isa());
struct FlashBackwardKernels;
[[nodiscard]] const FlashBackwardKernels& flash_backward_kernels(Isa isa = active_isa());
struct LinearFamily;  // ops/attention/kernels/linear_kernels.h
[[nodiscard]] const LinearFamily& linear_kernels(Isa isa = active_isa());
struct PackKernels;
[[nodiscard]] const PackKernels& pack_kernels(Isa isa = active_isa());

}  // namespace tenun::simd
