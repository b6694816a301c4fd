"""Dask arrays and files counted by a cluster: the same bits as on one core, for any chunks and after a kill."""

import gc
import os
import pickle
from fractions import Fraction
from itertools import product
from pathlib import Path

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from dask.delayed import Delayed
from dying_worker import DieOnce

import bytenorm as bn
from bytenorm import dask as bd
from bytenorm.calibration import ChannelStatistics, files
from bytenorm.dask import cluster, merging

pytestmark = pytest.mark.thorough

SCALE, ZERO_POINT = 0.07, 3


@pytest.fixture(autouse=True)
def one_scheduler():
    """Without a cluster, in this process's threads, whatever a client has set."""
    with dask.config.set(scheduler="threads", num_workers=2):
        yield


@pytest.fixture(scope="module")
def client():
    with cluster.local_cluster(2, 300_000_000) as made:
        yield made


def codes(rng, shape=(6, 5, 4, 3), dtype=np.uint8):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def on_one_core(x, scale=SCALE, zero_point=ZERO_POINT, axis=1, **options):
    found = ChannelStatistics(x.shape[axis], **options)
    per_channel = np.ndim(scale) > 0
    found.update(bn.QuantizedTensor(x, scale, zero_point, axis if per_channel else None), axis)
    return found


def a_norm(rng, channels, **options):
    values = {"output_scale": 0.05, "output_zero_point": 7} | options
    return bn.BatchNorm(*rng.normal(size=(3, channels)), rng.uniform(0.5, 2, channels), **values)


CHUNKS = [-1, 1, 2, (3, 5, 2, 2), (-1, 2, -1, -1), (4, 1, 3, 1), ((1, 5), (2, 3), (4,), (1, 1, 1))]


# --- statistics -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_statistics_are_numpys_integers(rng, chunks, dtype):
    x = codes(rng, dtype=dtype)
    found = bd.statistics(da.from_array(x, chunks=chunks), SCALE, ZERO_POINT).compute()
    assert isinstance(found, ChannelStatistics)
    wide = x.astype(np.int64)
    axes = (0, 2, 3)
    assert found.count == 6 * 4 * 3
    np.testing.assert_array_equal(found.minimum, wide.min(axes))
    np.testing.assert_array_equal(found.maximum, wide.max(axes))
    np.testing.assert_array_equal(found.sum, wide.sum(axes))
    np.testing.assert_array_equal(found.sum_of_squares, (wide**2).sum(axes))
    exact = [Fraction(SCALE) * (Fraction(int(s), found.count) - ZERO_POINT) for s in wide.sum(axes)]
    np.testing.assert_array_equal(found.mean(), [float(mean) for mean in exact])
    assert found == on_one_core(x)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
@pytest.mark.parametrize("chunks", [-1, 2])
def test_statistics_along_any_axis(rng, axis, chunks):
    x = codes(rng)
    found = bd.statistics(da.from_array(x, chunks=chunks), SCALE, ZERO_POINT, axis).compute()
    assert found == on_one_core(x, axis=axis % 4)


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("histogram", [True, False])
def test_statistics_of_channels_with_their_own_quantization(rng, chunks, histogram):
    x = codes(rng)
    scale, zero_point = rng.uniform(0.1, 1, 5), rng.integers(0, 256, 5)
    x_ = da.from_array(x, chunks=chunks)
    found = bd.statistics(x_, scale, zero_point, histogram=histogram).compute()
    want = on_one_core(x, scale, zero_point, histogram=histogram)
    assert found == want
    np.testing.assert_array_equal(found.mean(), want.mean())
    assert (found.histogram is None) is not histogram


def test_statistics_of_many_blocks_take_several_levels_of_merging(rng):
    x = codes(rng, (100, 2))
    assert bd.statistics(da.from_array(x, chunks=(1, 2)), SCALE, ZERO_POINT).compute() == on_one_core(x)


def test_statistics_of_no_values(rng):
    x = da.from_array(codes(rng, (0, 3)), chunks=2)
    assert bd.statistics(x, SCALE, ZERO_POINT).compute() == on_one_core(np.empty((0, 3), np.uint8))


