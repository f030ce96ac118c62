#include "core/constant_memory.h"

#include <atomic>
#include <mutex>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "core/buffer.h"

namespace edgebnn {
namespace {

constexpr std::size_t kPage = 1 << 21;

class Block {
 public:
  explicit Block(std::size_t bytes)
      : bytes_(rounded_up(bytes, kPage)), memory_(static_cast<char*>(::operator new(bytes_, std::align_val_t(kPage)))) {
#if defined(__linux__)
    madvise(memory_, bytes_, MADV_HUGEPAGE);  // only advice: the kernel may refuse it
#endif
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { ::operator delete(memory_, std::align_val_t(kPage)); }

  void clear() { taken_ = 0; }

  // Returns null if too little is left.
  void* take(std::size_t bytes) {
    if (bytes > bytes_ - taken_) return nullptr;
    taken_ += bytes;
    return memory_ + taken_ - bytes;
  }

 private:
  const std::size_t bytes_;
  char* const memory_;
  std::size_t taken_ = 0;
};

}  // namespace

std::shared_ptr<void> constant_memory(std::size_t bytes) {
  bytes = rounded_up(bytes, kAlignment);
#if defined(EDGEBNN_SANITIZE)  // sanitizers find reads beyond an allocation, not beyond a piece of a block
  return {::operator new(bytes, std::align_val_t(kAlignment)),
          [](void* memory) { ::operator delete(memory, std::align_val_t(kAlignment)); }};
#else
  // The latest block is kept, because some programs create units for a single run. It is never destroyed, because units
  // may be released while the process ends.
  static std::mutex mutex;
  static std::shared_ptr<Block>& latest = *new std::shared_ptr<Block>();
  const std::lock_guard<std::mutex> lock(mutex);
  if (latest && latest.use_count() == 1) {
    std::atomic_thread_fence(std::memory_order_acquire);  // after the last owner's accesses
    latest->clear();
  }
  void* memory = latest ? latest->take(bytes) : nullptr;
  if (!memory) {
    latest = std::make_shared<Block>(bytes);
    memory = latest->take(bytes);
  }
  return {latest, memory};
#endif
}

}  // namespace edgebnn
