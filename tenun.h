// All of the library's public headers up to the ops, in one include:
//   #include <tenun/tenun.h>
// Programs that want to compile faster include what they use, e.g. <tenun/ops/matmul.h>.
#pragma once
#include "tenun/autograd/autocast.h"
#include "tenun/autograd/checkpoint.h"
#include "tenun/autograd/function.h"
#include "tenun/autograd/gradcheck.h"
#include "tenun/autograd/tape.h"
#include "tenun/autograd/var.h"
#include "tenun/core/allocator.h"
#include "tenun/core/device.h"
#include "tenun/core/dtype.h"
#include "tenun/core/error.h"
#include "tenun/core/layout.h"
#include "tenun/core/parallel.h"
#include "tenun/core/random.h"
#include "tenun/core/tensor.h"
#include "tenun/ops/dropout.h"
#include "tenun/ops/elementwise.h"
#include "tenun/ops/matmul.h"
#include "tenun/ops/reduce.h"