def test_nothing_is_computed_before_it_is_asked_for(rng):
    def refuse(block):
        raise AssertionError("it was computed")

    x = da.zeros((4, 6), chunks=(2, 3), dtype=np.uint8)
    x = x.map_blocks(refuse, dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    y = bd.batch_norm(x, a_norm(rng, 6), SCALE, ZERO_POINT)
    found = bd.statistics(x, SCALE, ZERO_POINT)
    assert isinstance(y, da.Array)
    assert isinstance(found, Delayed)
    for lazy in (y, found):
        with pytest.raises(AssertionError, match="it was computed"):
            lazy.compute()


def test_several_are_computed_at_once(rng):
    x = codes(rng)
    lazy = da.from_array(x, chunks=2)
    norm = a_norm(rng, 5)
    y = bd.batch_norm(lazy, norm, SCALE, ZERO_POINT)
    before, after = dask.compute(
        bd.statistics(lazy, SCALE, ZERO_POINT), bd.statistics(y, norm.output_scale, norm.output_zero_point)
    )
    assert before == on_one_core(x)
    assert after == on_one_core(norm(bn.QuantizedTensor(x, SCALE, ZERO_POINT)).data, 0.05, 7)


def test_the_same_work_has_the_same_name(rng):
    """So that Dask does it once."""
    x = codes(rng)
    lazy = [da.from_array(x, chunks=2) for _ in range(2)]
    norm = a_norm(rng, 5)
    again = pickle.loads(pickle.dumps(norm))
    assert bd.statistics(lazy[0], SCALE, 3).key == bd.statistics(lazy[1], SCALE, 3).key
    assert bd.statistics(lazy[0], SCALE, 3).key != bd.statistics(lazy[0], SCALE, 4).key
    assert bd.batch_norm(lazy[0], norm, SCALE, 3).name == bd.batch_norm(lazy[1], again, SCALE, 3).name
    other = norm.replace(relu=True)
    assert bd.batch_norm(lazy[0], norm, SCALE, 3).name != bd.batch_norm(lazy[0], other, SCALE, 3).name


def test_merging_leaves_the_parts_as_they_are(rng):
    """A worker that computes again what another took with it merges the same parts a second time."""
    parts = [on_one_core(codes(rng)) for _ in range(3)]
    before = [pickle.loads(pickle.dumps(part)) for part in parts]
    assert merging.merged(parts) == merging.merged(parts)
    assert parts == before


def test_a_task_has_one_thread_and_the_process_what_it_had(rng, monkeypatch):
    seen = []
    update = ChannelStatistics.update

    def watched(self, qx, axis=1):
        seen.append(bn.get_num_threads())
        update(self, qx, axis)

    monkeypatch.setattr(ChannelStatistics, "update", watched)
    before = bn.get_num_threads()
    try:
        bn.set_num_threads(5)
        bd.statistics(da.from_array(codes(rng), chunks=2), SCALE, ZERO_POINT).compute()
        assert bn.get_num_threads() == 5
    finally:
        bn.set_num_threads(before)
    assert set(seen) == {1}


# --- batch norms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"output_dtype": bn.qint8, "relu": True}, {"axis": -1}, {"axis": 0}], ids=str
)
def test_batch_norm_is_that_of_the_whole(rng, chunks, options):
    x = codes(rng)
    norm = a_norm(rng, x.shape[options.get("axis", 1)], **options)
    lazy = da.from_array(x, chunks=chunks)
    y = bd.batch_norm(lazy, norm, SCALE, ZERO_POINT)
    want = norm(bn.QuantizedTensor(x, SCALE, ZERO_POINT)).data
    assert (y.chunks, y.dtype) == (lazy.chunks, want.dtype)
    assert type(y._meta) is np.ndarray
    np.testing.assert_array_equal(y.compute(), want, strict=True)
    np.testing.assert_array_equal(y[1:4, :, 2].compute(), want[1:4, :, 2])


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_batch_norm_of_channels_with_their_own_quantization(rng, chunks):
    x = codes(rng, dtype=np.int8)
    scale, zero_point = rng.uniform(0.01, 0.1, 5), rng.integers(-128, 128, 5)
    norm = a_norm(rng, 5).replace(weight=None, bias=None)
    y = bd.batch_norm(da.from_array(x, chunks=chunks), norm, scale, zero_point)
    np.testing.assert_array_equal(y.compute(), norm(bn.QuantizedTensor(x, scale, zero_point, 1)).data, strict=True)


