// The unit that every path shares: it holds the packed constants, plans a run and executes the plan.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "core/buffer.h"
#include "core/path.h"
#include "core/unit.h"
#include "core/unit_plan.h"
#include "core/zero_padding_correction.h"

namespace edgebnn {
namespace {

// A unit for one path: the packed constants.
class PathUnit final : public Unit {
 public:
  PathUnit(const UnitShape& shape, const UnitConstants& constants, Isa isa)
      : Unit(shape), isa_(isa), path_(*path(isa)) {
    const std::size_t inputs = static_cast<std::size_t>(shape.inputs);
    const std::size_t outputs = static_cast<std::size_t>(shape.outputs);
    padded_outputs_ = rounded_up(outputs, path_.block(outputs));
    copy_padded(constants.threshold, inputs, inputs, threshold_);
    copy_padded(constants.scale, outputs, padded_outputs_, scale_);
    copy_padded(constants.bias, outputs, padded_outputs_, bias_);
    copy_padded(constants.slope, outputs, padded_outputs_, slope_);
    copy_padded(constants.next_threshold, outputs, padded_outputs_, next_threshold_);
    path_.pack_weights(shape, constants.weight, weight_.reserve(path_.weight_bytes(shape)));
    make_acc_init(constants.weight);
    make_padding_bits();
  }

  bool writes_bits() const override { return next_threshold_.data() != nullptr; }

  Isa isa() const override { return isa_; }

  void run(const UnitArrays& arrays, std::size_t batch, std::size_t height, std::size_t width,
           const Parallel& parallel) const override;

  const Path& path_of() const { return path_; }
  const float* threshold() const { return threshold_.data(); }
  const std::uint8_t* padding_bits() const { return padding_bits_.data(); }

  Constants constants() const {
    return {.weight = weight_.data(),
            .acc_init = acc_init_.data(),
            .acc_init_rows_skipped = skips_rows_ ? acc_init_.data() + kPaddingCases * padded_outputs_ : nullptr,
            .scale = scale_.data(),
            .bias = bias_.data(),
            .slope = slope_.data(),
            .next_threshold = next_threshold_.data(),
            .padded_outputs = padded_outputs_};
  }

 private:
  // For a path that skips rows, two tables follow each other: the second is for the skipping loop.
  void make_acc_init(const std::uint8_t* weight) {
    const std::size_t count = kPaddingCases * padded_outputs_;
    skips_rows_ = path_.skips_padding_rows && shape_.kernel == 3 && shape_.padding == Padding::kZero;
    std::int32_t* acc_init = acc_init_.reserve(skips_rows_ ? 2 * count : count);
    compute_acc_init(shape_, weight, PaddingRows::kCounted, padded_outputs_, acc_init);
    if (skips_rows_) compute_acc_init(shape_, weight, PaddingRows::kSkipped, padded_outputs_, acc_init + count);
  }

  // The packed bits of a pixel of padding. 0 bits also stand for zero padding, which the accumulator init corrects.
  void make_padding_bits() {
    const std::size_t inputs = static_cast<std::size_t>(shape_.inputs), bytes = rounded_up(inputs, 8) / 8;
    std::uint8_t* bits = padding_bits_.reserve(bytes);
    std::memset(bits, 0, bytes);
    for (std::size_t c = 0; shape_.padding == Padding::kOne && c < inputs; ++c) {
      bits[c / 8] |= static_cast<std::uint8_t>(1u << (c % 8));
    }
  }

  const Isa isa_;
  const Path& path_;
  std::size_t padded_outputs_ = 0;
  bool skips_rows_ = false;
  Constant<std::uint8_t> weight_, padding_bits_;
  Constant<std::int32_t> acc_init_;
  Constant<float> threshold_, scale_, bias_, slope_, next_threshold_;
};

// Executes a plan on one image. Tasks on several threads share an object of this class, and none changes it.
class ImageRun {
 public:
  // `whole` is the convolution of the whole image, and `packed` the memory for its packed activations.
  ImageRun(const PathUnit& unit, const UnitPlan& plan, const ConvTask& whole, const std::uint8_t* bits,
           std::uint8_t* packed)
      : unit_(unit), plan_(plan), whole_(whole), bits_(bits), packed_(packed) {}

  void run(const Parallel& parallel) const {
    if (plan_.packing.tasks) run_tasks<&ImageRun::pack>(parallel, plan_.packing.tasks);
    run_tasks<&ImageRun::convolve>(parallel, plan_.convolution.tasks);
  }

 private:
  template <void (ImageRun::*kTask)(std::size_t) const>
  void run_tasks(const Parallel& parallel, std::size_t count) const {
    if (count == 1) {
      (this->*kTask)(0);
      return;
    }
    const auto task = [](void* run, std::size_t index) { (static_cast<const ImageRun*>(run)->*kTask)(index); };
    parallel.run(parallel.context, count, task, const_cast<ImageRun*>(this));
  }

  // A task of pass 1.
  void pack(std::size_t task) const {
    const UnitPlan::Range rows = plan_.packing.task_rows(task);
    for (std::size_t row = rows.begin; row < rows.end; ++row) pack_row(row);
  }

  // A task of pass 2.
  void convolve(std::size_t task) const {
    const UnitPlan::Range pixels = plan_.convolution.task_pixels(task), blocks = plan_.convolution.task_blocks(task);
    ConvTask part = whole_;
    part.first_pixel = pixels.begin;
    part.last_pixel = pixels.end;
    part.first_block = blocks.begin;
    part.last_block = blocks.end;
    unit_.path_of().convolve(part);
  }

