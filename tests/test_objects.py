"""Object storage: lists, fetching whole and unchanged, and what a store can do wrong."""

import tracemalloc
from dataclasses import replace

import pytest

from recognizer.storage import objects
from recognizer.storage.objects import (
    ConflictError,
    ObjectError,
    StoreError,
    delete_object,
    fetch,
    list_below,
    list_objects,
    put_object,
    read_object,
    save_object,
)
from tests import object_server
from tests.object_server import BUCKET

ADDRESS = f"s3://{BUCKET}/rwf"
MIB = 2**20


@pytest.fixture
def store(monkeypatch):
    with object_server.reached(monkeypatch, retries=False) as server:
        yield server


def test_what_lies_below_a_prefix_is_listed_by_its_key_there(store):
    names = ["a b+%.mp4", "싸움/é.mp4", "back\\slash.mp4", "#?*.mp4", "k" * 200 + "/" + "n" * 819]
    store.objects = {f"rwf/{name}": b"x" * 7 for name in names}
    store.objects |= {"rwf": b"", "rwf/": b"", "rwf2/other.mp4": b"", "other.mp4": b""}
    listed = list(list_objects(ADDRESS))
    assert sorted(o.key for o in listed) == sorted(names)
    assert {(o.address, o.size, o.tag) for o in listed} == {
        (ADDRESS, 7, object_server.etag(b"x" * 7))
    }
    assert len(list(list_objects(f"s3://{BUCKET}"))) == 9
    for number, item in enumerate(listed):
        assert item.stamp == f"7 {item.tag}", number


def test_the_address_of_one_object_is_that_object(store, tmp_path):
    store.objects = {"rwf/a.mp4": b"content", "rwf/a.mp4.txt": b""}
    (only,) = list_objects(f"{ADDRESS}/a.mp4")
    assert only.key == ""
    fetch(only, tmp_path / "a.mp4", lambda count: None)
    assert (tmp_path / "a.mp4").read_bytes() == b"content"
    assert list(list_objects(f"{ADDRESS}/none.mp4")) == []


