#include "tenun/ops/cases/registry.h"

namespace tenun {

// families.inc is written by the build from the list of families in ops/meson.build.
#define OP_FAMILY(name) void add_##name##_ops(OpTable& table);
#include "families.inc"
#undef OP_FAMILY

const OpTable& op_table() {
  static const OpTable table = [] {
    OpTable t;
#define OP_FAMILY(name) add_##name##_ops(t);
#include "families.inc"
#undef OP_FAMILY
    return t;
  }();
  return table;
}

}  // namespace tenun
