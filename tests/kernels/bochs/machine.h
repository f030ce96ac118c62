// The machine that Bochs emulates, for a program without an operating system.
#pragma once

#include <cstdint>

namespace machine {

// Sets the serial port to characters of 8 bits.
void turn_on();

// To the serial port, which Bochs writes to a file.
void print(const char* text);
void print(long number);

[[noreturn]] void turn_off();

}  // namespace machine
