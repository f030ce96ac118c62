// The geometry of core/unit_plan.h.
#include <vector>

#include "check.h"
#include "core/isa.h"
#include "core/path.h"
#include "core/unit_plan.h"

namespace {

using namespace edgebnn;

UnitPlan plan(const UnitShape& shape, const UnitInput& input, Isa isa = Isa::kScalar) {
  return plan_unit(shape, *path(isa), input);
}

constexpr UnitShape k1x1{64, 64, 1, 1, Padding::kZero, Shortcut::kIdentity};
constexpr UnitShape k3x3{64, 64, 3, 1, Padding::kZero, Shortcut::kIdentity};

// Checks that the tasks of both passes cover every row, and every pixel of every block, exactly once.
void check_tasks(const UnitPlan& plan) {
  std::size_t next_row = 0;
  for (std::size_t task = 0; task < plan.packing.tasks; ++task) {
    const UnitPlan::Range rows = plan.packing.task_rows(task);
    CHECK_EQUAL(rows.begin, next_row);
    CHECK(rows.begin < rows.end);
    next_row = rows.end;
  }
  CHECK_EQUAL(next_row, plan.packed.in_place ? 0 : plan.packing.rows);
  const UnitPlan::Convolution& conv = plan.convolution;
  std::vector<int> times(conv.pixels * conv.blocks);
  for (std::size_t task = 0; task < conv.tasks; ++task) {
    const UnitPlan::Range pixels = conv.task_pixels(task), blocks = conv.task_blocks(task);
    for (std::size_t p = pixels.begin; p < pixels.end; ++p) {
      for (std::size_t b = blocks.begin; b < blocks.end; ++b) ++times[p * conv.blocks + b];
    }
  }
  bool once = true;
  for (const int count : times) once = once && count == 1;
  CHECK(once);
}

}  // namespace

TEST(a_1x1_unit_sees_the_map_as_one_row) {
  const UnitPlan one = plan(k1x1, {.height = 5, .width = 7});
  CHECK_EQUAL(one.maps.height, 1u);
  CHECK_EQUAL(one.maps.width, 35u);
  CHECK_EQUAL(one.packed.padding, 0u);
  CHECK_EQUAL(one.packing.rows, 5u);  // pass 1 goes through the rows of the image
  CHECK_EQUAL(one.packing.row_bytes, 7 * 8u);
  CHECK_EQUAL(one.packed.bytes, 35 * 8u);
  const UnitPlan pooled = plan(k1x1, {.height = 4, .width = 6, .writes_pooled = true});
  CHECK_EQUAL(pooled.maps.height, 4u);
  CHECK_EQUAL(pooled.maps.width, 6u);
}

TEST(a_3x3_unit_writes_its_padding_out) {
  const UnitPlan padded = plan(k3x3, {.height = 5, .width = 7});
  CHECK_EQUAL(padded.packed.padding, 1u);
  CHECK_EQUAL(padded.packing.rows, 7u);
  CHECK_EQUAL(padded.packed.row_bytes, 9 * 8u);
  CHECK_EQUAL(padded.packed.bytes, 7 * 9 * 8u);
}

TEST(a_stride_halves_the_map) {
  const UnitShape shape{64, 64, 3, 2, Padding::kZero, Shortcut::kPool};
  const UnitPlan halved = plan(shape, {.height = 6, .width = 10});
  CHECK_EQUAL(halved.maps.out_height, 3u);
  CHECK_EQUAL(halved.maps.out_width, 5u);
  CHECK_EQUAL(halved.convolution.pixels, 15u);
}

TEST(bits_are_read_in_place_only_without_padding_and_in_whole_words) {
  UnitShape shape = k1x1;
  CHECK(plan(shape, {.height = 5, .width = 7, .has_bits = true}).packed.in_place);
  CHECK_EQUAL(plan(shape, {.height = 5, .width = 7, .has_bits = true}).packed.bytes, 0u);
  CHECK(!plan(shape, {.height = 5, .width = 7}).packed.in_place);
  CHECK(!plan(k3x3, {.height = 5, .width = 7, .has_bits = true}).packed.in_place);
  shape.inputs = shape.outputs = 40;  // 5 bytes of bits, 8 of words
  CHECK(!plan(shape, {.height = 5, .width = 7, .has_bits = true}).packed.in_place);
}

TEST(rows_of_odd_width_wrap_around_on_avx2) {
  if (!path(Isa::kAvx2)) return;
  CHECK_EQUAL(plan(k3x3, {.height = 5, .width = 7}, Isa::kAvx2).packed.wrap_pixels, 3u);
  CHECK_EQUAL(plan(k3x3, {.height = 5, .width = 8}, Isa::kAvx2).packed.wrap_pixels, 0u);
  CHECK_EQUAL(plan(k1x1, {.height = 5, .width = 7}, Isa::kAvx2).packed.wrap_pixels, 0u);
  CHECK_EQUAL(plan(k3x3, {.height = 5, .width = 7}).packed.wrap_pixels, 0u);
}

TEST(tasks_cover_everything_once) {
  for (const Isa isa : kFastestFirst) {
    if (!path(isa)) continue;
    for (const int channels : {1, 9, 64, 130, 513}) {
      for (const UnitShape& form : {k1x1, k3x3}) {
        UnitShape shape = form;
        shape.inputs = shape.outputs = channels;
        for (const UnitInput& input : {UnitInput{.height = 1, .width = 1}, UnitInput{.height = 56, .width = 57},
                                       UnitInput{.height = 14, .width = 14, .has_bits = true},
                                       UnitInput{.height = 30, .width = 34, .writes_pooled = true}}) {
          check_tasks(plan(shape, input, isa));
        }
      }
    }
  }
}

TEST(tasks_with_averages_are_whole_pairs_of_rows) {
  for (const std::size_t width : {2u, 34u, 98u, 200u}) {
    const UnitPlan::Convolution conv = plan(k3x3, {.height = 6, .width = width, .writes_pooled = true}).convolution;
    for (std::size_t task = 0; task < conv.tasks; ++task) {
      CHECK_EQUAL(conv.task_pixels(task).begin % (2 * width), 0u);
      CHECK_EQUAL(conv.task_pixels(task).end % (2 * width), 0u);
    }
  }
}

TEST(small_maps_are_divided_into_fewer_channels_per_task) {
  UnitShape shape = k3x3;
  shape.inputs = shape.outputs = 512;  // 64 blocks of the scalar path
  const UnitPlan::Convolution large = plan(shape, {.height = 28, .width = 28}).convolution;
  CHECK_EQUAL(large.blocks_per_task, 16u);  // 128 channels
  CHECK_EQUAL(large.tasks, 8u * 4u);
  const UnitPlan::Convolution small = plan(shape, {.height = 7, .width = 7}).convolution;
  CHECK_EQUAL(small.blocks_per_task, 8u);
  CHECK_EQUAL(small.tasks, 8u);
}