def test_lists_of_several_pages_are_whole_and_held_page_by_page(store):
    store.keys = lambda after: (
        f"rwf/{i:07}.mp4" for i in range(int(after[4:11] or -1) + 1 if after else 0, 5_000)
    )
    tracemalloc.start()
    count = sum(1 for _ in list_objects(ADDRESS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5_000
    assert peak < 20 * MIB


@pytest.mark.parametrize("count", [1, 700, 1700])
def test_a_store_that_repeats_its_continuation_token_is_named(store, count):
    store.objects = {f"rwf/{i:05}.mp4": b"" for i in range(count)}
    store.stuck = True
    with pytest.raises(StoreError, match=rf"{ADDRESS}: .* repeats its continuation token"):
        for _ in list_objects(ADDRESS):
            pass


def test_a_store_that_sends_empty_pages_for_ever_is_named(store, monkeypatch):
    monkeypatch.setattr(objects, "_PAGE_S", 0.5)
    monkeypatch.setattr(object_server._Handler, "_list", sends_no_key)
    with pytest.raises(StoreError, match=f"{ADDRESS}: the store lists no object for minutes"):
        list(list_objects(ADDRESS))


def sends_no_key(handler, prefix, after):
    token = b"<NextContinuationToken>same</NextContinuationToken>"
    handler._answer(
        200, b"<ListBucketResult><IsTruncated>true</IsTruncated>%s</ListBucketResult>" % token
    )


def test_an_object_and_a_folder_marker_of_its_name_are_no_repetition(store):
    store.objects = {"rwf/a.mp4": b"x", "rwf/a.mp4/": b"", "rwf/b.mp4": b"", "rwf/b.mp4/": b""}
    assert len(list(list_objects(ADDRESS))) == 4


def test_an_object_is_put_only_over_the_version_that_is_expected(store):
    first = put_object(ADDRESS, "a", b"1")
    with pytest.raises(ConflictError, match=f"{ADDRESS}/a: another process wrote"):
        put_object(ADDRESS, "a", b"2")
    second = put_object(ADDRESS, "a", b"2", first)
    with pytest.raises(ConflictError, match="another process wrote"):
        put_object(ADDRESS, "a", b"3", first)
    assert read_object(ADDRESS, "a") == (b"2", second)
    delete_object(ADDRESS, "a")
    with pytest.raises(ConflictError, match="or removed it meanwhile"):
        put_object(ADDRESS, "a", b"3", second)
    store.refused = (404, "NoSuchBucket")
    with pytest.raises(StoreError, match="no such bucket"):
        put_object(ADDRESS, "a", b"3", second)
    store.refused = None
    delete_object(ADDRESS, "a")
    assert read_object(ADDRESS, "a") is None


def test_a_put_that_was_done_and_not_answered_counts(store, monkeypatch):
    monkeypatch.setattr(objects, "_RETRIES", {"max_retries": 1})
    store.lost_answers = 1
    version = put_object(ADDRESS, "a", b"1")
    store.lost_answers = 1
    put_object(ADDRESS, "a", b"2", version)
    assert store.objects["rwf/a"] == b"2"
    with pytest.raises(ConflictError, match="another process wrote"):
        put_object(ADDRESS, "a", b"3", version)


def test_saving_over_an_object_goes_on_while_others_write_it_until_it_is_too_often(store):
    save_object(ADDRESS, "a", b"1")
    numbers = iter(range(9))
    store.before_put = lambda key: store.objects.update({f"rwf/a{next(numbers)}": b""})
    save_object(ADDRESS, "a", b"2")
    assert store.objects["rwf/a"] == b"2"
    store.before_put = lambda key: store.objects.update({"rwf/a": b"of %d" % next(numbers)})
    with pytest.raises(ConflictError, match="write it at the same time"):
        save_object(ADDRESS, "a", b"3")


def test_keys_after_another_are_listed_alone(store):
    store.objects = {f"rwf/{name}": b"" for name in ("a", "manifest-1", "manifest.json", "z/y")}
    assert [o.key for o in list_below(ADDRESS, after="manifest")] == [
        *("manifest-1", "manifest.json", "z/y"),
    ]


def test_a_large_object_comes_in_parts(store, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "_PART", MIB)
    content = bytes(range(256)) * (2 * MIB // 256) + b"end"
    store.objects = {"rwf/a.mp4": content}
    (item,) = list_objects(ADDRESS)
    counts: list[int] = []
    fetch(item, tmp_path / "a", counts.append)
    assert (tmp_path / "a").read_bytes() == content
    assert counts == [MIB, MIB, 3]


def test_an_empty_object_is_an_empty_file(store, tmp_path):
    store.objects = {"rwf/a.mp4": b""}
    (item,) = list_objects(ADDRESS)
    fetch(item, tmp_path / "a", lambda count: None)
    assert (tmp_path / "a").read_bytes() == b""


def change(store):
    store.objects["rwf/a.mp4"] = b"another content"


def remove(store):
    del store.objects["rwf/a.mp4"]


@pytest.mark.parametrize(
    ("fault", "text"), [(change, "has changed since it was listed"), (remove, "404 NoSuchKey")]
)
def test_an_object_that_is_not_as_listed_is_refused(store, tmp_path, fault, text):
    store.objects = {"rwf/a.mp4": b"first content"}
    (item,) = list_objects(ADDRESS)
    fault(store)
    with pytest.raises(ObjectError, match=text):
        fetch(item, tmp_path / "a", lambda count: None)


def test_a_store_that_heeds_no_if_match_cannot_give_another_object(store, tmp_path, monkeypatch):
    monkeypatch.setattr(object_server._Handler, "_object", sends_what_it_has)
    store.objects = {"rwf/a.mp4": b"first content"}
    (item,) = list_objects(ADDRESS)
    fetch(replace(item, tag=item.tag.strip('"')), tmp_path / "a", lambda count: None)
    store.objects["rwf/a.mp4"] = b"other content"
    with pytest.raises(ObjectError, match="has changed"):
        fetch(item, tmp_path / "a", lambda count: None)


def sends_what_it_has(handler, key):
    handler._send(handler.server.objects[key])


def test_an_object_that_changes_between_two_parts_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "_PART", MIB)
    store.objects = {"rwf/a.mp4": b"a" * (2 * MIB)}
    (item,) = list_objects(ADDRESS)

    def after_first_part(count):
        store.objects["rwf/a.mp4"] = b"b" * (2 * MIB)

    with pytest.raises(ObjectError, match="has changed"):
        fetch(item, tmp_path / "a", after_first_part)


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "SignatureDoesNotMatch", "the credentials in the environment are refused"),
        (401, "InvalidToken", "the credentials in the environment are refused"),
        (404, "NoSuchBucket", "no such bucket"),
        (301, "PermanentRedirect", "AWS_ENDPOINT_URL"),
        (301, "PermanentRedirect", "AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", "AWS_REGION"),
        (400, "ExpiredToken", "the credentials in the environment have expired"),
        (503, "SlowDown", "AWS_ENDPOINT_URL"),
    ],
)
def test_a_store_that_refuses_is_named_with_its_reason_alone(store, tmp_path, status, code, advice):
    store.objects = {"rwf/a.mp4": b"content"}
    (item,) = list_objects(ADDRESS)
    store.refused = (status, code)
    for use in (
        lambda: list(list_objects(ADDRESS)),
        lambda: fetch(item, tmp_path / "a", lambda count: None),
        lambda: put_object(ADDRESS, "b", b""),
        lambda: read_object(ADDRESS, "a.mp4"),
        lambda: delete_object(ADDRESS, "a.mp4"),
    ):
        with pytest.raises(StoreError) as caught:
            use()
        text = str(caught.value)
        assert text.startswith(f"{ADDRESS}: ")
        assert advice in text
        assert not any(word in text for word in ("secret", "the-key", "127.0.0.1", "<Error>"))


