#include "core/image_conv.h"

#include <algorithm>
#include <cstring>

#include "core/buffer.h"
#include "core/path.h"

namespace edgebnn {
namespace {

constexpr std::size_t kTaps = 9;
constexpr std::size_t kTaskBytes = 1 << 16;  // written by a task: less is not worth waking a thread for
constexpr std::size_t kEnd = 28;             // pixels of each end of a row: whole tiles on every path

class PathImageConv final : public ImageConv {
 public:
  PathImageConv(const ImageConvShape& shape, const ImageConvConstants& constants, Isa isa)
      : ImageConv(shape), isa_(isa), path_(*path(isa)) {
    const std::size_t padded = rounded_up(outputs(), path_.image_block);
    copy_padded(constants.bias, outputs(), padded, bias_);
    copy_padded(constants.next_threshold, outputs(), padded, next_threshold_);
    pack_weights(constants.weight, padded);
  }

  bool writes_bits() const override { return next_threshold_.data() != nullptr; }

  Isa isa() const override { return isa_; }

  void run(const float* image, std::size_t batch, std::size_t height, std::size_t width, float* y,
           std::uint8_t* next_bits, const Parallel& parallel) const override {
    const std::size_t out_height = height / stride(), out_width = width / stride();
    const std::size_t fitting_rows = std::max<std::size_t>(1, kTaskBytes / (out_width * outputs() * sizeof(float)));
    const std::size_t task_rows = std::min(out_height, fitting_rows);
    const Images images{.conv = *this,
                        .image = image,
                        .height = height,
                        .width = width,
                        .out_height = out_height,
                        .out_width = out_width,
                        .y = y,
                        .next_bits = next_bits,
                        .task_rows = task_rows,
                        .tasks = (out_height + task_rows - 1) / task_rows};
    parallel.run(parallel.context, batch * images.tasks, Images::run_task, const_cast<Images*>(&images));
  }

 private:
  std::size_t channels() const { return static_cast<std::size_t>(shape_.channels); }
  std::size_t outputs() const { return static_cast<std::size_t>(shape_.outputs); }
  std::size_t stride() const { return static_cast<std::size_t>(shape_.stride); }

  // (outputs, taps) -> (blocks, taps, block); channels beyond the last are zeros.
  void pack_weights(const float* weight, std::size_t padded) {
    const std::size_t taps = channels() * kTaps, block = path_.image_block;
    float* packed = weight_.reserve(padded * taps);
    std::fill(packed, packed + padded * taps, 0.0f);
    for (std::size_t o = 0; o < outputs(); ++o) {
      for (std::size_t tap = 0; tap < taps; ++tap) {
        packed[(o / block * taps + tap) * block + o % block] = weight[o * taps + tap];
      }
    }
  }

  // The images of a run, and their division into tasks. A task is some output rows of one image. Nothing changes during
  // the run.
  struct Images {
    const PathImageConv& conv;
    const float* image;
    std::size_t height, width, out_height, out_width;
    float* y;
    std::uint8_t* next_bits;
    std::size_t task_rows, tasks;  // tasks of one image

    static void run_task(void* state, std::size_t index) {
      const Images& images = *static_cast<const Images*>(state);
      const std::size_t first = index % images.tasks * images.task_rows;
      images.run_rows(index / images.tasks, first, std::min(images.out_height, first + images.task_rows));
    }

    void run_rows(std::size_t number, std::size_t first, std::size_t last) const {
      const std::size_t stride = conv.stride();
      // The windows of a row's ends are copied with their zero padding. Between the ends the image is read in place.
      const bool whole = out_width <= 2 * kEnd;
      const std::size_t left = whole ? out_width : kEnd, right = whole || stride == 2 ? out_width : out_width - kEnd;
      for (std::size_t i = first; i < last; ++i) {
        if (i == 0 || i * stride + 2 > height) {  // the window crosses the top or the bottom
          run_copied(number, i, 0, out_width);
          continue;
        }
        run_copied(number, i, 0, left);
        if (left < right) run_in_place(number, i, left, right);
        if (right < out_width) run_copied(number, i, right, out_width);
      }
    }

    // Computes pixels `first` to `last` of an output row, whose windows need no padding.
    void run_in_place(std::size_t number, std::size_t i, std::size_t first, std::size_t last) const {
      const std::size_t stride = conv.stride();
      const float* window = image + (number * conv.channels() * height + i * stride - 1) * width + first * stride - 1;
      run_pixels(number, i, first, last, window, width, height * width);
    }

    void run_copied(std::size_t number, std::size_t i, std::size_t first, std::size_t last) const {
      const std::size_t stride = conv.stride(), line = (last - first - 1) * stride + 3;
      thread_local Buffer<float> buffer;
      float* copy = buffer.reserve(conv.channels() * 3 * line);
      for (std::size_t c = 0; c < conv.channels(); ++c) {
        const float* plane = image + (number * conv.channels() + c) * height * width;
        for (std::size_t row = 0; row < 3; ++row) {
          copy_line(plane, i * stride + row, first * stride, line, copy + (c * 3 + row) * line);
        }
      }
      run_pixels(number, i, first, last, copy, line, 3 * line);
    }

    void run_pixels(std::size_t number, std::size_t i, std::size_t first, std::size_t last, const float* window,
                    std::size_t line, std::size_t plane) const {
      const std::size_t outputs = conv.outputs(), pixel = (number * out_height + i) * out_width + first;
      conv.path_.convolve_image({.weight = conv.weight_.data(),
                                 .bias = conv.bias_.data(),
                                 .next_threshold = conv.next_threshold_.data(),
                                 .channels = conv.channels(),
                                 .outputs = outputs,
                                 .stride = conv.stride(),
                                 .image = window,
                                 .line = line,
                                 .plane = plane,
                                 .pixels = last - first,
                                 .y = y + pixel * outputs,
                                 .next_bits = next_bits ? next_bits + pixel * ((outputs + 7) / 8) : nullptr});
    }

    // Copies `count` values of a row of a padded channel, from `column` on. Row and column 0 are padding, and so are
    // the rows and columns after the image's last.
    void copy_line(const float* plane, std::size_t row, std::size_t column, std::size_t count, float* line) const {
      if (row == 0 || row > height) {
        std::fill(line, line + count, 0.0f);
        return;
      }
      const std::size_t before = column == 0 ? 1 : 0,
                        count_inside = std::min(count - before, width + 1 - (column + before));
      std::fill(line, line + before, 0.0f);
      std::memcpy(line + before, plane + (row - 1) * width + (column + before - 1), count_inside * sizeof(float));
      std::fill(line + before + count_inside, line + count, 0.0f);
    }
  };

  const Isa isa_;
  const Path& path_;
  Constant<float> weight_, bias_, next_threshold_;
};

}  // namespace

const char* ImageConv::shape_error(const ImageConvShape& shape) {
  if (shape.channels < 1 || shape.outputs < 1) return "an image and its convolution need at least one channel";
  if (shape.channels > kMaxChannels || shape.outputs > kMaxChannels) return "there may be at most 16384 channels";
  if (shape.stride != 1 && shape.stride != 2) return "the stride must be 1 or 2";
  return nullptr;
}

const char* ImageConv::input_error(std::int64_t batch, std::int64_t height, std::int64_t width) const {
  return size_error(shape_.stride, batch, height, width);
}

std::unique_ptr<ImageConv> ImageConv::make(const ImageConvShape& shape, const ImageConvConstants& constants, Isa isa) {
  return std::make_unique<PathImageConv>(shape, constants, isa);
}

}  // namespace edgebnn
