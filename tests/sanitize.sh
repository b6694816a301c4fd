#!/bin/sh
# Builds the native module with the address and undefined-behaviour sanitizers and runs the tests that drive it
# hardest. Usage: sh tests/sanitize.sh PYTHON
set -eu
python=${1:-python3}
cd "$(dirname "$0")/.."
build=build/sanitize
package=$build/package/bytenorm

"$python" -m pip --disable-pip-version-check --quiet install 'cmake>=3.22' ninja nanobind
bin=$(dirname "$("$python" -c 'import sys; print(sys.executable)')")
PATH=$bin:$PATH cmake -S . -B $build -G Ninja -DPython_EXECUTABLE="$(command -v "$python")" \
    -DBYTENORM_SANITIZE=ON -DBYTENORM_WERROR=ON -DSKBUILD_PROJECT_VERSION_FULL=sanitized >/dev/null
PATH=$bin:$PATH cmake --build $build
rm -rf $package
mkdir -p $package
cp src/bytenorm/*.py $package
cp $build/_core*.so $package

# NumPy's arrays go through malloc, so that a byte beyond them is seen. Python itself is not leak-free at exit.
preload=$(${CXX:-c++} -print-file-name=libasan.so):$(${CXX:-c++} -print-file-name=libubsan.so)
for isa in $("$python" -c "import bytenorm; print(*bytenorm.show_config()[\"isas\"])"); do
    echo "sanitizers, $isa"
    LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
        PYTHONMALLOC=malloc PYTHONPATH=$build/package BYTENORM_ISA=$isa \
        "$python" -m pytest -q -p no:cacheprovider tests/test_layouts.py \
        -k 'not beyond_any_cache'
done
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
    PYTHONMALLOC=malloc PYTHONPATH=$build/package \
    "$python" -m pytest -q -p no:cacheprovider tests/test_kernels.py tests/test_threads.py -k 'not torch and not ends'
