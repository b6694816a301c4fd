// Frees what a function of the interface made.
#pragma once

#include "abi.hpp"

namespace bytenorm::ort {

template <class T, class Release>
class Owned {
  public:
    Owned(const OrtApi* api, T* object) : api_(api), object_(object) {}
    Owned(const Owned&) = delete;
    ~Owned() { Release::call(api_, object_); }

  private:
    const OrtApi* api_;
    T* object_;
};

using OwnedTypeInfo = Owned<OrtTypeInfo, ReleaseTypeInfo>;
using OwnedShapeInfo = Owned<OrtTensorTypeAndShapeInfo, ReleaseTensorTypeAndShapeInfo>;

}  // namespace bytenorm::ort
