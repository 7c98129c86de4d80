#include "tenun/train/data/loader.h"

#include "tenun/core/check.h"
#include "tenun/core/parallel.h"
#include "tenun/train/data/transforms.h"

namespace tenun {

BatchLoader::BatchLoader(const Dataset& data, const LoaderOptions& o) : data_(data), o_(o) {
  check(o.batch_size >= 1, "loader", "batch_size must be at least 1, got {}", o.batch_size);
  o_.workers = std::max<int64_t>(o.workers, 1);
  o_.prefetch = std::max<int64_t>(o.prefetch, 1);
}
BatchLoader::~BatchLoader() { stop(); }

void BatchLoader::start() {
  stopping_ = false;
  for (int64_t i = 0; i < o_.workers; ++i) threads_.emplace_back([this] { work(); });
}
void BatchLoader::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  room_.notify_all();
  for (std::thread& t : threads_) t.join();
  threads_.clear();
}

void BatchLoader::seek(int64_t epoch, int64_t index) {
  stop();
  ready_.clear();
  error_ = nullptr;
  next_made_ = next_given_ = epoch * batches_per_epoch() + index;
}

Batch BatchLoader::make(int64_t number) const {
  Batch b;
  b.epoch = number / batches_per_epoch();
  b.index = number % batches_per_epoch();
  b.last_of_epoch = b.index + 1 == batches_per_epoch();
  const std::vector<int64_t> order = permutation(
      data_.size(), RandomKey::derive(o_.seed, Purpose::shuffle, static_cast<uint64_t>(b.epoch)));
  const int64_t first = b.index * o_.batch_size,
                count = std::min(o_.batch_size, data_.size() - first), s = data_.resolution();
  b.x = Tensor({count, 3, s, s}, DType::f32);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t index = order[static_cast<size_t>(first + i)];
    const Dataset::Item item = data_.load(
        index, RandomKey::derive(o_.seed, Purpose::augment, static_cast<uint64_t>(b.epoch),
                                 static_cast<uint64_t>(index)));
    Tensor one = b.x.select(0, i);
    image_to_tensor(item.image, one);
    labels.push_back(item.label);
    b.samples.push_back(static_cast<uint64_t>(b.epoch * data_.size() + first + i));
  }
  b.y = Tensor::from(labels, {count});
  return b;
}

void BatchLoader::work() {
  const SerialScope serial;  // the training step owns the team of threads
  for (;;) {
    int64_t number = 0;
    {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [&] {
        return stopping_ || error_ || next_made_ < next_given_ + o_.workers * o_.prefetch;
      });
      if (stopping_ || error_) return;
      number = next_made_++;
    }
    try {
      Batch b = make(number);
      const std::lock_guard lock(mutex_);
      ready_.emplace(number, std::move(b));
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    made_.notify_all();
  }
}

Batch BatchLoader::next() {
  if (threads_.empty()) start();
  std::unique_lock lock(mutex_);
  made_.wait(lock, [&] { return error_ || ready_.contains(next_given_); });
  const auto it = ready_.find(next_given_);
  if (it == ready_.end()) std::rethrow_exception(error_);
  Batch b = std::move(it->second);
  ready_.erase(it);
  ++next_given_;
  lock.unlock();
  room_.notify_all();
  return b;
}

}  // namespace tenun
