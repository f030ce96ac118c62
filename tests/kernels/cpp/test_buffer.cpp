// Memory of core/buffer.h and core/constant_memory.h.
#include <algorithm>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "core/buffer.h"

namespace {

using edgebnn::Buffer;
using edgebnn::Constant;

template <class T>
bool aligned(const T* data) {
  return reinterpret_cast<std::uintptr_t>(data) % edgebnn::kAlignment == 0;
}

}  // namespace

TEST(rounded_up_returns_the_next_multiple) {
  CHECK_EQUAL(edgebnn::rounded_up(0, 8), 0u);
  CHECK_EQUAL(edgebnn::rounded_up(1, 8), 8u);
  CHECK_EQUAL(edgebnn::rounded_up(8, 8), 8u);
  CHECK_EQUAL(edgebnn::rounded_up(9, 8), 16u);
}

TEST(a_buffer_is_aligned_and_only_grows) {
  Buffer<std::uint8_t> buffer;
  CHECK(buffer.data() == nullptr);
  CHECK(buffer.reserve(0) == nullptr);
  std::uint8_t* small = buffer.reserve(3);
  CHECK(aligned(small));
  small[2] = 7;
  CHECK(buffer.reserve(1) == small);  // what fits stays where it is, with its content
  CHECK_EQUAL(static_cast<int>(buffer.data()[2]), 7);
  std::uint8_t* large = buffer.reserve(5000);
  CHECK(aligned(large));
  large[4999] = 1;
  CHECK(buffer.reserve(3) == large);
}

TEST(a_moved_buffer_can_be_used_again) {
  Buffer<int> first;
  int* data = first.reserve(10);
  Buffer<int> second = std::move(first);
  CHECK(second.data() == data);
  CHECK(first.data() == nullptr);
  CHECK(first.reserve(10) != data);
  first = std::move(second);  // as a run puts the buffer of its thread back
  CHECK(first.data() == data);
}

TEST(copy_padded_fills_with_zeros) {
  {
    Constant<float> used;  // its block is used again, with its content
    std::fill_n(used.reserve(1 << 20), 1 << 20, 5.0f);
  }
  const float values[] = {1, 2, 3};
  Constant<float> copy;
  edgebnn::copy_padded(values, 3, 8, copy);
  CHECK(aligned(copy.data()));
  for (int i = 0; i < 8; ++i) CHECK_EQUAL(copy.data()[i], i < 3 ? values[i] : 0.0f);
  Constant<float> none;
  edgebnn::copy_padded(nullptr, 3, 8, none);
  CHECK(none.data() == nullptr);
}

TEST(constants_of_several_threads_do_not_overlap) {
  constexpr int kThreads = 4, kArrays = 200;
  std::vector<Constant<int>> arrays(kThreads * kArrays);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&arrays, t] {
      for (int i = t * kArrays; i < (t + 1) * kArrays; ++i) {
        int* data = arrays[static_cast<std::size_t>(i)].reserve(static_cast<std::size_t>(1 + i % 97));
        for (int k = 0; k < 1 + i % 97; ++k) data[k] = i;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  bool intact = true;
  for (int i = 0; i < kThreads * kArrays; ++i) {
    const int* data = arrays[static_cast<std::size_t>(i)].data();
    intact = intact && aligned(data);
    for (int k = 0; k < 1 + i % 97; ++k) intact = intact && data[k] == i;
  }
  CHECK(intact);
}

TEST(a_block_is_used_again_after_its_last_array) {
#if !defined(EDGEBNN_SANITIZE)                            // sanitized builds allocate every array by itself
  void* first = edgebnn::constant_memory(3 << 20).get();  // larger than a block, so it begins one
  CHECK(edgebnn::constant_memory(1 << 20).get() == first);
#endif
}

TEST(an_array_outlives_the_others_of_its_block) {
  Constant<int> kept;
  {
    Constant<int> gone;
    gone.reserve(100)[0] = 1;
    kept.reserve(100)[99] = 2;
  }
  Constant<int> later;
  later.reserve(100)[0] = 3;
  CHECK_EQUAL(kept.data()[99], 2);
}
