#include "core/unit.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/buffer.h"
#include "core/path.h"

namespace edgebnn {
namespace {

constexpr std::size_t kTaskChannels = 128;   // of one task, where there are many
constexpr std::size_t kFewestTasks = 8;      // so that as many threads have something to do
constexpr std::size_t kTaskBytes = 1 << 17;  // of one task of the preparation: what is worth waking a thread for

class PathUnit final : public Unit {
 public:
  PathUnit(const UnitShape& shape, const UnitConstants& constants, Isa isa)
      : Unit(shape), isa_(isa), path_(*path(isa)) {
    const std::size_t outputs = static_cast<std::size_t>(shape.outputs);
    const std::size_t padded = rounded_up(outputs, path_.block(outputs));
    copy_padded(constants.threshold, inputs(), inputs(), threshold_);
    copy_padded(constants.scale, outputs, padded, scale_);
    copy_padded(constants.bias, outputs, padded, bias_);
    copy_padded(constants.slope, outputs, padded, slope_);
    copy_padded(constants.next_threshold, outputs, padded, next_threshold_);
    padded_outputs_ = padded;
    path_.pack_weights(shape, constants.weight, weight_.reserve(path_.weight_bytes(shape)));
    const std::size_t bases = kBorderCases * padded_outputs_;
    has_inner_base_ = path_.wants_inner_base && shape.kernel == 3 && shape.padding == Padding::kZero;
    base_.reserve(has_inner_base_ ? 2 * bases : bases);
    make_base(constants.weight, false, base_.data());
    if (has_inner_base_) make_base(constants.weight, true, base_.data() + bases);
    make_border_bits();
  }

  bool writes_bits() const override { return next_threshold_.data() != nullptr; }

  Isa isa() const override { return isa_; }

  void run(const UnitArrays& arrays, std::size_t batch, std::size_t height, std::size_t width,
           const Parallel& parallel) const override {
    // Each thread keeps one buffer, warm in its cache: the units of a network run one after the other on the same few
    // threads. The run takes the buffer out, because the thread may run another unit while it waits for its tasks.
    thread_local Buffer<std::uint8_t> kept;
    Buffer<std::uint8_t> cells = std::move(kept);
    const std::size_t stride = static_cast<std::size_t>(shape_.stride);
    Image image{*this, {}, nullptr, nullptr, height, width};
    Job& job = image.job;
    job.shape = shape_;
    const std::int32_t* inner_base = has_inner_base_ ? base_.data() + kBorderCases * padded_outputs_ : nullptr;
    job.constants = {weight_.data(), base_.data(),  inner_base,             scale_.data(),
                     bias_.data(),   slope_.data(), next_threshold_.data(), padded_outputs_};
    // A 1x1 convolution of stride 1 treats the image as one row, unless 2x2 averages are computed.
    image.one_row = shape_.kernel == 1 && shape_.stride == 1 && !arrays.pooled;
    job.height = image.one_row ? 1 : height;
    job.width = image.one_row ? height * width : width;
    job.cell_bytes = path_.cell_bytes(shape_);
    job.out_height = job.height / stride;
    job.out_width = job.width / stride;
    image.seam = path_.seam(shape_, job.out_width);
    job.row_bytes = (job.width + 2 * border() + image.seam) * job.cell_bytes;
    image.row_bytes = image.one_row ? width * job.cell_bytes : job.row_bytes;
    const bool as_given = arrays.bits && border() == 0 && cells_are_bits();
    if (!as_given) image.cells = cells.reserve((job.height + 2 * border()) * job.row_bytes);
    const std::size_t in_pixels = height * width, out_pixels = job.out_height * job.out_width;
    const std::size_t x_pixels = shape_.shortcut == Shortcut::kPooled ? in_pixels / 4 : in_pixels;
    const std::size_t in_bytes = rounded_up(inputs(), 8) / 8, out_bytes = rounded_up(outputs(), 8) / 8;
    for (std::size_t n = 0; n < batch; ++n) {
      job.x = arrays.x + n * x_pixels * inputs();
      image.bits = arrays.bits ? arrays.bits + n * in_pixels * in_bytes : nullptr;
      job.y = arrays.y ? arrays.y + n * out_pixels * outputs() : nullptr;
      job.pooled = arrays.pooled ? arrays.pooled + n * (out_pixels / 4) * outputs() : nullptr;
      job.next_bits = arrays.next_bits ? arrays.next_bits + n * out_pixels * out_bytes : nullptr;
      job.cells = as_given ? image.bits : image.cells;
      if (!as_given) image.prepare(parallel);
      image.convolve(parallel);
    }
    kept = std::move(cells);
  }

