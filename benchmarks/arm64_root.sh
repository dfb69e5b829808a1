#!/bin/sh
# Make a folder with a 64-bit ARM Python, numpy and ONNX Runtime for `effxfer cpus --emulate arm64 --arm-root FOLDER`.
# Debian or Ubuntu with Python 3.11 packages and pip; about 200 MB; nothing is installed on this machine.
set -eu
root=${1:?name a folder}
mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" "$root/debs" "$root/wheels" "$root/proc" "$root/site"
root=$(cd "$root" && pwd)
: > "$root/apt/status"
cat > "$root/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
Dir::State::lists "$root/apt/lists";
Dir::State::status "$root/apt/status";
Dir::Cache "$root/apt/cache";
END
export APT_CONFIG="$root/apt.conf"
apt-get update -qq
(cd "$root/debs" && apt-get download -qq python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 \
    libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libuuid1 libcrypt1)
for deb in "$root"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
ln -sf python3.11 "$root/usr/bin/python3"
unset APT_CONFIG
ort=$(python3 -c 'from importlib.metadata import version; print(version("onnxruntime"))' 2>/dev/null || echo 1.32.0)
pip download -q --no-deps --only-binary=:all: --python-version 3.11 --implementation cp \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    -d "$root/wheels" "onnxruntime==$ort" numpy
for wheel in "$root"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$root/site"; done
# ONNX Runtime reads this file, QEMU 7.2 would show it the one of the machine
for i in 0 1; do
    printf 'processor\t: %d\nBogoMIPS\t: 100.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n' "$i"
    printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done > "$root/proc/cpuinfo"
