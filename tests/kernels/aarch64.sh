#!/usr/bin/env bash
# Runs the tests of this folder on an emulated 64-bit ARM processor, with a Python and an onnxruntime for ARM. The
# library and the C++ unit tests are cross-compiled. Then runs `export device` with that Python as the device's. Needs
# the Debian packages cmake, g++-aarch64-linux-gnu and qemu-user-static. Everything else goes to FOLDER and is used
# again. The system is not changed.
#     aarch64.sh PYTHON FOLDER [pytest's arguments...]
set -euo pipefail
python=$1 folder=$(mkdir -p "$2" && cd "$2" && pwd) tests=$(cd "$(dirname "$0")" && pwd)
shift 2
cd "$tests/../.."

root=$folder/root
packages=(python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 libexpat1 zlib1g
  libffi8 libbz2-1.0 liblzma5 libssl3 libcrypt1 libuuid1 libsqlite3-0)
if [ ! -e "$root/complete" ]; then
  rm -rf "$root" && mkdir -p "$root/site" "$folder"/apt/{lists,cache/archives}/partial "$folder/debs"
  # apt with lists of its own: the machine need not know the architecture.
  options=(-qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
    -o Dir::State::Lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache")
  apt-get "${options[@]}" update
  (cd "$folder/debs" && rm -f -- *.deb && apt-get "${options[@]}" download "${packages[@]}")
  for package in "$folder"/debs/*.deb; do dpkg -x "$package" "$root"; done
  "$python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --target "$root/site" \
    --python-version 3.11 --implementation cp --only-binary=:all: \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 \
    --platform manylinux2014_aarch64 numpy onnxruntime hypothesis pytest pytest-timeout
  # onnxruntime asks Linux what the processor is, and crashes on the answer about the one underneath. The emulator
  # reads files from here before the machine's own. This is a Raspberry Pi 4 with one core.
  mkdir -p "$root/proc" "$root/sys/devices/system/cpu"
  echo 0 | tee "$root/sys/devices/system/cpu/possible" > "$root/sys/devices/system/cpu/present"
  printf '%s\n' 'processor : 0' 'Features : fp asimd evtstrm crc32 cpuid' 'CPU implementer : 0x41' \
    'CPU architecture: 8' 'CPU variant : 0x0' 'CPU part : 0xd08' 'CPU revision : 3' '' > "$root/proc/cpuinfo"
  touch "$root/complete"
fi

# The package is run from the clone; its version is looked up among what is installed.
mkdir -p "$root/site/edgebnn.dist-info"
printf 'Metadata-Version: 2.1\nName: edgebnn\nVersion: %s\n' "$("$python" -c 'import edgebnn; print(edgebnn.__version__)')" \
  > "$root/site/edgebnn.dist-info/METADATA"

cmake -S edgebnn/kernels -B "$folder/kernels" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DEDGEBNN_TESTS=ON > "$folder/cmake.log"
cmake --build "$folder/kernels" >> "$folder/cmake.log"

# A packed model and what it gives on this processor, for test_packed_model.py to compare with.
"$python" -m tests.kernels.packed_model "$folder/model"

# That Python as a device: `export device` runs here, and measures the model there.
cat > "$folder/python3" <<END
#!/bin/sh
export PYTHONPATH='$root/site:$PWD' EDGEBNN_LIBRARY='$folder/kernels/libedgebnn.so'
export QEMU_LD_PREFIX='$root' QEMU_CPU=cortex-a72
exec qemu-aarch64-static '$root/usr/bin/python3.11' "\$@"
END
chmod +x "$folder/python3"
EDGEBNN_DEVICE_PYTHON=$folder/python3 EDGEBNN_DEVICE_MODEL=$folder/model/model.onnx \
  "$python" -m pytest -p no:cacheprovider tests/export/device/test_device_aarch64.py

export PYTHONPATH=$root/site EDGEBNN_LIBRARY=$folder/kernels/libedgebnn.so EDGEBNN_MODEL=$folder/model
export EDGEBNN_UNIT_TESTS=$folder/kernels/cpp/edgebnn_unit_tests
export QEMU_LD_PREFIX=$root QEMU_CPU=cortex-a72 EDGEBNN_EMULATOR=qemu-aarch64-static
export EDGEBNN_EXAMPLES=${EDGEBNN_EXAMPLES:-40}
exec qemu-aarch64-static "$root/usr/bin/python3.11" -m pytest -p no:cacheprovider tests/kernels "$@"