# --- sizes that are not known -----------------------------------------------------------------------------------


def test_only_the_channels_must_be_known(rng):
    x = codes(rng, (40, 6))
    keep = x[:, 0] > 100
    lazy = da.from_array(x, chunks=(7, 2))
    some = lazy[da.from_array(keep, chunks=7)]
    assert np.isnan(some.shape[0])
    norm = a_norm(rng, 6)
    assert bd.statistics(some, SCALE, ZERO_POINT).compute() == on_one_core(x[keep])
    want = norm(bn.QuantizedTensor(x[keep], SCALE, ZERO_POINT)).data
    np.testing.assert_array_equal(bd.batch_norm(some, norm, SCALE, ZERO_POINT).compute(), want)
    wanted = r"^x must have chunks of known sizes along axis 0, its channels, got shape "
    with pytest.raises(ValueError, match=wanted):
        bd.statistics(some, SCALE, ZERO_POINT, axis=0)
    with pytest.raises(ValueError, match=wanted):
        bd.batch_norm(some, norm.replace(axis=0), SCALE, ZERO_POINT)


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 3), np.uint8)}, TypeError, r"x must be a dask\.array\.Array, got ndarray"),
        ({"x": da.zeros((2, 3))}, TypeError, r"x must hold codes, uint8 or int8, got float64"),
        ({"x": da.zeros(3, dtype="u1")}, ValueError, r"x must have at least 2 dimensions, got shape \(3,\)"),
        ({"axis": 2}, ValueError, r"axis must be from -2 to 1 for 2 dimensions, got 2"),
        ({"scale": 0.0}, ValueError, r"scale must be positive"),
        ({"scale": "1"}, TypeError, r"scale must be "),
        ({"zero_point": 256}, ValueError, r"zero_point must be from 0 to 255"),
        ({"scale": [0.1, 0.2], "zero_point": [0, 0]}, ValueError, r"scale must have one value for each of 3 "),
    ],
)
def test_bad_arguments(rng, change, error, message):
    good = {"x": da.zeros((2, 3), chunks=1, dtype=np.uint8), "scale": SCALE, "zero_point": ZERO_POINT}
    arguments = good | change
    with pytest.raises(error, match=f"^{message}"):
        bd.statistics(**arguments)
    axis = arguments.pop("axis", 1)
    with pytest.raises(error, match=f"^{message}"):
        bd.batch_norm(norm=a_norm(rng, 3, axis=axis), **arguments)


def test_bad_norms(rng):
    x = da.zeros((2, 3), chunks=1, dtype=np.uint8)
    with pytest.raises(TypeError, match=r"^norm must be a bytenorm\.BatchNorm"):
        bd.batch_norm(x, "norm", SCALE, ZERO_POINT)
    with pytest.raises(ValueError, match=r"^x has 3 channels on axis 1 \(shape \(2, 3\)\), but norm has 4$"):
        bd.batch_norm(x, a_norm(rng, 4), SCALE, ZERO_POINT)
    steep = bn.BatchNorm([1e38] * 3, None, [0.0] * 3, [1e-30] * 3, eps=0.0, output_scale=1.0, output_zero_point=0)
    with pytest.raises(ValueError, match=r"^the slope of channel 0, .* overflows float32$"):
        bd.batch_norm(x, steep, SCALE, ZERO_POINT)


