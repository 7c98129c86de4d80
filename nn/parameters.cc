#include "tenun/nn/parameters.h"

#include <cmath>

#include "tenun/core/check.h"

namespace tenun {
namespace {

// FNV-1a: a parameter's random stream depends on its name, not on its place.
uint64_t hash_name(std::string_view s) {
  uint64_t h = 0xcbf29ce484222325u;
  for (const char c : s) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return h;
}

std::string join(const std::vector<std::string>& names) {
  std::string s;
  for (size_t i = 0; i < names.size() && i < 8; ++i) s += (i == 0 ? "" : ", ") + names[i];
  return names.size() > 8 ? s + fmt::format(", ... ({} in all)", names.size()) : s;
}

}  // namespace

const Var& Param::none() {
  static const Var v;
  return v;
}

Init Init::xavier(int64_t in, int64_t out) {
  return uniform(std::sqrt(6.0 / static_cast<double>(in + out)));
}
Init Init::fan_in(int64_t in) { return uniform(1.0 / std::sqrt(static_cast<double>(in))); }

std::string LoadReport::str() const {
  std::string s = fmt::format("{} tensors loaded", loaded.size());
  if (!missing.empty()) s += "; missing: " + join(missing);
  if (!unexpected.empty()) s += "; unexpected: " + join(unexpected);
  if (!mismatched.empty()) s += "; of another shape: " + join(mismatched);
  return s;
}

ParameterScope ParameterScope::operator/(std::string_view name) const {
  return {store_, prefix_.empty() ? std::string(name) : fmt::format("{}.{}", prefix_, name)};
}
ParameterScope ParameterScope::operator/(int64_t index) const {
  return *this / std::to_string(index);
}
Param ParameterScope::add(std::string_view name, const Shape& shape, const Init& init,
                          Trainable trainable) const {
  return store_->add((*this / name).prefix_, shape, init, trainable);
}

Param ParameterStore::add(std::string name, const Shape& shape, const Init& init,
                          Trainable trainable) {
  check(!by_name_.contains(name), "parameters", "'{}' is there twice", name);
  Tensor t(shape, dtype_);
  const RandomKey key = RandomKey::derive(seed_, Purpose::init, hash_name(name));
  switch (init.kind) {
    case Init::Kind::zeros: t.fill_(0); break;
    case Init::Kind::ones: t.fill_(1); break;
    case Init::Kind::normal: fill_normal(t, key, 0, init.scale); break;
    case Init::Kind::uniform: fill_uniform(t, key, -init.scale, init.scale); break;
    case Init::Kind::value: t.copy_(init.given.to(cpu())); break;
  }
  t = t.to(device_);
  all_.push_back({name, trainable == Trainable::yes ? Var::parameter(t) : Var(t), trainable});
  by_name_.emplace(std::move(name), &all_.back());
  return Param(&all_.back());
}

Parameter* ParameterStore::find(std::string_view name) {
  const auto it = by_name_.find(std::string(name));
  return it == by_name_.end() ? nullptr : it->second;
}
int64_t ParameterStore::count() const {
  int64_t n = 0;
  for (const Parameter& p : all_) n += p.var.numel();
  return n;
}
int64_t ParameterStore::trainable_count() const {
  int64_t n = 0;
  for (const Parameter& p : all_) n += p.trainable == Trainable::yes ? p.var.numel() : 0;
  return n;
}
void ParameterStore::zero_grad() {
  for (Parameter& p : all_) p.var.zero_grad();
}

LoadReport ParameterStore::load(std::span<const NamedTensor> tensors) {
  LoadReport r;
  std::unordered_map<const Parameter*, bool> seen;
  for (const auto& [name, tensor] : tensors) {
    Parameter* p = find(name);
    if (p == nullptr) {
      r.unexpected.push_back(name);
      continue;
    }
    seen[p] = true;
    if (tensor.shape() != p->var.shape()) {
      r.mismatched.push_back(
          fmt::format("{}: file {}, model {}", name, tensor.describe(), p->var.value().describe()));
      continue;
    }
    p->var.mutable_value().copy_(tensor.to(device_));
    r.loaded.push_back(name);
  }
  for (const Parameter& p : all_)
    if (!seen.contains(&p)) r.missing.push_back(p.name);
  return r;
}

std::vector<NamedTensor> ParameterStore::state(std::string_view prefix) const {
  std::vector<NamedTensor> out;
  for (const Parameter& p : all_) out.push_back({std::string(prefix) + p.name, p.var.value()});
  return out;
}

}  // namespace tenun
