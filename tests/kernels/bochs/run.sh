#!/usr/bin/env bash
# avx512.cpp as machine code where no processor has AVX-512: in Bochs, on a machine with nothing else on it.
# Debian packages needed: cmake, g++, bochs, bochs-term.
#     run.sh FOLDER
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")"
cmake -S . -B "$folder" >"$folder/cmake.log"
cmake --build "$folder" --target avx512 >>"$folder/cmake.log"
cd "$folder"
objcopy -O binary -j .rom avx512 rom.bin
objcopy -O binary -j .ram avx512 ram.bin
cat >bochsrc <<END
plugin_ctrl: unmapped=1, serial=1, speaker=0, biosdev=0, parallel=0, extfpuirq=0
sound: driver=dummy
config_interface: textconfig
display_library: term
cpu: model=corei7_icelake_u, ips=50000000, reset_on_triple_fault=0
memory: guest=512, host=512
romimage: file=rom.bin, address=0xffff0000
optramimage1: file=ram.bin, address=0x100000
com1: enabled=1, mode=file, dev=output
clock: sync=none
log: bochs.log
panic: action=fatal
END
printf 'c\nq\n' >commands  # for the debugger that Debian's build starts in
rm -f output
# Its exit status says nothing: that the emulated machine turns itself off counts as a panic. The last line tells.
TERM=vt100 timeout --signal=KILL 300 bochs -q -f bochsrc -rc commands >screen 2>&1 </dev/null || true
cat output
tail -n 1 output | grep -q '^[1-9][0-9]* units, [1-9][0-9]* image convolutions, 0 differ$' || {
  echo "error: the comparison failed or did not end; see $folder/bochs.log" >&2
  exit 1
}