 private:
  std::size_t inputs() const { return static_cast<std::size_t>(shape_.inputs); }
  std::size_t outputs() const { return static_cast<std::size_t>(shape_.outputs); }
  std::size_t border() const { return static_cast<std::size_t>(shape_.kernel / 2); }
  bool cells_are_bits() const { return path_.cell_bytes(shape_) == rounded_up(inputs(), 8) / 8; }

  // One image of a run. Pass 1 writes its packed activations, pass 2 convolves them. Tasks are numbered parts of a
  // pass.
  struct Image {
    const PathUnit& unit;
    Job job;
    const std::uint8_t* bits;
    std::uint8_t* cells;
    std::size_t height, width;
    bool one_row = false;
    std::size_t row_bytes = 0, seam = 0;
    std::size_t task_rows = 0, task_pixels = 0, blocks = 0, task_blocks = 0, block_tasks = 0;

    std::size_t padded_width() const { return width + 2 * unit.border(); }

    void prepare(const Parallel& parallel) {
      const std::size_t rows = height + 2 * unit.border();
      task_rows = std::max<std::size_t>(1, kTaskBytes / (bits ? row_bytes : width * unit.inputs() * sizeof(float)));
      run_tasks(parallel, (rows + task_rows - 1) / task_rows, prepare_task);
    }

    void run_tasks(const Parallel& parallel, std::size_t count, Parallel::Task task) {
      if (count == 1) {
        task(this, 0);
      } else {
        parallel.run(parallel.context, count, task, this);
      }
    }

    static void prepare_task(void* state, std::size_t index) {
      const Image& image = *static_cast<Image*>(state);
      const std::size_t end = image.height + 2 * image.unit.border();
      const std::size_t first = index * image.task_rows;
      for (std::size_t row = first; row < std::min(end, first + image.task_rows); ++row) image.prepare_row(row);
    }

    // Writes the cells of a row with its padding, and the cells of the partners of the row's last pixels.
    void prepare_row(std::size_t row) const {
      const std::size_t bytes = rounded_up(unit.inputs(), 8) / 8, stride = static_cast<std::size_t>(unit.shape_.stride);
      std::uint8_t* out = cells + row * row_bytes;
      if (unit.cells_are_bits()) {
        read_line(row, padded_width(), out);
        return;
      }
      const std::size_t line_pixels = padded_width() + stride;
      thread_local Buffer<std::uint8_t> kept;
      std::uint8_t* line = kept.reserve((line_pixels + seam) * bytes);
      read_line(row, line_pixels, line);
      unit.path_.to_cells(unit.shape_, line, line + stride * bytes, padded_width(), out);
      if (seam) {
        std::uint8_t* below = line + line_pixels * bytes;
        read_line(row + stride, seam, below);
        const std::uint8_t* last = line + (job.out_width - 1) * stride * bytes;
        unit.path_.to_cells(unit.shape_, last, below, seam, out + padded_width() * job.cell_bytes);
      }
    }