# --- pieces of files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis", "fortran", "most"),
    [
        *product([(7, 3, 5, 4)], [0, 1, -1], [False, True], [1, 12, 30, 100, 10_000]),
        ((1, 3, 50, 4), 1, False, 100),
        ((9, 3), 0, False, 4),
        ((9, 3), 0, True, 4),
    ],
)
def test_pieces_hold_each_element_once(shape, axis, fortran, most):
    file = files.ArrayFile("a.npy", "a.npy", shape, np.dtype(np.uint8), fortran)
    seen = np.zeros(shape, int)
    pieces = list(files.cut(file, axis, most))
    for piece in pieces:
        seen[piece.box] += 1
        assert seen[piece.box].size == piece.size
        assert seen[piece.box].shape[axis] == shape[axis]
        assert piece.size <= max(most, shape[axis])
    assert (seen == 1).all()
    if most < shape[axis]:
        assert len(pieces) == seen.size // shape[axis]


def test_small_files_share_a_task():
    made = [files.ArrayFile(str(n), str(n), (n, 2), np.dtype(np.uint8), False) for n in (3, 2, 0, 9, 1)]
    found = [[(piece.file.path, piece.size) for piece in share] for share in files.shares(made, 1, 10)]
    assert found == [[("3", 6), ("2", 4)], [("9", 10)], [("9", 8), ("1", 2)]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_files_are_counted_in_pieces(rng, tmp_path, order, axis):
    arrays = [codes(rng, (8, 8, 5, 8)), codes(rng, (8, 8, 7, 8))]
    paths = [str(tmp_path / f"{i}.npy") for i in range(2)]
    for path, array in zip(paths, arrays, strict=True):
        np.save(path, np.asarray(array, order=order))
    how = files.Reading(SCALE, ZERO_POINT, axis)
    looked = how.look_at(paths, paths)
    parts = [files.count(share, how, 8) for share in files.shares(looked, axis, 100)]
    assert len(parts) > 40
    want = on_one_core(arrays[0], axis=axis)
    want.merge(on_one_core(arrays[1], axis=axis))
    assert merging.merged(parts) == want


# --- a cluster --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """256 MB of files, and what they hold on one core."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(5)
    want = ChannelStatistics(64)
    for i in range(16):
        array = np.frombuffer(rng.bytes(1 << 24), np.uint8).reshape(16, 64, 128, 128)
        np.save(folder / f"{i:02}.npy", array)
        want.update(bn.QuantizedTensor(array, SCALE, ZERO_POINT))
    yield folder, want
    for path in folder.iterdir():
        path.unlink()


def test_a_killed_worker_loses_nothing(client, large, tmp_path):
    folder, want = large
    paths = sorted(map(str, folder.iterdir()))
    assert sum(Path(path).stat().st_size for path in paths) > 256 << 20
    client.wait_for_workers(2)
    limits = client.run(lambda dask_worker: dask_worker.memory_manager.memory_limit)
    assert list(limits.values()) == [300_000_000] * 2

    client.register_plugin(DieOnce(str(tmp_path), "count", 6))
    told = []
    try:
        how = files.Reading(SCALE, ZERO_POINT)
        found = cluster.count_files(
            client, how.look_at(paths, paths), how, lambda *a: told.append(a), share=4 << 20
        )
    finally:
        client.unregister_worker_plugin(DieOnce.name)
    killed, key = (tmp_path / "killed").read_text().split(" ", 1)
    finished = {log.stem: log.read_text().splitlines() for log in tmp_path.glob("*.log")}
    every = [name for names in finished.values() for name in names]
    assert finished[killed][-1] == key
    assert len(finished[killed]) == 6
    assert every.count(key) == 2  # by the killed, and by another
    assert len(set(every)) == 64
    assert not Path("/proc", killed).exists()

    assert found == want
    np.testing.assert_array_equal(found.histogram, want.histogram)
    assert told[0] == (0, 256 << 20)
    assert told[-1] == (256 << 20, 256 << 20)
    client.wait_for_workers(2)
    assert int(killed) not in client.run(os.getpid).values()


def test_arrays_on_a_cluster(client, rng, tmp_path):
    shape = (16, 64, 32, 32)
    paths = [tmp_path / f"{i}.npy" for i in range(3)]
    for path in paths:
        np.save(path, codes(rng, shape))
    loaded = [da.from_delayed(dask.delayed(np.load)(path, mmap_mode="r"), shape, np.uint8) for path in paths]
    x = da.concatenate(loaded).rechunk((4, 32, -1, -1))
    norm = a_norm(rng, 64)
    y = bd.batch_norm(x, norm, SCALE, ZERO_POINT)
    found = client.compute(bd.statistics(y, norm.output_scale, norm.output_zero_point)).result()
    whole = norm(bn.QuantizedTensor(np.concatenate([np.load(path) for path in paths]), SCALE, ZERO_POINT))
    assert found == on_one_core(whole.data, norm.output_scale, norm.output_zero_point)


@pytest.fixture
def one_file(tmp_path, rng):
    path = str(tmp_path / "a.npy")
    np.save(path, codes(rng, (64, 5)))
    how = files.Reading(SCALE, ZERO_POINT)
    return path, how, how.look_at([path], ["a.npy"])


def test_work_that_kills_every_worker(client, one_file, tmp_path):
    path, how, looked = one_file

    def allowed(n, dask_scheduler):
        before, dask_scheduler.allowed_failures = dask_scheduler.allowed_failures, n
        return before

    before = client.run_on_scheduler(allowed, 0)
    client.register_plugin(DieOnce(str(tmp_path), "count", 1))
    try:
        with pytest.raises(RuntimeError, match=r"^workers died again and again .* may need more memory"):
            cluster.count_files(client, looked, how)
    finally:
        client.unregister_worker_plugin(DieOnce.name)
        client.run_on_scheduler(allowed, before)
    client.wait_for_workers(2)
    assert cluster.count_files(client, looked, how) == on_one_core(np.load(path))


def test_work_that_somebody_cancels(client, one_file):
    _, how, looked = one_file

    def cancel(done, whole):
        client.cancel([distributed.Future(key, client) for key in list(client.futures)], force=True)

    with pytest.raises(RuntimeError, match=r"^the connection to the scheduler was lost"):
        cluster.count_files(client, looked, how, cancel)


def test_a_file_that_changes_or_goes_after_it_was_looked_at(client, one_file):
    path, how, looked = one_file
    np.save(path, np.zeros((63, 5), np.uint8))
    with pytest.raises(ValueError, match=r"^a\.npy was changed while it was read$"):
        cluster.count_files(client, looked, how)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"^a\.npy cannot be read as a \.npy file: it is truncated"):
        cluster.count_files(client, looked, how)
    Path(path).unlink()
    with pytest.raises(ValueError, match=r"^a\.npy is not there for a worker: all of them must see it as '"):
        cluster.count_files(client, looked, how)


