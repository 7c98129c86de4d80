// Data sets of labelled images, by index. load() is a pure function of the index and the key of the
// augmentation, and may be called from several threads.
//
//   auto data = make_dataset(config.data.train_dataset);
//   Image im = data->load(17, key);  data->label(17);
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tenun/core/image.h"
#include "tenun/core/random.h"
#include "tenun/train/config/options_run.h"

namespace tenun {

class Dataset {
 public:
  virtual ~Dataset() = default;
  [[nodiscard]] virtual int64_t size() const = 0;
  [[nodiscard]] virtual int resolution() const = 0;
  [[nodiscard]] virtual const std::vector<std::string>& class_names() const = 0;
  struct Item {
    Image image;  ///< resolution x resolution
    int64_t label = 0;
  };
  /// The picture of an index, augmented. A file that cannot be read is named once in the log, and
  /// the next readable one in the order of the files takes its place; IoError if none of them can
  /// be read.
  [[nodiscard]] virtual Item load(int64_t index, RandomKey augmentation) const = 0;
};

/// A folder of class folders: the class is the rank of the folder's name, images are sorted within
/// a class. Files that are no images by their extension are passed over. JPEG files with sides of
/// at least four times the resolution are decoded at half their size or less, as the decoder can.
[[nodiscard]] std::unique_ptr<Dataset> make_image_folder(const ImageFolderOptions& o);
/// The procedural batik of train/batik.
[[nodiscard]] std::unique_ptr<Dataset> make_batik_dataset(const BatikDatasetOptions& o);
/// By the class of the configuration; ConfigError for one that yields no images.
[[nodiscard]] std::unique_ptr<Dataset> make_dataset(const Object& config);

}  // namespace tenun
