#include "core/unit_plan.h"

#include <algorithm>

#include "core/buffer.h"

namespace edgebnn {
namespace {

constexpr std::size_t kTaskChannels = 128;   // of a task of pass 2, where there are many tasks
constexpr std::size_t kFewestTasks = 8;      // of pass 2, so that as many threads have work
constexpr std::size_t kTaskBytes = 1 << 17;  // read by a task of pass 1: less is not worth waking a thread for

std::size_t divided_up(std::size_t value, std::size_t divisor) { return (value + divisor - 1) / divisor; }

UnitPlan::Range part(std::size_t index, std::size_t size, std::size_t end) {
  return {index * size, std::min(end, (index + 1) * size)};
}

UnitPlan::Maps plan_maps(const UnitShape& shape, const UnitInput& input, bool one_row) {
  const std::size_t stride = static_cast<std::size_t>(shape.stride);
  const std::size_t height = one_row ? 1 : input.height, width = one_row ? input.height * input.width : input.width;
  return {.height = height, .width = width, .out_height = height / stride, .out_width = width / stride};
}

UnitPlan::Packed plan_packed(const UnitShape& shape, const Path& path, const UnitInput& input,
                             const UnitPlan::Maps& maps) {
  UnitPlan::Packed packed{};
  packed.padding = static_cast<std::size_t>(shape.kernel / 2);
  packed.bit_bytes = divided_up(static_cast<std::size_t>(shape.inputs), 8);
  packed.pixel_bytes = path.pixel_bytes(shape);
  packed.wrap_pixels = path.wrap_pixels(shape, maps.out_width);
  packed.row_bytes = (maps.width + 2 * packed.padding + packed.wrap_pixels) * packed.pixel_bytes;
  packed.in_place = input.has_bits && packed.padding == 0 && packed.equals_bits();
  packed.bytes = packed.in_place ? 0 : (maps.height + 2 * packed.padding) * packed.row_bytes;
  return packed;
}

UnitPlan::Packing plan_packing(const UnitShape& shape, const UnitInput& input, bool one_row,
                               const UnitPlan::Packed& packed) {
  UnitPlan::Packing packing{};
  packing.height = input.height;
  packing.width = input.width;
  packing.padded_width = input.width + 2 * packed.padding;
  packing.one_row = one_row;
  packing.row_bytes = one_row ? input.width * packed.pixel_bytes : packed.row_bytes;
  packing.rows = input.height + 2 * packed.padding;
  const std::size_t float_bytes = input.width * static_cast<std::size_t>(shape.inputs) * sizeof(float);
  packing.rows_per_task = std::max<std::size_t>(1, kTaskBytes / (input.has_bits ? packing.row_bytes : float_bytes));
  packing.tasks = packed.in_place ? 0 : divided_up(packing.rows, packing.rows_per_task);
  return packing;
}

UnitPlan::Convolution plan_convolution(const UnitShape& shape, const Path& path, const UnitInput& input,
                                       const UnitPlan::Maps& maps) {
  const std::size_t outputs = static_cast<std::size_t>(shape.outputs), block = path.block(outputs);
  UnitPlan::Convolution conv{};
  conv.pixels = maps.out_height * maps.out_width;
  const std::size_t wanted = input.writes_pooled ? rounded_up(kTaskPixels, 2 * maps.out_width) : kTaskPixels;
  conv.pixels_per_task = std::min(conv.pixels, wanted);
  const std::size_t pixel_ranges = divided_up(conv.pixels, conv.pixels_per_task);
  conv.blocks = divided_up(outputs, block);
  conv.blocks_per_task = std::max<std::size_t>(1, kTaskChannels / block);
  while (conv.blocks_per_task > 1 && pixel_ranges * divided_up(conv.blocks, conv.blocks_per_task) < kFewestTasks) {
    conv.blocks_per_task /= 2;
  }
  conv.block_ranges = divided_up(conv.blocks, conv.blocks_per_task);
  conv.tasks = pixel_ranges * conv.block_ranges;
  return conv;
}

}  // namespace

UnitPlan::Range UnitPlan::Packing::task_rows(std::size_t task) const { return part(task, rows_per_task, rows); }

UnitPlan::Range UnitPlan::Convolution::task_pixels(std::size_t task) const {
  return part(task / block_ranges, pixels_per_task, pixels);
}

UnitPlan::Range UnitPlan::Convolution::task_blocks(std::size_t task) const {
  return part(task % block_ranges, blocks_per_task, blocks);
}

UnitPlan plan_unit(const UnitShape& shape, const Path& path, const UnitInput& input) {
  const bool one_row = shape.kernel == 1 && shape.stride == 1 && !input.writes_pooled;
  const UnitPlan::Maps maps = plan_maps(shape, input, one_row);
  const UnitPlan::Packed packed = plan_packed(shape, path, input, maps);
  return {.maps = maps,
          .packed = packed,
          .packing = plan_packing(shape, input, one_row, packed),
          .convolution = plan_convolution(shape, path, input, maps)};
}

}  // namespace edgebnn
