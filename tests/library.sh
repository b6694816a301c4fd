#!/bin/sh
# Builds the ONNX Runtime operators as a library for hosts in other languages, without Python or its packages in
# reach of the build, and passes the operator's tests with it: optimized a little, which compiles in two thirds of the
# time. Usage: sh tests/library.sh PYTHON
set -eu
python=$1
cd "$(dirname "$0")/.."
"$python" -m pip --disable-pip-version-check --quiet install 'cmake>=3.22' ninja
PATH=$(dirname "$("$python" -c 'import sys; print(sys.executable)')"):$PATH
export PATH
not_run=$("$python" -c 'from bytenorm import _core; print(*{"avx2", "avx512", "avx512vbmi"} - {*_core.isas()}, sep=";")')
cmake -S . -B build/onnxruntime -G Ninja -DBYTENORM_PYTHON=OFF -DBYTENORM_WERROR=ON -DCMAKE_INSTALL_LIBDIR=lib \
    -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1 "-DBYTENORM_NOT_RUN=$not_run" \
    --no-warn-unused-cli -DCMAKE_DISABLE_FIND_PACKAGE_Python=ON -DCMAKE_DISABLE_FIND_PACKAGE_nanobind=ON >/dev/null
cmake --build build/onnxruntime >/dev/null
cmake --install build/onnxruntime --prefix build/onnxruntime/installed --strip >/dev/null
library=$PWD/build/onnxruntime/installed/lib/libbytenorm_onnxruntime.so

exported=$(nm -D --defined-only "$library" | awk '{ print $3 }')
if [ "$exported" != RegisterCustomOps ]; then
    echo "$library must export RegisterCustomOps alone, and exports: $exported" >&2
    exit 1
fi
BYTENORM_TEST_LIBRARY=$library "$python" -m pytest -p no:cacheprovider -n 2 tests/test_onnx_operator.py
