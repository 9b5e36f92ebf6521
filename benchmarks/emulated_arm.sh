#!/usr/bin/env bash
# Perplexity by the engine on an emulated ARM processor, with each of its instruction sets, and on this one beside it. It
# takes about twenty minutes, most of them for compiling the kernels, and says nothing about speed.
#
# benchmarks/emulated_arm.sh MODEL_FOLDER TEXT [--tokens N], as root on Debian, with the project's environment active.
set -euo pipefail
project=$(cd "$(dirname "$0")/.." && pwd)
model=$(realpath "$1") text=$(realpath "$2")
shift 2
work=${TMPDIR:-/tmp}/falcon-emulated-arm
libraries="libpython3.11-minimal libpython3.11-stdlib libc6 libexpat1 zlib1g libssl3 libffi8 libbz2-1.0 liblzma5 libstdc++6
  libgcc-s1 libsqlite3-0 libuuid1 libncursesw6 libtinfo6 libreadline8 libcrypt1 libdb5.3 libnsl2 libtirpc3 libgomp1"
packages="numba numpy llvmlite executorch flatbuffers filelock psutil pydantic pydantic_core annotated-types
  typing_extensions typing-inspection regex tokenizers huggingface_hub"

if [ ! -e "$work/site" ]; then
  rm -rf "$work"
  mkdir -p "$work/debs" "$work/root/proc" "$work/wheels"
  dpkg --add-architecture arm64
  apt-get update -qq
  apt-get install -y -qq qemu-user >/dev/null
  (cd "$work/debs" && for name in python3.11-minimal $libraries; do apt-get download -qq "$name:arm64" 2>/dev/null; done)
  dpkg --remove-architecture arm64
  for file in "$work"/debs/*.deb; do dpkg -x "$file" "$work/root"; done
  pins=$(for name in $packages; do python -m pip freeze | grep -i "^$name=="; done)
  # shellcheck disable=SC2086
  python -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 --dest "$work/wheels" \
    --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux_2_27_aarch64 \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_31_aarch64 $pins
  mkdir "$work/unpacked"
  for file in "$work"/wheels/*.whl; do python -m zipfile -e "$file" "$work/unpacked"; done
  mv "$work/unpacked" "$work/site"
fi

# What Linux tells on a Graviton3: under emulation it tells of this processor.
printf 'processor\t: 0\nFeatures\t: fp asimd crc32 atomics fphp asimdhp asimddp i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n' \
  >"$work/root/proc/cpuinfo"

cd "$project"
python -m benchmarks.engine_perplexity "$model" "$text" "$@"
for isa in i8mm dotprod; do
  FALCON_ISA=$isa PYTHONPATH=$project:$work/site XDG_CACHE_HOME=$work/cache PYTHONDONTWRITEBYTECODE=1 \
    qemu-aarch64 -cpu max -L "$work/root" "$work/root/usr/bin/python3.11" -m benchmarks.engine_perplexity "$model" "$text" "$@"
done
