#!/bin/sh
# Runs the tests that drive the native code hardest under the address and undefined-behaviour sanitizers.
# Usage: sh tests/sanitize.sh PYTHON
set -eu
python=$1
cd "$(dirname "$0")/.."
sh tests/variant.sh "$python" sanitize -DBYTENORM_SANITIZE=ON

# NumPy's arrays go through malloc, so that a byte beyond them is seen; Python itself leaks at exit.
run() {
    LD_PRELOAD=$(${CXX:-c++} -print-file-name=libasan.so):$(${CXX:-c++} -print-file-name=libubsan.so) \
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        PYTHONMALLOC=malloc PYTHONPATH=build/sanitize/package BYTENORM_ISA=$isa \
        "$python" -m pytest -q -p no:cacheprovider "$@"
}
isas=$(PYTHONPATH=build/sanitize/package LD_PRELOAD=$(${CXX:-c++} -print-file-name=libasan.so) \
    ASAN_OPTIONS=detect_leaks=0 "$python" -c 'import bytenorm; print(*bytenorm.show_config()["isas"])')
for isa in $isas; do
    echo "sanitizers, $isa"
    run tests/test_layouts.py -k 'not beyond_any_cache'
done
run tests/test_kernels.py tests/test_threads.py -k 'not torch and not ends'
