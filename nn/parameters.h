// Parameters by name. A ParameterStore owns a model's parameters in state-dict order; modules hold
// Param handles into it, so that loading, EMA or a test may replace a parameter and the module sees
// it.
//
//   ParameterStore store;
//   nn::Linear fc(store.root() / "fc", 4, 2);       // makes fc.weight, fc.bias
//   for (Parameter& p : store) ...;
//   LoadReport r = store.load(load_safetensors("model.safetensors").tensors);
//
// Names are dotted ("blocks.3.attn.qkv.weight"). Values are f32 unless the store is made for
// another dtype. Initial values are functions of (seed, name): independent of the order of
// construction.
#pragma once
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tenun/autograd/var.h"
#include "tenun/core/io/safetensors.h"
#include "tenun/core/random.h"

namespace tenun {

enum class Trainable : uint8_t { no, yes };

struct Parameter {
  std::string name;
  Var var;
  Trainable trainable = Trainable::yes;
};

/// A handle to a parameter of a store; converts to its Var.
class Param {
 public:
  Param() = default;
  explicit Param(Parameter* p) : p_(p) {}
  operator const Var&() const {
    return p_ != nullptr ? p_->var : none();
  }  // NOLINT: implicit on purpose
  [[nodiscard]] const Var& var() const { return *this; }
  [[nodiscard]] const Tensor& value() const { return var().value(); }
  [[nodiscard]] bool defined() const { return p_ != nullptr; }
  [[nodiscard]] Parameter* get() const { return p_; }

 private:
  static const Var& none();
  Parameter* p_ = nullptr;
};

/// How a parameter starts.
struct Init {
  enum class Kind : uint8_t { zeros, ones, normal, uniform, value } kind = Kind::zeros;
  double scale = 0;  ///< standard deviation, or half the width of the uniform range
  Tensor given{};    ///< for Kind::value
  [[nodiscard]] static Init zeros() { return {}; }
  [[nodiscard]] static Init ones() { return {.kind = Kind::ones}; }
  [[nodiscard]] static Init constant(Tensor t) {
    return {.kind = Kind::value, .given = std::move(t)};
  }
  [[nodiscard]] static Init normal(double deviation) {
    return {.kind = Kind::normal, .scale = deviation};
  }
  [[nodiscard]] static Init uniform(double half_width) {
    return {.kind = Kind::uniform, .scale = half_width};
  }
  /// U(+-sqrt(6 / (fan_in + fan_out))), Glorot & Bengio 2010.
  [[nodiscard]] static Init xavier(int64_t fan_in, int64_t fan_out);
  /// U(+-1 / sqrt(fan_in)): what Kaiming-uniform with a = sqrt(5) amounts to.
  [[nodiscard]] static Init fan_in(int64_t fan_in);
};

struct LoadReport {
  std::vector<std::string> loaded, missing, unexpected;
  std::vector<std::string> mismatched;  ///< "name: file f32[3], model f32[4]"
  [[nodiscard]] bool complete() const {
    return missing.empty() && unexpected.empty() && mismatched.empty();
  }
  [[nodiscard]] std::string str() const;  ///< for messages: counts and the first names
};

class ParameterStore;

/// A place in the tree of names: `store.root() / "blocks" / 3 / "attn"`.
class ParameterScope {
 public:
  ParameterScope(ParameterStore* store, std::string prefix)
      : store_(store), prefix_(std::move(prefix)) {}
  [[nodiscard]] ParameterScope operator/(std::string_view name) const;
  [[nodiscard]] ParameterScope operator/(int64_t index) const;
  /// Adds a parameter here.
  Param add(std::string_view name, const Shape& shape, const Init& init,
            Trainable trainable = Trainable::yes) const;

 private:
  ParameterStore* store_;
  std::string prefix_;
};

class ParameterStore {
 public:
  explicit ParameterStore(uint64_t seed = 0, DType dtype = DType::f32, Device device = cpu())
      : seed_(seed), dtype_(dtype), device_(device) {}
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  [[nodiscard]] ParameterScope root() { return {this, ""}; }
  Param add(std::string name, const Shape& shape, const Init& init, Trainable trainable);
  [[nodiscard]] Parameter* find(std::string_view name);
  [[nodiscard]] auto begin() { return all_.begin(); }
  [[nodiscard]] auto end() { return all_.end(); }
  [[nodiscard]] auto begin() const { return all_.begin(); }
  [[nodiscard]] auto end() const { return all_.end(); }
  [[nodiscard]] size_t size() const { return all_.size(); }
  [[nodiscard]] int64_t count() const;  ///< numbers in all parameters
  [[nodiscard]] int64_t trainable_count() const;
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] Device device() const { return device_; }

  void zero_grad();
  /// Copies values by name (converting the dtype). Parameters that the list does not name keep
  /// their values; the report says which, and names tensors that fit nothing.
  LoadReport load(std::span<const NamedTensor> tensors);
  /// The values, in order, with `prefix` before each name. They share memory with the parameters.
  [[nodiscard]] std::vector<NamedTensor> state(std::string_view prefix = "") const;

 private:
  uint64_t seed_;
  DType dtype_;
  Device device_;
  std::deque<Parameter> all_;  // addresses stay
  std::unordered_map<std::string, Parameter*> by_name_;
};

}  // namespace tenun
