#!/usr/bin/env bash
# The README's commands on a fresh Debian 13, whose Python is 3.13: set-up, `make demo`, and tests, in a root of its own.
#     debian13.sh FOLDER [pytest's arguments...]        (default: the tests of the runtime and of the exporters)
# FOLDER keeps the root and its environment, 9 GB, for the next time. Needs root's rights and debootstrap.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mkdir -p "$1" && cd "$1" && pwd)
root=$folder/root
shift
[ $# -gt 0 ] || set -- tests/runtime tests/export tests/test_optional.py tests/test_examples.py
fail() { echo "error: $*" >&2; exit 2; }

# Mounts and processes live in namespaces of their own, which end with this script however it ends.
if [ -z "${EDGEBNN_DEBIAN13:-}" ]; then
  [ "$(id -u)" = 0 ] || fail "a Debian 13 root takes root's rights; run $0 as root"
  command -v debootstrap >/dev/null || fail "debootstrap is missing; apt-get install debootstrap"
  # What is started in the background ignores Ctrl-C, which a test here is about.
  EDGEBNN_DEBIAN13=1 unshare --mount --pid --fork --kill-child env --default-signal=INT "$0" "$folder" "$@" &
  trap 'kill -KILL $!; exit 130' INT TERM
  code=0
  wait $! || code=$?
  exit "$code"
fi

if [ ! -e "$root" ]; then
  rm -rf "$root.part"
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,g++,make,git,ca-certificates \
    trixie "$root.part" >"$folder/debootstrap.log" 2>&1 ||
    { tail -n 20 "$folder/debootstrap.log" >&2; fail "debootstrap made no Debian 13"; }
  mv "$root.part" "$root"
fi

# How this machine reaches its package index.
for file in /etc/ssl/certs/ca-certificates.crt /etc/resolv.conf /etc/hosts /etc/pip.conf; do
  [ ! -e "$file" ] || cp -L "$file" "$root$file"
done
mapfile -t network < <(env | grep -E '^(PIP_|SSL_CERT_|REQUESTS_CA_BUNDLE=|(https?|no)_proxy=|(HTTPS?|NO)_PROXY=)')
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"

# What examples/cpp needs. Debian 12 has no package of ONNX Runtime's headers.
[ -e "$root/usr/include/onnxruntime/onnxruntime_cxx_api.h" ] || {
  chroot "$root" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq --no-install-recommends libonnxruntime-dev cmake
} >"$folder/apt.log" 2>&1 || { tail -n 20 "$folder/apt.log" >&2; fail "libonnxruntime-dev was not installed"; }

# The clone as it stands here, changes that are not committed too. The packages of its environment are kept, and `make
# setup` looks at them again.
clone=$root/srv/edgebnn
mkdir -p "$clone"
find "$clone" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
rm -f "$clone"/.venv/{installed,kernels}
git ls-files -z --cached --others --exclude-standard |
  tar --null --files-from=- --ignore-failed-read -c | tar -x -C "$clone"

inside() {
  env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    OMP_NUM_THREADS=1 "${network[@]}" chroot "$root" sh -c 'cd /srv/edgebnn && exec "$@"' sh "$@"
}
timed() {
  local begin=$SECONDS code=0
  "$@" || code=$?
  echo "debian13: $((SECONDS - begin)) s: ${*:2}"
  return "$code"
}

timed inside make setup >"$folder/setup.log" 2>&1 || { tail -n 30 "$folder/setup.log" >&2; fail "make setup failed"; }
tail -n 1 "$folder/setup.log"
# A process of the demo's has one thread, so the tests have the other core.
timed inside make demo DASHBOARD=0 >"$folder/demo.log" 2>&1 & demo=$!
timed inside .venv/bin/python -m pytest -q -m '' "$@"
wait "$demo" || { tail -n 30 "$folder/demo.log" >&2; fail "make demo failed"; }
tail -n 12 "$folder/demo.log"
grep -q "not timed: .*larq-compute-engine has no package for Python 3.13" "$folder/demo.log" ||
  fail "make demo did not say that it did not time the LCE file"
