// Four random numbers from one Philox block, one text for host and device: what fill_uniform and
// fill_normal (core/random.h) put into elements 4 i ... 4 i + 3.
#pragma once
#include "tenun/core/device.h"
#include "tenun/core/math.h"
#include "tenun/core/philox.h"

namespace tenun {

/// Box-Muller: two uniforms, the first in (0, 1], make two normals.
TENUN_HD inline void normals_from(const Philox& p, float (&z)[4]) {
  for (int k = 0; k < 4; k += 2) {
    const float u = static_cast<float>((p.x[k] >> 8) + 1) * 0x1p-24f;
    const float radius = std::sqrt(-2.0f * math::log(u));
    float s = 0, c = 0;
    math::sincos_turns(uniform_from_bits(p.x[k + 1]), s, c);
    z[k] = radius * c;
    z[k + 1] = radius * s;
  }
}

TENUN_HD inline void draw_four(const Draws& d, uint64_t block, float (&v)[4]) {
  const Philox p = Philox::at(d.key, 0, block);
  if (d.distribution == Distribution::normal)
    normals_from(p, v);
  else
    for (int k = 0; k < 4; ++k) v[k] = uniform_from_bits(p.x[k]);
  for (float& x : v) x = d.a + d.b * x;
}

}  // namespace tenun
