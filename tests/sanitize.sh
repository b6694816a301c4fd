#!/bin/sh
# Runs the tests that drive the native code hardest under the address and undefined-behaviour sanitizers.
# Usage: sh tests/sanitize.sh PYTHON
set -eu
python=$1
cd "$(dirname "$0")/.."
not_run=$("$python" -c 'from bytenorm import _core; print(*{"avx2", "avx512", "avx512vbmi"} - {*_core.isas()}, sep=";")')
sh tests/variant.sh "$python" sanitize -DBYTENORM_SANITIZE=ON "-DBYTENORM_NOT_RUN=$not_run"

# NumPy's arrays go through malloc, and torch's tensors do anyway, so that a byte beyond them is seen; Python itself
# leaks at exit. The sanitizer's own allocator does not survive a fork while other threads run. Two processes: what
# ends one of them fails the test that it was at.
sanitized() {
    LD_PRELOAD=$(${CXX:-c++} -print-file-name=libasan.so):$(${CXX:-c++} -print-file-name=libubsan.so) \
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        PYTHONMALLOC=malloc PYTHONPATH=build/sanitize/package \
        "$python" "$@"
}
tests() {
    sanitized -m pytest -p no:cacheprovider -n 2 "$@"
}
tests tests/test_kernels.py tests/test_threads.py tests/test_golden.py tests/test_onnx_operator.py \
    tests/test_arrays_that_change.py tests/test_sizes.py \
    -k 'not beyond_any_cache and not torch and not ends and not fork and not leave_nothing_behind'
# Every set with several threads; with one the random calls and passes below are, and most of the tests above.
tests tests/test_layouts.py tests/test_fused.py tests/test_calibration_statistics.py \
    -k 'not (beyond_any_cache or torch or ends or fork or scalar-1 or avx2-1 or avx512-1 or avx512vbmi-1)'
# Without what starts a compiler or another Python, and without the sweeps of values.
tests tests/test_torch_operator.py tests/test_torch_dropin.py tests/test_torch_modules.py \
    -k 'not (compile or ahead or missing or core_does or deprecation or without_quantized or sweep)'

echo "random calls, and random passes without Python"
sanitized tests/random_operators.py --cases 1200 --seed 2
PATH=$(dirname "$("$python" -c 'import sys; print(sys.executable)')"):$PATH cmake --build build/sanitize \
    --target random_passes >/dev/null
for set in $(build/sanitize/random_passes); do
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 build/sanitize/random_passes "$set" 2000 2
done

# What files of an instruction set share with others, the linker takes from any of them.
if nm -C --defined-only $(find build/sanitize -path '*avx*' -name '*.o') | grep ' [WVu] ' | grep -v DW.ref; then
    echo "code of an instruction set that other files may get"
    exit 1
fi

echo "thread sanitizer"
${CXX:-c++} -std=c++17 -O1 -g -fsanitize=thread tests/threads_race.cpp native/core/threads.cpp -o build/sanitize/threads_race -pthread
build/sanitize/threads_race