    // Writes the bits of the first `pixels` of a row with its padding. Beyond the row follows more padding, or the next
    // row if the image is treated as one row.
    void read_line(std::size_t row, std::size_t pixels, std::uint8_t* line) const {
      const std::size_t border = unit.border(), bytes = rounded_up(unit.inputs(), 8) / 8;
      if (row < border || row >= height + border) {
        unit.fill_border(line, pixels);
        return;
      }
      const std::size_t first = (row - border) * width;
      const std::size_t there = one_row ? height * width - first : width;
      const std::size_t known = std::min(pixels - border, there);
      unit.fill_border(line, border);
      if (bits) {
        std::memcpy(line + border * bytes, bits + first * bytes, known * bytes);
      } else {
        const float* x = job.x + first * unit.inputs();
        unit.path_.compare(x, unit.threshold_.data(), known, unit.inputs(), line + border * bytes);
      }
      unit.fill_border(line + (border + known) * bytes, pixels - border - known);
    }

    void convolve(const Parallel& parallel) {
      const std::size_t pixels = job.out_height * job.out_width, block = unit.path_.block(unit.outputs());
      blocks = unit.padded_outputs_ / block;
      task_pixels = std::min(pixels, job.pooled ? rounded_up(kTaskPixels, 2 * job.out_width) : kTaskPixels);
      const std::size_t ranges = (pixels + task_pixels - 1) / task_pixels;
      task_blocks = std::max<std::size_t>(1, kTaskChannels / block);
      while (task_blocks > 1 && ranges * block_tasks_of() < kFewestTasks) task_blocks /= 2;
      block_tasks = block_tasks_of();
      run_tasks(parallel, ranges * block_tasks, convolve_task);
    }

    std::size_t block_tasks_of() const { return (blocks + task_blocks - 1) / task_blocks; }

    static void convolve_task(void* state, std::size_t index) {
      const Image& image = *static_cast<Image*>(state);
      Job job = image.job;
      job.first_pixel = index / image.block_tasks * image.task_pixels;
      job.last_pixel = std::min(job.out_height * job.out_width, job.first_pixel + image.task_pixels);
      job.first_block = index % image.block_tasks * image.task_blocks;
      job.last_block = std::min(image.blocks, job.first_block + image.task_blocks);
      image.unit.path_.convolve(job);
    }
  };

  void fill_border(std::uint8_t* bits, std::size_t pixels) const {
    const std::size_t bytes = rounded_up(inputs(), 8) / 8;
    for (std::size_t i = 0; i < pixels; ++i) std::memcpy(bits + i * bytes, border_bits_.data(), bytes);
  }

  void make_border_bits() {
    const std::size_t bytes = rounded_up(inputs(), 8) / 8;
    std::uint8_t* bits = border_bits_.reserve(bytes);
    std::memset(bits, 0, bytes);
    if (shape_.padding == Padding::kOne) {
      for (std::size_t c = 0; c < inputs(); ++c) bits[c / 8] |= static_cast<std::uint8_t>(1u << (c % 8));
    }
  }

  // Computes the accumulator init: the value of each channel's accumulator without mismatches, per border case.
  // A kernel position (tap) in zero padding must add nothing to the accumulator. The loop reads 0 bits there, which
  // stand for -1, so it counts one mismatch per +1 weight. The init subtracts the tap's inputs, and adds 2 for each of
  // these mismatches. With `inner`, the loop skips whole rows in the padding, so their mismatches need no correction.
  void make_base(const std::uint8_t* weight, bool inner, std::int32_t* base) const {
    const std::size_t bytes = rounded_up(inputs(), 8) / 8, kernel = static_cast<std::size_t>(shape_.kernel);
    const std::size_t taps = kernel * kernel;
    std::fill(base, base + kBorderCases * padded_outputs_, 0);
    for (std::size_t o = 0; o < outputs(); ++o) {
      std::int32_t beyond[9];  // the correction if a tap lies in zero padding
      for (std::size_t tap = 0; tap < taps; ++tap) {
        beyond[tap] = shape_.inputs - 2 * count_ones(weight + (o * taps + tap) * bytes, bytes);
      }
      for (std::size_t border_case = 0; border_case < kBorderCases; ++border_case) {
        std::int32_t sum = static_cast<std::int32_t>(taps) * shape_.inputs;
        for (std::size_t tap = 0; tap < taps; ++tap) {
          const std::size_t row = tap / kernel, column = tap % kernel;
          if (shape_.padding != Padding::kZero || kernel != 3) continue;
          const bool row_outside = (row == 0 && (border_case & 1)) || (row == 2 && (border_case & 2));
          const bool column_outside = (column == 0 && (border_case & 4)) || (column == 2 && (border_case & 8));
          if (row_outside && inner) {
            sum -= shape_.inputs;
          } else if (row_outside || column_outside) {
            sum -= beyond[tap];
          }
        }
        base[border_case * padded_outputs_ + o] = sum;
      }
    }
  }

