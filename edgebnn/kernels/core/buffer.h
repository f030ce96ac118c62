// Aligned memory: `Buffer` for packed activations between two passes, `Constant` for constants. A path's file must not
// include this header (see path.h).
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <new>
#include <utility>

#include "core/constant_memory.h"

namespace edgebnn {

constexpr std::size_t kAlignment = 64;  // a cache line, and the widest vector

inline std::size_t rounded_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Aligned memory that only grows. Growing discards the content.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  ~Buffer() { release(); }

  T* reserve(std::size_t count) {
    if (count > count_) {
      release();
      data_ = static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t(kAlignment)));
      count_ = count;
    }
    return data_;
  }
  T* data() const { return data_; }

 private:
  void release() {
    ::operator delete(data_, std::align_val_t(kAlignment));
    data_ = nullptr;
    count_ = 0;
  }
  T* data_ = nullptr;
  std::size_t count_ = 0;
};

// An array that is filled once, when a unit is created.
template <class T>
class Constant {
 public:
  T* reserve(std::size_t count) {
    memory_ = constant_memory(count * sizeof(T));
    return data();
  }
  T* data() const { return static_cast<T*>(memory_.get()); }

 private:
  std::shared_ptr<void> memory_;
};

// Copies `count` values, then zeros up to `padded`. Does nothing if `values` is null.
inline void copy_padded(const float* values, std::size_t count, std::size_t padded, Constant<float>& to) {
  if (!values) return;
  float* copy = to.reserve(padded);
  std::copy(values, values + count, copy);
  std::fill(copy + count, copy + padded, 0.0f);
}

}  // namespace edgebnn
