#!/bin/sh
# Builds tests/random_passes.cpp under sanitizers and runs it on every instruction set of this machine.
# Usage: sh tests/random_passes.sh SANITIZER CASES SEED, with ON (address and undefined behaviour) or thread.
set -eu
sanitizer=$1 cases=$2 seed=$3
cd "$(dirname "$0")/.."
cmake -S . -B "build/passes-$sanitizer" -G Ninja -DBYTENORM_PYTHON=OFF -DBYTENORM_WERROR=ON \
    -DBYTENORM_SANITIZE="$sanitizer" >/dev/null
cmake --build "build/passes-$sanitizer" --target random_passes >/dev/null
for set in $("build/passes-$sanitizer/random_passes"); do
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 "build/passes-$sanitizer/random_passes" "$set" "$cases" "$seed"
done