def test_an_object_that_may_not_be_removed_is_told_from_a_store_that_is_not_reached(store):
    put_object(ADDRESS, "a", b"1")
    store.keeps = True
    with pytest.raises(StoreError, match=r"do not permit this \(AccessDenied\)$"):
        delete_object(ADDRESS, "a")


def test_a_bucket_that_is_not_there_and_a_store_that_is_not_there(store, monkeypatch):
    with pytest.raises(StoreError, match=r"s3://none/x: no such bucket.*NoSuchBucket"):
        list(list_objects("s3://none/x"))
    store.server_close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    objects._open.cache_clear()
    with pytest.raises(StoreError, match="not reached"):
        list(list_objects(ADDRESS))


@pytest.mark.parametrize("key", ["a//b.mp4", "a/../b.mp4", "./b.mp4", "a\x7fb.mp4"])
def test_a_key_that_the_client_cannot_address_is_named(store, key):
    store.objects = {f"rwf/{key}": b"", "rwf/z.mp4": b""}
    with pytest.raises(StoreError, match=r'the key "rwf/[^"]*" has an empty part'):
        list(list_objects(ADDRESS))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("AWS_SECRET_ACCESS_KEY", "secret\r", "holds a control character"),
        ("AWS_REGION", "secret\n", "holds a control character"),
        ("AWS_ENDPOINT_URL", "secret", "expected an address with http:// or https://"),
    ],
)
def test_a_variable_that_the_client_cannot_use_is_named_without_its_value(
    store, monkeypatch, name, value, why
):
    monkeypatch.setenv(name, value)
    objects._open.cache_clear()
    with pytest.raises(StoreError, match=f"{name}.*{why}") as caught:
        list(list_objects(ADDRESS))
    assert "secret" not in str(caught.value)


def test_without_obstore_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(ValueError, match=r"pip install -r requirements/objectstore\.txt"):
        list(list_objects(ADDRESS))
