#include "tenun/core/device.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>

#include "tenun/core/check.h"
#include "tenun/core/device_graph.h"
#include "tenun/core/draw.h"
#include "tenun/core/kernel.h"
#include "tenun/core/parallel.h"
#include "tenun/core/strided.h"
#include "tenun/core/version.h"

namespace tenun {
namespace {

constexpr int64_t kGrain = 1 << 15;

template <class To, class From>
To convert(From v) {
  if constexpr (std::is_same_v<To, bool>)
    return static_cast<double>(v) != 0;
  else if constexpr (std::is_same_v<To, bf16> || std::is_same_v<To, f16>)
    return To(static_cast<float>(v));
  else
    return static_cast<To>(v);
}

// Copies to integers and booleans from another type are not in the way of training or sampling: one
// loop for each type that is read writes through a function, where all 81 pairs of types would take
// twice as long to compile.
template <class Wide>
using Store = void (*)(std::byte* y, int64_t i, Wide v);
template <class Wide>
Store<Wide> store_of(DType to) {
  Store<Wide> store = nullptr;
  visit<DType::i8, DType::u8, DType::i32, DType::i64, DType::boolean>(to, "copy", [&]<class To>() {
    store = [](std::byte* y, int64_t i, Wide v) { reinterpret_cast<To*>(y)[i] = convert<To>(v); };
  });
  return store;
}
void copy_to_integers(Span to, Span from, const StridedLoop<2>& loop) {
  visit_all(from.dtype, "copy", [&]<class From>() {
    using Wide = std::conditional_t<is_floating(dtype_of<From>), double, int64_t>;
    const Store<Wide> store = store_of<Wide>(to.dtype);
    const auto* x = reinterpret_cast<const From*>(from.data);
    parallel_for(0, loop.numel(), kGrain, [&](int64_t b, int64_t e) {
      loop.run(b, e, [&](const int64_t* off, const int64_t* s, int64_t, int64_t n) {
        for (int64_t i = 0; i < n; ++i)
          store(to.data, off[0] + i * s[0], static_cast<Wide>(x[off[1] + i * s[1]]));
      });
    });
  });
}

class CpuOps final : public DeviceOps {
 public:
  void* allocate(size_t bytes) override {
    constexpr size_t kHuge = size_t{2} << 20;
    const size_t align = bytes >= 2 * kHuge ? kHuge : 64;
    void* p = std::aligned_alloc(align, (bytes + align - 1) / align * align);
    // Large pages spare most of the page faults and address-translation misses of big matrices.
    if (p != nullptr && align == kHuge) madvise(p, bytes, MADV_HUGEPAGE);
    return p;
  }
  void release(void* p, size_t) noexcept override { std::free(p); }
  void copy_bytes(void* to, Device, const void* from, Device, size_t bytes) override {
    std::memcpy(to, from, bytes);
  }

  void copy(Span to, Span from) override {
    const StridedLoop<2> loop({to.layout, from.layout});
    if (to.dtype == from.dtype && loop.flat()) {
      const auto size = static_cast<size_t>(size_of(to.dtype));
      parallel_for(0, loop.numel(), kGrain * 4, [&](int64_t b, int64_t e) {
        std::memcpy(to.data + (static_cast<size_t>(to.layout->offset + b)) * size,
                    from.data + (static_cast<size_t>(from.layout->offset + b)) * size,
                    static_cast<size_t>(e - b) * size);
      });
      return;
    }
    if (!is_floating(to.dtype) && to.dtype != from.dtype) return copy_to_integers(to, from, loop);
    visit_all(to.dtype, "copy", [&]<class To>() {
      visit_all(from.dtype, "copy", [&]<class From>() {
        if constexpr (is_floating(dtype_of<To>) || std::is_same_v<To, From>) {
          auto* y = reinterpret_cast<To*>(to.data);
          const auto* x = reinterpret_cast<const From*>(from.data);
          parallel_for(0, loop.numel(), kGrain, [&](int64_t b, int64_t e) {
            loop.run(b, e, [&](const int64_t* off, const int64_t* s, int64_t, int64_t n) {
              To* yp = y + off[0];
              const From* xp = x + off[1];
              if (s[0] == 1 && s[1] == 1) {
                for (int64_t i = 0; i < n; ++i) yp[i] = convert<To>(xp[i]);
              } else {
                for (int64_t i = 0; i < n; ++i) yp[i * s[0]] = convert<To>(xp[i * s[1]]);
              }
            });
          });
        }
      });
    });
  }

  void fill(Span to, double value) override {
    const StridedLoop<1> loop({to.layout});
    visit_all(to.dtype, "fill", [&]<class T>() {
      auto* y = reinterpret_cast<T*>(to.data);
      const T v = convert<T>(value);
      parallel_for(0, loop.numel(), kGrain, [&](int64_t b, int64_t e) {
        loop.run(b, e, [&](const int64_t* off, const int64_t* s, int64_t, int64_t n) {
          for (int64_t i = 0; i < n; ++i) y[off[0] + i * s[0]] = v;
        });
      });
    });
  }

  void add_into(Span to, Span from) override {
    const StridedLoop<2> loop({to.layout, from.layout});
    visit<DType::f32, DType::f64, DType::bf16, DType::f16, DType::i32, DType::i64>(
        to.dtype, "add_into", [&]<class T>() {
          auto* y = reinterpret_cast<T*>(to.data);
          const auto* x = reinterpret_cast<const T*>(from.data);
          parallel_for(0, loop.numel(), kGrain, [&](int64_t b, int64_t e) {
            loop.run(b, e, [&](const int64_t* off, const int64_t* s, int64_t, int64_t n) {
              T* yp = y + off[0];
              const T* xp = x + off[1];
              if (s[0] == 1 && s[1] == 1) {
                for (int64_t i = 0; i < n; ++i) yp[i] = T(yp[i] + xp[i]);
              } else {
                for (int64_t i = 0; i < n; ++i) yp[i * s[0]] = T(yp[i * s[0]] + xp[i * s[1]]);
              }
            });
          });
        });
  }

