// Memory for constants, in large pages if the system has them.
//
// Every run reads a network's constants from end to end, often a long time after the last run. With pages of 4 kB the
// processor would have to translate the address of every page again, in a virtual machine through two tables.
#pragma once

#include <cstddef>
#include <memory>

namespace edgebnn {

// Returns `bytes` of memory, aligned to a cache line. Several arrays share a block, which is freed with the last of
// them. Thread-safe.
std::shared_ptr<void> constant_memory(std::size_t bytes);

}  // namespace edgebnn