  // Writes the packed activations of a row: its padding, its pixels, and the pixels that wrap around.
  void pack_row(std::size_t row) const {
    const UnitPlan::Packed& packed = plan_.packed;
    const std::size_t padded_width = plan_.packing.padded_width, bytes = packed.bit_bytes;
    std::uint8_t* out = packed_ + row * plan_.packing.row_bytes;
    if (packed.equals_bits()) {
      read_bits(row, padded_width, out);
      return;
    }
    // The bits of the row are followed by the bits of its last pixels' partners.
    const std::size_t stride = static_cast<std::size_t>(whole_.shape.stride), line_pixels = padded_width + stride;
    thread_local Buffer<std::uint8_t> buffer;
    std::uint8_t* line = buffer.reserve((line_pixels + packed.wrap_pixels) * bytes);
    read_bits(row, line_pixels, line);
    unit_.path_of().pack_activations(whole_.shape, line, line + stride * bytes, padded_width, out);
    if (packed.wrap_pixels) {
      std::uint8_t* below = line + line_pixels * bytes;
      read_bits(row + stride, packed.wrap_pixels, below);
      const std::uint8_t* last = line + (plan_.maps.out_width - 1) * stride * bytes;
      std::uint8_t* wrapped = out + padded_width * packed.pixel_bytes;
      unit_.path_of().pack_activations(whole_.shape, last, below, packed.wrap_pixels, wrapped);
    }
  }

  // Writes the packed bits of the first `pixels` of a row with its padding. The pixels after the row are padding, or
  // the next row if pass 2 sees the image as one row.
  void read_bits(std::size_t row, std::size_t pixels, std::uint8_t* line) const {
    const UnitPlan::Packing& packing = plan_.packing;
    const std::size_t padding = plan_.packed.padding, bytes = plan_.packed.bit_bytes;
    if (row < padding || row >= packing.height + padding) {
      fill_padding(line, pixels);
      return;
    }
    const std::size_t first = (row - padding) * packing.width;
    const std::size_t available = packing.one_row ? packing.height * packing.width - first : packing.width;
    const std::size_t count = std::min(pixels - padding, available);
    fill_padding(line, padding);
    if (bits_) {
      std::memcpy(line + padding * bytes, bits_ + first * bytes, count * bytes);
    } else {
      const std::size_t inputs = static_cast<std::size_t>(whole_.shape.inputs);
      unit_.path_of().bitpack(whole_.x + first * inputs, unit_.threshold(), count, inputs, line + padding * bytes);
    }
    fill_padding(line + (padding + count) * bytes, pixels - padding - count);
  }

  void fill_padding(std::uint8_t* bits, std::size_t pixels) const {
    const std::size_t bytes = plan_.packed.bit_bytes;
    for (std::size_t i = 0; i < pixels; ++i) std::memcpy(bits + i * bytes, unit_.padding_bits(), bytes);
  }

  const PathUnit& unit_;
  const UnitPlan& plan_;
  const ConvTask& whole_;
  const std::uint8_t* const bits_;
  std::uint8_t* const packed_;
};

void PathUnit::run(const UnitArrays& arrays, std::size_t batch, std::size_t height, std::size_t width,
                   const Parallel& parallel) const {
  const UnitPlan plan = plan_unit(shape_, path_,
                                  {.height = height,
                                   .width = width,
                                   .has_bits = arrays.bits != nullptr,
                                   .writes_pooled = arrays.pooled != nullptr});
  // Each thread keeps one buffer, warm in its cache: the units of a network run one after the other on the same few
  // threads. The run takes the buffer out, because the thread may run another unit while it waits for its tasks.
  thread_local Buffer<std::uint8_t> kept;
  Buffer<std::uint8_t> buffer = std::move(kept);
  std::uint8_t* packed = buffer.reserve(plan.packed.bytes);
  const std::size_t inputs = static_cast<std::size_t>(shape_.inputs);
  const std::size_t outputs = static_cast<std::size_t>(shape_.outputs);
  const std::size_t in_pixels = height * width, out_pixels = plan.convolution.pixels;
  const std::size_t x_pixels = shape_.shortcut == Shortcut::kPooled ? in_pixels / 4 : in_pixels;
  const std::size_t out_bytes = rounded_up(outputs, 8) / 8;
  for (std::size_t n = 0; n < batch; ++n) {
    const std::uint8_t* bits = arrays.bits ? arrays.bits + n * in_pixels * plan.packed.bit_bytes : nullptr;
    const ConvTask whole = {
        .shape = shape_,
        .constants = constants(),
        .activations = plan.packed.in_place ? bits : packed,
        .pixel_bytes = plan.packed.pixel_bytes,
        .row_bytes = plan.packed.row_bytes,
        .x = arrays.x + n * x_pixels * inputs,
        .height = plan.maps.height,
        .width = plan.maps.width,
        .out_height = plan.maps.out_height,
        .out_width = plan.maps.out_width,
        .y = arrays.y ? arrays.y + n * out_pixels * outputs : nullptr,
        .pooled = arrays.pooled ? arrays.pooled + n * (out_pixels / 4) * outputs : nullptr,
        .next_bits = arrays.next_bits ? arrays.next_bits + n * out_pixels * out_bytes : nullptr,
        .first_pixel = 0,
        .last_pixel = plan.convolution.pixels,
        .first_block = 0,
        .last_block = plan.convolution.blocks,
    };
    ImageRun(*this, plan, whole, bits, packed).run(parallel);
  }
  kept = std::move(buffer);
}

}  // namespace

std::unique_ptr<Unit> Unit::make(const UnitShape& shape, const UnitConstants& constants, Isa isa) {
  return std::make_unique<PathUnit>(shape, constants, isa);
}

}  // namespace edgebnn
