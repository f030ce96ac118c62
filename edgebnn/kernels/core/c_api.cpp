#include "core/c_api.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/image_conv.h"
#include "core/isa.h"
#include "core/path.h"

namespace edgebnn {
namespace {

thread_local std::string error;

// Returns the available path of that name, or the chosen path for null. Returns null, and sets `error`, if there is
// none.
const Isa* find_path(const char* wanted) {
  if (!wanted) {
    if (!chosen_isa()) error = isa_error();
    return chosen_isa();
  }
  for (const Isa& isa : kFastestFirst) {
    if (available(isa) && std::strcmp(name(isa), wanted) == 0) return &isa;
  }
  error = std::string("no path ") + wanted + " here; there are " + edgebnn_isas();
  return nullptr;
}

bool parse(const char* padding, const char* shortcut, UnitShape& shape) {
  if (std::strcmp(padding, "zero") == 0) shape.padding = Padding::kZero;
  else if (std::strcmp(padding, "one") == 0) shape.padding = Padding::kOne;
  else return false;
  if (std::strcmp(shortcut, "identity") == 0) shape.shortcut = Shortcut::kIdentity;
  else if (std::strcmp(shortcut, "pool") == 0) shape.shortcut = Shortcut::kPool;
  else if (std::strcmp(shortcut, "repeat") == 0) shape.shortcut = Shortcut::kRepeat;
  else if (std::strcmp(shortcut, "none") == 0) shape.shortcut = Shortcut::kNone;
  else if (std::strcmp(shortcut, "pooled") == 0) shape.shortcut = Shortcut::kPooled;
  else return false;
  return true;
}

void run_on_threads(void* context, std::size_t count, Parallel::Task task, void* state) {
  const std::size_t threads = std::min<std::size_t>(*static_cast<int*>(context), count);
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  const auto work = [&] {
    try {
      for (std::size_t i = next++; i < count; i = next++) task(state, i);
    } catch (...) {  // an exception that leaves a thread ends the process
      failed = true;
    }
  };
  std::vector<std::thread> others;
  try {
    for (std::size_t i = 1; i < threads; ++i) others.emplace_back(work);
  } catch (const std::exception&) {
    // The system gives no more threads. The existing ones do all the work.
  }
  work();
  for (std::thread& other : others) other.join();
  if (failed) throw std::runtime_error("a task failed; there may be too little memory");
}

// The images of a call. If there are at least as many images as threads, each image is a task by itself, so that
// threads are started only once.
struct Call {
  const Unit& unit;
  UnitArrays arrays;
  std::size_t height, width;

  void run(std::size_t first, std::size_t count, const Parallel& parallel) const {
    const UnitShape& shape = unit.shape();
    const std::size_t inputs = static_cast<std::size_t>(shape.inputs);
    const std::size_t outputs = static_cast<std::size_t>(shape.outputs);
    const std::size_t before = first * height * width;
    const std::size_t after = before / static_cast<std::size_t>(shape.stride * shape.stride);
    UnitArrays part = arrays;
    part.x += (shape.shortcut == Shortcut::kPooled ? before / 4 : before) * inputs;
    if (part.bits) part.bits += before * ((inputs + 7) / 8);
    if (part.y) part.y += after * outputs;
    if (part.pooled) part.pooled += after / 4 * outputs;
    if (part.next_bits) part.next_bits += after * ((outputs + 7) / 8);
    unit.run(part, count, height, width, parallel);
  }

  static void run_image(void* call, std::size_t index) {
    const Parallel alone{nullptr, [](void*, std::size_t count, Parallel::Task task, void* state) {
                           for (std::size_t i = 0; i < count; ++i) task(state, i);
                         }};
    static_cast<const Call*>(call)->run(index, 1, alone);
  }
};

}  // namespace
}  // namespace edgebnn

using namespace edgebnn;

const char* edgebnn_isa() {
  const Isa* isa = find_path(nullptr);
  return isa ? name(*isa) : nullptr;
}

const char* edgebnn_isas() {
  static const std::string names = [] {
    std::string text;
    for (const Isa isa : kFastestFirst) {
      if (!available(isa)) continue;
      if (!text.empty()) text += ' ';
      text += name(isa);
    }
    return text;
  }();
  return names.c_str();
}

const char* edgebnn_error() { return error.c_str(); }