  bool all_finite(Span x) override {
    const StridedLoop<1> loop({x.layout});
    bool ok = true;
    visit_float(x.dtype, "all_finite", [&]<class T>() {
      const auto* p = reinterpret_cast<const T*>(x.data);
      loop.run(0, loop.numel(), [&](const int64_t* off, const int64_t* s, int64_t, int64_t n) {
        for (int64_t i = 0; i < n; ++i)
          ok = ok && std::isfinite(static_cast<Compute<T>>(p[off[0] + i * s[0]]));
      });
    });
    return ok;
  }
  void draw(Span to, const Draws& draws) override {
    const int64_t n = to.layout->shape.numel();
    visit_float(to.dtype, "draw", [&]<class T>() {
      T* p = reinterpret_cast<T*>(to.data) + to.layout->offset;
      parallel_for(0, (n + 3) / 4, 4096, [&](int64_t b, int64_t e) {
        for (int64_t i = b; i < e; ++i) {
          float v[4];
          draw_four(draws, static_cast<uint64_t>(i), v);
          for (int64_t k = 0; k < 4 && i * 4 + k < n; ++k) p[i * 4 + k] = T(v[k]);
        }
      });
    });
  }
  void synchronize() override {}
};

std::array<DeviceOps*, kDeviceTypes>& backends() {
  static auto* const cpu_ops = new CpuOps;
  static std::array<DeviceOps*, kDeviceTypes> all{cpu_ops};
  return all;
}

}  // namespace

std::string Device::str() const {
  return type == DeviceType::cpu        ? "cpu"
         : type == DeviceType::emulated ? "emulated"
                                        : fmt::format("cuda:{}", index);
}

Device device_from_name(std::string_view text) {
  if (text == "cpu") return cpu();
  if (text == "cuda") return {DeviceType::cuda, 0};
  if (text == "emulated") return {DeviceType::emulated, 0};
  if (text.starts_with("cuda:")) {
    int index = -1;
    const std::string_view digits = text.substr(5);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    if (error == std::errc{} && end == digits.data() + digits.size() && index >= 0)
      return {DeviceType::cuda, index};
  }
  fail("device", "unknown device '{}'; use cpu, cuda, cuda:N or emulated", text);
}

namespace {
using Clock = std::chrono::steady_clock;
}
void* DeviceOps::make_event() { return new Clock::time_point; }
void DeviceOps::release_event(void* event) noexcept {
  delete static_cast<Clock::time_point*>(event);
}
void DeviceOps::record_event(void* event) {
  *static_cast<Clock::time_point*>(event) = Clock::now();
}
double DeviceOps::ms_between(void* from, void* to) {
  return std::chrono::duration<double, std::milli>(*static_cast<Clock::time_point*>(to) -
                                                   *static_cast<Clock::time_point*>(from))
      .count();
}

Event::Event(Device device) : ops_(device_ops(device.type)), event_(ops_.make_event()) {}
Event::~Event() { ops_.release_event(event_); }
void Event::record() {
  for (int type = 0; type < kDeviceTypes; ++type)
    if (backends()[static_cast<size_t>(type)] == &ops_)
      detail::refuse_while_recording(static_cast<DeviceType>(type),
                                     "an event has no time of its own");
  ops_.record_event(event_);
}
double Event::ms_since(const Event& earlier) const {
  check(&ops_ == &earlier.ops_, "event", "both must be of one device");
  return ops_.ms_between(earlier.event_, event_);
}

DeviceOps& device_ops(DeviceType type) {
  DeviceOps* ops = backends()[static_cast<size_t>(type)];
  check<DeviceError>(ops != nullptr || type != DeviceType::emulated, "device",
                     "this build has no emulated device; configure it with -Demulation=true");
  check<DeviceError>(ops != nullptr, "cuda", "{}", cuda_status());
  return *ops;
}
void set_device_ops(DeviceType type, DeviceOps* ops) {
  backends()[static_cast<size_t>(type)] = ops;
}
bool has_device(DeviceType type) { return backends()[static_cast<size_t>(type)] != nullptr; }

DType dtype_from_name(std::string_view text) {
  for (const DType d : {DType::f32, DType::f64, DType::bf16, DType::f16, DType::i8, DType::u8,
                        DType::i32, DType::i64, DType::boolean})
    if (text == name(d)) return d;
  fail("dtype", "unknown dtype '{}'; use f32, f64, bf16, f16, i8, u8, i32, i64 or bool", text);
}

namespace detail {
constinit thread_local const char* device_call = nullptr;
constinit CallRanges call_ranges;
void throw_dtype(std::string_view op, DType got, const DType* allowed, int n) {
  std::string list;
  for (int i = 0; i < n; ++i) list += fmt::format("{}{}", i == 0 ? "" : ", ", name(allowed[i]));
  fail<DTypeError>(op, "does not take {}; it takes {}", name(got), list);
}
void throw_no_kernel(const char* kernel, Device device) {
  fail<MissingKernel>(kernel, "no {} kernel in this build",
                      device.type == DeviceType::cpu    ? "CPU"
                      : device.type == DeviceType::cuda ? "CUDA"
                                                        : "emulated CUDA");
}
}  // namespace detail

}  // namespace tenun