@pytest.mark.parametrize("address", ["nowhere://x", "tcp://127.0.0.1:1"])
def test_a_scheduler_that_cannot_be_reached_leaves_dask_as_it_was(client, monkeypatch, address):
    monkeypatch.setattr(cluster, "CONNECT", 0.2)
    with dask.config.set(scheduler="threads"):
        with (
            pytest.raises(ValueError, match=r"^scheduler '.*' cannot be reached: "),
            cluster.connected(address),
        ):
            pass
        gc.collect()  # what Dask has left of it ends, and restores what it found
        assert dask.config.get("scheduler") == "threads"
    assert distributed.default_client() is client


def test_a_client_that_is_not_dasks_default(client, one_file):
    path, how, looked = one_file
    with cluster.connected(client.scheduler.address) as its:
        assert distributed.default_client() is client
        assert dask.config.get("scheduler") == "threads"
        assert cluster.count_files(its, looked, how) == on_one_core(np.load(path))


def test_workers_with_another_version(client, monkeypatch):
    address = client.scheduler.address
    with cluster.connected(address) as its:
        assert its.scheduler.address == address
    monkeypatch.setattr(cluster, "__version__", "9.9")
    with (
        pytest.raises(ValueError, match=r"has workers with bytenorm .*, here it is 9\.9$"),
        cluster.connected(address),
    ):
        pass
