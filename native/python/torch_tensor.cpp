#include "torch_tensor.hpp"

#include <algorithm>

#include "dlpack.hpp"

namespace bytenorm {
namespace {

// What Python registers; it lives as long as the process.
struct Torch {
    PyObject *tensor, *parameter, *empty_like;
    PyObject* dtypes[TorchView::float32 + 1];  // null where this torch has none
    int (*read)(void*, dlpack::Tensor*);       // null where this torch has none
    PyObject *dtype, *is_quantized, *is_cpu, *shape, *stride, *data_ptr, *requires_grad;  // names
    PyObject *is_neg, *untyped_storage, *storage_offset;  // methods; not looked up again, which costs as much
    PyObject* dtype_keyword;                              // ("dtype",)
} torch;

bool is_exact(nb::handle tensor) {
    PyObject* type = reinterpret_cast<PyObject*>(Py_TYPE(tensor.ptr()));
    return type == torch.tensor || type == torch.parameter;
}

// A tensor without memory of its own raises a RuntimeError.
nb::object checked(PyObject* result) {
    if (result) return nb::steal(result);
    if (!PyErr_ExceptionMatches(PyExc_RuntimeError)) nb::raise_python_error();
    PyErr_Clear();
    throw Unusual{};
}
nb::object get(nb::handle tensor, PyObject* name) {
    return checked(PyObject_GetAttr(tensor.ptr(), name));
}
nb::object call(nb::handle tensor, PyObject* name) {
    return checked(PyObject_CallMethodObjArgs(tensor.ptr(), name, nullptr));
}
nb::object call_own(nb::handle tensor, PyObject* method) {
    return checked(PyObject_CallFunctionObjArgs(method, tensor.ptr(), nullptr));
}

TorchView::Dtype dtype_of(nb::handle dtype) {
    for (int i = TorchView::uint8; i <= TorchView::float32; ++i)
        if (torch.dtypes[i] == dtype.ptr()) return static_cast<TorchView::Dtype>(i);
    return TorchView::other;
}

TorchView::Dtype dtype_of(const dlpack::Tensor& tensor) {
    if (tensor.lanes != 1) return TorchView::other;
    if (tensor.bits == 8 && tensor.code == dlpack::unsigned_integer) return TorchView::uint8;
    if (tensor.bits == 8 && tensor.code == dlpack::signed_integer) return TorchView::int8;
    if (tensor.bits == 32 && tensor.code == dlpack::floating) return TorchView::float32;
    return TorchView::other;
}

int read_tuple(const nb::object& tuple, int64_t* values) {
    require(PyTuple_Check(tuple.ptr()) && PyTuple_Size(tuple.ptr()) <= max_dims);
    const int n = static_cast<int>(PyTuple_Size(tuple.ptr()));
    for (int d = 0; d < n; ++d) {
        PyObject* item = PyTuple_GetItem(tuple.ptr(), d);
        require(PyLong_Check(item));
        values[d] = PyLong_AsLongLong(item);
        if (values[d] == -1 && PyErr_Occurred()) nb::raise_python_error();
    }
    return n;
}

void read_by_dlpack(nb::handle tensor, TorchView& view) {
    dlpack::Tensor found;
    if (torch.read(tensor.ptr(), &found) != 0) checked(nullptr);
    require(found.device_type == dlpack::cpu && found.ndim <= max_dims);
    view.dtype = dtype_of(found);
    view.ndim = found.ndim;
    std::copy_n(found.shape, found.ndim, view.shape);
    int64_t size = 1;
    for (int d = found.ndim - 1; d >= 0; --d) {
        view.strides[d] = found.strides ? found.strides[d] : size;
        if (!found.strides) size *= found.shape[d];
    }
    view.data = view.is_empty() ? nullptr : static_cast<uint8_t*>(found.data) + found.byte_offset;
}

void read_by_attributes(nb::handle tensor, TorchView& view) {
    view.dtype = dtype_of(get(tensor, torch.dtype));
    require(get(tensor, torch.is_cpu).ptr() == Py_True);
    view.ndim = read_tuple(get(tensor, torch.shape), view.shape);
    require(read_tuple(call(tensor, torch.stride), view.strides) == view.ndim);
    const nb::object address = call(tensor, torch.data_ptr);
    view.data = PyLong_AsVoidPtr(address.ptr());
    if (!view.data && PyErr_Occurred()) nb::raise_python_error();
}

void register_torch(nb::object tensor, nb::object parameter, nb::object empty_like, nb::tuple dtypes,
                    nb::handle exchange) {
    const auto name = [](const char* text) { return PyUnicode_InternFromString(text); };
    Torch found{};
    if (nb::len(dtypes) != TorchView::float32) throw nb::value_error("five dtypes are needed");
    for (int i = TorchView::uint8; i <= TorchView::float32; ++i) {
        const nb::object dtype = dtypes[i - TorchView::uint8];
        if (!dtype.is_none()) found.dtypes[i] = dtype.inc_ref().ptr();
    }
    if (PyCapsule_IsValid(exchange.ptr(), dlpack::capsule_name)) {
        const auto* table =
            static_cast<const dlpack::Exchange*>(PyCapsule_GetPointer(exchange.ptr(), dlpack::capsule_name));
        if (table->major == dlpack::major_version) found.read = table->tensor_from_object;
    }
    found.is_neg = nb::object(tensor.attr("is_neg")).release().ptr();
    found.untyped_storage = nb::object(tensor.attr("untyped_storage")).release().ptr();
    found.storage_offset = nb::object(tensor.attr("storage_offset")).release().ptr();
    found.tensor = tensor.release().ptr();
    found.parameter = parameter.release().ptr();
    found.empty_like = empty_like.release().ptr();
    found.dtype = name("dtype");
    found.is_quantized = name("is_quantized");
    found.is_cpu = name("is_cpu");
    found.shape = name("shape");
    found.stride = name("stride");
    found.data_ptr = name("data_ptr");
    found.requires_grad = name("requires_grad");
    found.dtype_keyword = nb::make_tuple("dtype").release().ptr();
    torch = found;
}

}  // namespace

TorchView view_of(nb::handle tensor, Which which) {
    if (!is_exact(tensor)) {
        require(which == Which::any && torch.tensor);
        const int found = PyObject_IsInstance(tensor.ptr(), torch.tensor);
        if (found < 0) nb::raise_python_error();
        require(found);
    }
    TorchView view;
    if (torch.read && which == Which::plain)
        read_by_dlpack(tensor, view);
    else
        read_by_attributes(tensor, view);
    require(view.dtype != TorchView::other && (view.is_empty() || view.data));
    return view;
}

// Anybody may shrink a storage, and DLPack does not tell its size.
bool fits_storage(nb::handle tensor, const TorchView& view) {
    if (view.is_empty()) return true;
    int64_t last = 0;
    for (int d = 0; d < view.ndim; ++d)
        if (view.shape[d] > 1) last += (view.shape[d] - 1) * view.strides[d];
    const int64_t itemsize = view.dtype == TorchView::float32 ? 4 : 1;
    const Py_ssize_t bytes = PyObject_Size(call_own(tensor, torch.untyped_storage).ptr());
    if (bytes < 0) checked(nullptr);
    if (bytes < (last + 1) * itemsize) return false;
    const nb::object offset = call_own(tensor, torch.storage_offset);
    require(PyLong_Check(offset.ptr()));
    const int64_t first = PyLong_AsLongLong(offset.ptr());
    if (first == -1 && PyErr_Occurred()) nb::raise_python_error();
    return first <= bytes / itemsize - last - 1;
}

bool is_quantized(nb::handle tensor) {
    if (!torch.dtypes[TorchView::quint8] && !torch.dtypes[TorchView::qint8]) return false;
    return is_exact(tensor) && get(tensor, torch.is_quantized).ptr() != Py_False;
}

nb::object empty_like(nb::handle like, nb::handle dtype) {
    PyObject* arguments[] = {like.ptr(), dtype.ptr()};
    PyObject* made =
        PyObject_Vectorcall(torch.empty_like, arguments, 1, dtype.is_none() ? nullptr : torch.dtype_keyword);
    if (!made) nb::raise_python_error();
    return nb::steal(made);
}

bool is_plain_dtype(nb::handle dtype) {
    const TorchView::Dtype found = dtype_of(dtype);
    return found == TorchView::uint8 || found == TorchView::int8;
}

bool is_negated(nb::handle tensor) {
    return call_own(tensor, torch.is_neg).ptr() != Py_False;
}

const float* vector_of(nb::handle vector, int64_t channels, bool gradients) {
    static const float none = 0;  // an empty vector has no address
    if (vector.is_none()) return nullptr;
    if (PyArrayObject* array = as_array(vector)) {
        require(is_plain_vector(array, NPY_FLOAT32, channels));
        return channels == 0 ? &none : static_cast<const float*>(PyArray_DATA(array));
    }
    const TorchView view = view_of(vector);
    require(view.dtype == TorchView::float32 && view.ndim == 1 && view.shape[0] == channels);
    require(!is_negated(vector) && !(gradients && requires_gradient(vector)));
    if (channels == 0) return &none;
    require(fits_storage(vector, view));
    require((view.strides[0] == 1 || channels == 1) &&
            reinterpret_cast<uintptr_t>(view.data) % alignof(float) == 0);
    return static_cast<const float*>(view.data);
}

bool requires_gradient(nb::handle tensor) {
    return get(tensor, torch.requires_grad).ptr() != Py_False;
}

void bind_torch_tensor(nb::module_& module) {
    module.def("register_torch", &register_torch, nb::arg("tensor"), nb::arg("parameter"), nb::arg("empty_like"),
               nb::arg("dtypes"), nb::arg("exchange").none());
}

}  // namespace bytenorm