  static std::int32_t count_ones(const std::uint8_t* bits, std::size_t bytes) {
    std::int32_t count = 0;
    for (; bytes >= 8; bytes -= 8, bits += 8) {
      std::uint64_t eight;
      std::memcpy(&eight, bits, sizeof eight);
      count += __builtin_popcountll(eight);
    }
    for (; bytes; --bytes, ++bits) count += __builtin_popcount(*bits);
    return count;
  }

  const Isa isa_;
  const Path& path_;
  std::size_t padded_outputs_ = 0;
  Constant<std::uint8_t> weight_, border_bits_;
  bool has_inner_base_ = false;
  Constant<std::int32_t> base_;
  Constant<float> threshold_, scale_, bias_, slope_, next_threshold_;
};

}  // namespace

const char* Unit::complaint(const UnitShape& shape) {
  if (shape.inputs < 1 || shape.outputs < 1) return "a unit needs at least one input and one output channel";
  if (shape.inputs > kMaxChannels || shape.outputs > kMaxChannels) return "a unit may have at most 16384 channels";
  if (shape.kernel != 1 && shape.kernel != 3) return "the kernel must be 1x1 or 3x3";
  if (shape.kernel * shape.kernel * shape.inputs > kMaxTerms) return "a 3x3 unit may have at most 3640 input channels";
  switch (shape.shortcut) {
    case Shortcut::kIdentity:
      if (shape.stride != 1) return "the identity shortcut needs stride 1";
      if (shape.outputs != shape.inputs) return "the identity shortcut needs as many outputs as inputs";
      break;
    case Shortcut::kPool:
    case Shortcut::kPooled:
      if (shape.stride != 2) return "a shortcut that is pooled needs stride 2";
      if (shape.outputs != shape.inputs) return "a shortcut that is pooled needs as many outputs as inputs";
      break;
    case Shortcut::kRepeat:
      if (shape.stride != 1) return "the repeat shortcut needs stride 1";
      if (shape.outputs != 2 * shape.inputs) return "the repeat shortcut needs twice as many outputs as inputs";
      break;
    case Shortcut::kNone:
      if (shape.stride != 1 && shape.stride != 2) return "the stride must be 1 or 2";
      break;
  }
  return nullptr;
}

const char* complaint_of_size(int stride, std::int64_t batch, std::int64_t height, std::int64_t width) {
  constexpr std::int64_t kMaxSide = 1 << 14, kMaxBatch = 1 << 20;
  if (batch < 0 || batch > kMaxBatch) return "the batch must be 0 to 1048576 images";
  if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide) return "height and width must be 1 to 16384";
  if (stride == 2 && (height % 2 || width % 2)) return "height and width must be even for stride 2";
  return nullptr;
}

const char* Unit::complaint(std::int64_t batch, std::int64_t height, std::int64_t width, bool pooled) const {
  if (const char* complaint = complaint_of_size(shape_.stride, batch, height, width)) return complaint;
  if (pooled && (height / shape_.stride % 2 || width / shape_.stride % 2)) {
    return "the output's height and width must be even for its 2x2 average";
  }
  return nullptr;
}

std::unique_ptr<Unit> Unit::make(const UnitShape& shape, const UnitConstants& constants, Isa isa) {
  return std::make_unique<PathUnit>(shape, constants, isa);
}

}  // namespace edgebnn
