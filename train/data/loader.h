// Batches of a data set, made ahead by worker threads. The order of epoch e is the permutation
// keyed by (seed, e); the augmentation of a sample is keyed by (seed, epoch, index). So the batches
// are a pure function of seed and position, whatever the number of workers, and a position is all
// that a checkpoint needs.
//
//   BatchLoader loader(*data, {.batch_size = 32, .workers = 2, .seed = 7});
//   Batch b = loader.next();                       // waits if the workers are behind
#pragma once
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "tenun/core/tensor.h"
#include "tenun/train/data/dataset.h"

namespace tenun {

struct LoaderOptions {
  int64_t batch_size = 64;
  int64_t workers = 1;
  int64_t prefetch = 2;  ///< batches made ahead by each worker
  uint64_t seed = 0;
};

struct Batch {
  Tensor x;                       ///< (B, 3, S, S) f32 in [-1, 1]
  Tensor y;                       ///< (B) i64
  std::vector<uint64_t> samples;  ///< global sample numbers: epoch * size + position
  int64_t epoch = 0, index = 0;   ///< which batch of which epoch
  bool last_of_epoch = false;
};

class BatchLoader {
 public:
  BatchLoader(const Dataset& data, const LoaderOptions& o);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  [[nodiscard]] Batch next();
  /// Continues with this batch. Call before the first next(), or between two.
  void seek(int64_t epoch, int64_t index);
  [[nodiscard]] int64_t batches_per_epoch() const {
    return (data_.size() + o_.batch_size - 1) / o_.batch_size;
  }

 private:
  void start();
  void stop();
  void work();
  [[nodiscard]] Batch make(int64_t number) const;

  const Dataset& data_;
  LoaderOptions o_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable made_, room_;
  std::map<int64_t, Batch> ready_;
  std::exception_ptr error_;
  int64_t next_made_ = 0, next_given_ = 0;  // numbers of batches since the start of epoch 0
  bool stopping_ = false;
};

}  // namespace tenun
