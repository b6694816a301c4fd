#!/bin/sh
# Builds a variant of the package for tests: sh tests/variant.sh PYTHON NAME CMAKE_FLAGS... makes
# build/NAME/package/bytenorm, to be put on PYTHONPATH.
set -eu
python=$1 name=$2
shift 2
cd "$(dirname "$0")/.."
"$python" -m pip --disable-pip-version-check --quiet install 'cmake>=3.22' ninja nanobind
PATH=$(dirname "$("$python" -c 'import sys; print(sys.executable)')"):$PATH
export PATH
cmake -S . -B "build/$name" -G Ninja -DPython_EXECUTABLE="$(command -v python)" -DBYTENORM_WERROR=ON \
    -DSKBUILD_PROJECT_VERSION_FULL="$name" "$@" >/dev/null
cmake --build "build/$name" >/dev/null
rm -rf "build/$name/package"
mkdir -p "build/$name/package"
cp -R src/bytenorm "build/$name/package"
cp build/"$name"/_core*.so "build/$name/package/bytenorm"
