// Memory for constants, in large pages where the system has them.
//
// A network's constants are read from end to end in every run, seldom soon after the last. In pages of 4 kB each page
// would be looked up anew, in a virtual machine in two tables.
#pragma once

#include <cstddef>
#include <memory>

namespace edgebnn {

// `bytes` of memory, aligned to a cache line. Several share a block, which goes with the last of them. Thread-safe.
std::shared_ptr<void> constant_memory(std::size_t bytes);

}  // namespace edgebnn