void* edgebnn_unit_create(const char* isa, int inputs, int outputs, int kernel, int stride, const char* padding,
                          const char* shortcut, const std::uint8_t* weight, const float* threshold, const float* scale,
                          const float* bias, const float* slope, const float* next_threshold) try {
  UnitShape shape{inputs, outputs, kernel, stride, Padding::kZero, Shortcut::kIdentity};
  if (!parse(padding, shortcut, shape)) {
    error = std::string("padding is '") + padding + "', shortcut '" + shortcut +
            "'; valid are zero and one, and identity, pool, repeat, none and pooled";
    return nullptr;
  }
  if (const char* problem = Unit::shape_error(shape)) {
    error = problem;
    return nullptr;
  }
  const Isa* found = find_path(isa);
  return found ? Unit::make(shape, {weight, threshold, scale, bias, slope, next_threshold}, *found).release() : nullptr;
} catch (const std::exception& failure) {
  error = failure.what();
  return nullptr;
}

const char* edgebnn_unit_isa(const void* unit) { return name(static_cast<const Unit*>(unit)->isa()); }

int edgebnn_unit_run(const void* handle, const float* x, const std::uint8_t* bits, std::int64_t batch,
                     std::int64_t height, std::int64_t width, float* y, float* pooled, std::uint8_t* next_bits,
                     int threads) try {
  const Unit& unit = *static_cast<const Unit*>(handle);
  const char* problem = unit.input_error(batch, height, width, pooled != nullptr);
  if (next_bits && !unit.writes_bits()) problem = "next_bits for a unit that was made without next_threshold";
  if (!bits && unit.shape().shortcut == Shortcut::kPooled) problem = "the pooled shortcut needs the bits of x";
  if (!y && !pooled) problem = "there is neither y nor pooled to write";
  if (problem) {
    error = problem;
    return -1;
  }
  Call call{unit, {x, bits, y, pooled, next_bits}, static_cast<std::size_t>(height), static_cast<std::size_t>(width)};
  threads = std::max(threads, 1);
  if (batch < threads) {
    call.run(0, static_cast<std::size_t>(batch), {&threads, run_on_threads});
  } else {
    run_on_threads(&threads, static_cast<std::size_t>(batch), Call::run_image, &call);
  }
  return 0;
} catch (const std::exception& failure) {
  error = failure.what();
  return -1;
}

void edgebnn_unit_destroy(void* unit) { delete static_cast<Unit*>(unit); }

void* edgebnn_image_conv_create(const char* isa, int channels, int outputs, int stride, const float* weight,
                                const float* bias, const float* next_threshold) try {
  const ImageConvShape shape{channels, outputs, stride};
  if (const char* problem = ImageConv::shape_error(shape)) {
    error = problem;
    return nullptr;
  }
  const Isa* found = find_path(isa);
  return found ? ImageConv::make(shape, {weight, bias, next_threshold}, *found).release() : nullptr;
} catch (const std::exception& failure) {
  error = failure.what();
  return nullptr;
}

const char* edgebnn_image_conv_isa(const void* conv) { return name(static_cast<const ImageConv*>(conv)->isa()); }

int edgebnn_image_conv_run(const void* conv, const float* image, std::int64_t batch, std::int64_t height,
                           std::int64_t width, float* y, std::uint8_t* next_bits, int threads) try {
  const ImageConv& self = *static_cast<const ImageConv*>(conv);
  if (const char* problem = self.input_error(batch, height, width)) {
    error = problem;
    return -1;
  }
  if (next_bits && !self.writes_bits()) {
    error = "next_bits for an image convolution that was made without next_threshold";
    return -1;
  }
  threads = std::max(threads, 1);
  self.run(image, static_cast<std::size_t>(batch), static_cast<std::size_t>(height), static_cast<std::size_t>(width), y,
           next_bits, {&threads, run_on_threads});
  return 0;
} catch (const std::exception& failure) {
  error = failure.what();
  return -1;
}

void edgebnn_image_conv_destroy(void* conv) { delete static_cast<ImageConv*>(conv); }

double edgebnn_popcount_ceiling(const char* isa) {
  const Isa* found = find_path(isa);
  if (!found) return -1;
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int i = 0; i < 5; ++i) {  // each takes about a millisecond
    const auto start = Clock::now();
    const std::uint64_t macs = path(*found)->ceiling(200000);
    best = std::max(best, static_cast<double>(macs) / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}
