// Elementwise kernels: parts of norms, modulation, losses, reductions and attention.
#include "tenun/cuda/map_kernel.h"
#include "tenun/cuda/register.h"
#include "tenun/ops/functors_norm.h"
#include "tenun/ops/functors_other.h"
#include "tenun/ops/functors_reduce.h"

namespace tenun::TENUN_BACKEND {

void register_parts() {
  use_maps<fn::Scaled, fn::AddNumber, fn::TimesBy, fn::ScaleBy, fn::ScaleShift, fn::GatedSum,
           fn::CentredAffine, fn::CentredProduct, fn::InverseRoot>();
  use_maps<fn::SquaredError, fn::SquaredErrorGrad, fn::AbsoluteError, fn::AbsoluteErrorGrad,
           fn::Wave, fn::WaveGrad>();
  use_maps<fn::Complement, fn::MixSlope, fn::ScaledSquare, fn::MaskedFill, fn::Keep, fn::ToInt8,
           fn::ToGrid, fn::ToLearnedGrid, fn::PassInside, fn::ScaleTerm>();
  use_maps<fn::DeviationGrad, fn::DeviationGradOverRoot, fn::NormGrad, fn::LogSumExpGrad>();
}

}  // namespace tenun::TENUN_BACKEND
