// The few functions of the C and C++ libraries that the kernels and the test call. The emulated machine has no
// libraries.
#include "machine.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>

#include "core/constant_memory.h"

extern std::uint8_t heap[];  // image.ld

namespace {

constexpr std::size_t kMemory = std::size_t{512} << 20;  // as run.sh gives the machine

void out(std::uint16_t port, char value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

std::uint8_t in(std::uint16_t port) {
  std::uint8_t value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

constexpr std::uint16_t kSerial = 0x3f8, kSerialStatus = kSerial + 5;

[[noreturn]] void give_up(const char* why) {
  machine::print(why);
  machine::print("\n");
  machine::turn_off();
}

// Memory is never freed.
void* take(std::size_t bytes, std::size_t alignment) {
  static std::uintptr_t next = reinterpret_cast<std::uintptr_t>(heap);
  const std::uintptr_t start = (next + alignment - 1) / alignment * alignment;
  next = start + bytes;
  if (next > kMemory) give_up("out of memory");
  return reinterpret_cast<void*>(start);
}

}  // namespace

namespace machine {

void turn_on() { out(kSerial + 3, 3); }  // characters of 8 bits, not 5

void print(const char* text) {
  for (; *text; ++text) {
    while (!(in(kSerialStatus) & 0x20)) {
    }
    out(kSerial, *text);
  }
}

void print(long number) {
  char digits[21] = {}, *first = digits + 20;
  do *--first = static_cast<char>('0' + number % 10);
  while (number /= 10);
  print(first);
}

void turn_off() {
  while (!(in(kSerialStatus) & 0x40)) {  // the last character is on its way
  }
  for (const char* word = "Shutdown"; *word; ++word) out(0x8900, *word);  // Bochs's own port
  for (;;) __asm__ volatile("hlt");
}

}  // namespace machine

extern "C" {

// In assembly, because the compiler would replace a loop that copies by a call of memcpy.
void* memcpy(void* to, const void* from, std::size_t count) {
  void* end = to;
  __asm__ volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(count)::"memory");
  return to;
}

void* memset(void* to, int value, std::size_t count) {
  void* end = to;
  __asm__ volatile("rep stosb" : "+D"(end), "+c"(count) : "a"(value) : "memory");
  return to;
}

void* memmove(void* to, const void* from, std::size_t count) {
  if (to <= from) return memcpy(to, from, count);
  void* last = static_cast<char*>(to) + count - 1;
  from = static_cast<const char*>(from) + count - 1;
  __asm__ volatile("std\n rep movsb\n cld" : "+D"(last), "+S"(from), "+c"(count)::"memory");
  return to;
}

int memcmp(const void* a, const void* b, std::size_t count) {
  const auto *x = static_cast<const std::uint8_t*>(a), *y = static_cast<const std::uint8_t*>(b);
  for (std::size_t i = 0; i < count; ++i) {
    if (x[i] != y[i]) return x[i] - y[i];
  }
  return 0;
}

std::size_t strlen(const char* text) {
  const char* end = text;
  while (*end) ++end;
  return static_cast<std::size_t>(end - text);
}

int strcmp(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a - *b;
}

char* getenv(const char*) { return nullptr; }

void* __dso_handle;
char __libc_single_threaded = 1;
int __cxa_atexit(void (*)(void*), void*, void*) { return 0; }
void __cxa_pure_virtual() { give_up("a pure virtual function was called"); }

// The scalar path calls this function of the C library.
float fmaf(float a, float b, float c) {
  __asm__("vfmadd231ss %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
  return c;
}

}  // extern "C"

namespace std {
void __throw_bad_alloc() { give_up("a string is too large"); }
void __throw_bad_array_new_length() { give_up("a string is too large"); }
void __throw_length_error(const char* what) { give_up(what); }
void __throw_logic_error(const char* what) { give_up(what); }
void __throw_out_of_range_fmt(const char* what, ...) { give_up(what); }
}  // namespace std

template class std::basic_string<char>;  // for isa.cpp, because the standard library's own needs more functions

// Replaces constant_memory.cpp. Memory is never freed here, so shared blocks would fill it.
namespace edgebnn {
std::shared_ptr<void> constant_memory(std::size_t bytes) {
  return {take(bytes, 64), [](void*) {}};
}
}  // namespace edgebnn

void* operator new(std::size_t bytes) { return take(bytes, 16); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return take(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void*) noexcept {}
void operator delete(void*, std::size_t) noexcept {}
void operator delete(void*, std::align_val_t) noexcept {}
