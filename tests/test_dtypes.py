import copy
import pickle

import numpy as np
import pytest

import bytenorm as bn

DTYPES = [bn.quint8, bn.qint8]
CONSTANTS = [*DTYPES, bn.per_tensor_affine, bn.per_channel_affine]


@pytest.mark.parametrize(
    ("dtype", "name", "numpy", "qmin", "qmax"),
    [(bn.quint8, "quint8", np.uint8, 0, 255), (bn.qint8, "qint8", np.int8, -128, 127)],
)
def test_fields(dtype, name, numpy, qmin, qmax):
    assert isinstance(dtype, bn.DType)
    assert dtype.name == name
    assert isinstance(dtype.numpy, np.dtype)
    assert dtype.numpy == numpy
    assert (type(dtype.qmin), type(dtype.qmax)) == (int, int)
    assert (dtype.qmin, dtype.qmax) == (qmin, qmax)


@pytest.mark.parametrize("scheme", [bn.per_tensor_affine, bn.per_channel_affine], ids=repr)
def test_schemes(scheme):
    assert isinstance(scheme, bn.QScheme)
    assert getattr(bn, scheme.name) is scheme


@pytest.mark.parametrize("constant", CONSTANTS, ids=repr)
def test_repr_is_where_it_is_found(constant):
    assert repr(constant) == f"bytenorm.{constant.name}"
    assert str(constant) == f"bytenorm.{constant.name}"


def test_constants_differ():
    assert len(set(CONSTANTS)) == 4
    assert bn.quint8 != bn.qint8
    assert bn.per_tensor_affine != bn.per_channel_affine


@pytest.mark.parametrize("name", ["name", "numpy", "qmin", "qmax", "unheard_of"])
@pytest.mark.parametrize("dtype", DTYPES, ids=repr)
def test_dtype_cannot_be_changed(dtype, name):
    with pytest.raises(AttributeError, match="immutable"):
        setattr(dtype, name, 0)


@pytest.mark.parametrize("name", ["name", "unheard_of"])
def test_scheme_cannot_be_changed(name):
    with pytest.raises(AttributeError, match="immutable"):
        setattr(bn.per_tensor_affine, name, 0)
    assert bn.per_tensor_affine.name == "per_tensor_affine"


@pytest.mark.parametrize("name", ["name", "numpy", "qmin", "qmax"])
def test_nothing_can_be_deleted_from_a_dtype(name):
    dtype = bn.DType("quint8", np.dtype(np.uint8))  # not the constant: the other tests need that one whole
    with pytest.raises(AttributeError):
        delattr(dtype, name)
    assert hasattr(dtype, name)


def test_nothing_can_be_deleted_from_a_scheme():
    scheme = bn.QScheme("per_tensor_affine")
    with pytest.raises(AttributeError):
        del scheme.name
    assert scheme.name == "per_tensor_affine"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("constant", CONSTANTS, ids=repr)
def test_pickle_gives_the_same_object(constant, protocol):
    assert pickle.loads(pickle.dumps(constant, protocol)) is constant
    assert pickle.loads(pickle.dumps({constant: [constant]}, protocol)) == {constant: [constant]}


@pytest.mark.parametrize("constant", CONSTANTS, ids=repr)
def test_copies_are_the_same_object(constant):
    assert copy.copy(constant) is constant
    assert copy.deepcopy(constant) is constant
    assert copy.deepcopy([constant])[0] is constant


def test_pickle_from_another_process(run_python):
    made = run_python(
        "import pickle, bytenorm as bn\n"
        "print(pickle.dumps([bn.quint8, bn.qint8, bn.per_tensor_affine, bn.per_channel_affine]).hex())"
    )
    assert made.returncode == 0, made.stderr
    loaded = pickle.loads(bytes.fromhex(made.stdout))
    assert [a is b for a, b in zip(loaded, CONSTANTS, strict=True)] == [True] * 4
