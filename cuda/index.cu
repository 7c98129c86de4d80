// Picking and adding elements by index (ops/index.h). Additions keep the order of the index: a
// thread has all that can meet, so there are no atomics and the bits are the same in every run.
#include "tenun/ops/index.h"

#include "tenun/cuda/elements.h"
#include "tenun/cuda/register.h"
#include "tenun/cuda/scratch.h"
#include "tenun/ops/index_kernel.h"

namespace tenun::TENUN_BACKEND {
namespace {

using detail::along, detail::base, detail::visit_size, detail::visit_sum;

__global__ void __launch_bounds__(kThreads, 1)
    find_outside(unsigned long long* first, const int64_t* index, int64_t count, int64_t n) {
  for_each_item(count, [&](int64_t i) {
    if (index[i] < 0 || index[i] >= n) atomicMin(first, static_cast<unsigned long long>(i));
  });
}
int64_t first_outside(const Tensor& index, int64_t n) {
  if (index.numel() == 0) return -1;
  const Scratch<unsigned long long> first(1);
  const auto none = static_cast<unsigned long long>(index.numel());
  write_one(first.get(), none);
  launch(find_outside, grid_for(index.numel()), kThreads, 0, first.get(), index.data<int64_t>(),
         index.numel(), n);
  const unsigned long long at = read_one(first.get());
  return at == none ? -1 : static_cast<int64_t>(at);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    gather_elements(T* y, const int64_t* index, const T* x, const Places<3> at, int64_t step) {
  for_each_item(at.numel, [&](int64_t i) {
    int64_t o[3];
    at.find(i, o);
    y[o[0]] = x[o[2] + index[o[1]] * step];
  });
}
void gather(Tensor& y, const Tensor& x, const Tensor& index, int dim) {
  if (y.numel() == 0) return;
  const Layout from = along(x.layout(), y.shape(), dim);
  const auto at = places_of<3>({&y.layout(), &index.layout(), &from});
  visit_size(x.dtype(), [&]<class T>() {
    launch(gather_elements<T>, grid_for(at.numel), kThreads, 0, base<T>(y), base<int64_t>(index),
           base<T>(x), at, x.strides()[dim]);
  });
}

struct LineSteps {
  int64_t count, y, index, source;
};
// A line is what one value of the other axes' indices leaves: only its thread touches it.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    add_lines(T* y, const int64_t* index, const T* source, const Places<3> at, const LineSteps s) {
  for_each_item(at.numel, [&](int64_t i) {
    int64_t o[3];
    at.find(i, o);
    for (int64_t j = 0; j < s.count; ++j)
      y[o[0] + index[o[1] + j * s.index] * s.y] += source[o[2] + j * s.source];
  });
}
void scatter_add(Tensor& y, const Tensor& index, const Tensor& source, int dim) {
  if (index.numel() == 0) return;
  Shape lines = index.shape();
  lines[dim] = 1;
  const Layout to = along(y.layout(), lines, dim), ids = along(index.layout(), lines, dim),
               from = along(source.layout(), lines, dim);
  const auto at = places_of<3>({&to, &ids, &from});
  const LineSteps s{index.dim(dim), y.strides()[dim], index.strides()[dim], source.strides()[dim]};
  visit_sum(y.dtype(), "scatter_add", [&]<class T>() {
    launch(add_lines<T>, grid_for(at.numel), kThreads, 0, base<T>(y), base<int64_t>(index),
           base<T>(source), at, s);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    take_slices(T* y, const T* x, const int64_t* index, int64_t total, int64_t m, int64_t n,
                int64_t width) {
  for_each_item(total, [&](int64_t i) {
    const int64_t c = i % width, r = i / width % m, outer = i / width / m;
    y[i] = x[(outer * n + index[r]) * width + c];
  });
}
void take_rows(Tensor& y, const Tensor& x, const Tensor& index) {
  if (y.numel() == 0) return;
  visit_size(x.dtype(), [&]<class T>() {
    launch(take_slices<T>, grid_for(y.numel()), kThreads, 0, reinterpret_cast<T*>(y.raw()),
           reinterpret_cast<const T*>(x.raw()), index.data<int64_t>(), y.numel(), y.dim(1),
           x.dim(1), y.dim(2));
  });
}

// A thread has one column and adds all slices to it in order.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    add_slices(T* y, const int64_t* index, const T* x, int64_t columns, int64_t m, int64_t n,
               int64_t width) {
  for_each_item(columns, [&](int64_t i) {
    const int64_t c = i % width, outer = i / width;
    for (int64_t r = 0; r < m; ++r)
      y[(outer * n + index[r]) * width + c] += x[(outer * m + r) * width + c];
  });
}
void add_rows(Tensor& y, const Tensor& index, const Tensor& x) {
  if (x.numel() == 0) return;
  visit_sum(y.dtype(), "index_select", [&]<class T>() {
    const int64_t columns = y.dim(0) * y.dim(2);
    launch(add_slices<T>, grid_for(columns), kThreads, 0, y.mutable_data<T>(),
           index.data<int64_t>(), x.data<T>(), columns, x.dim(1), y.dim(1), y.dim(2));
  });
}

}  // namespace

void register_index() {
  kernel::first_outside.set(kDevice, first_outside);
  kernel::gather.set(kDevice, gather);
  kernel::scatter_add.set(kDevice, scatter_add);
  kernel::take_rows.set(kDevice, take_rows);
  kernel::add_rows.set(kDevice, add_rows);
}

}  // namespace tenun::TENUN_BACKEND
