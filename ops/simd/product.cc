// Compiled once a level: the family of small products.
#include "tenun/ops/simd/product.h"

#include "tenun/ops/simd/pack.h"

namespace tenun::simd::TENUN_ISA {

extern const ProductKernels product_kernels{multiply<F32Kind>,  multiply<F64Kind>,
                                            multiply<Bf16Kind>, multiply<S8U8Kind>,
                                            transpose<float>,   transpose<double>};

}  // namespace tenun::simd::TENUN_ISA
