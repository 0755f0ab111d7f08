"""Traces: the generators, the Mooncake format there and back, and every way in which a file can be wrong."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from lib.bug2_kv_cache import traces
from lib.errors import CollectionError

GOOD = {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": list(range(46, 60))}


def save(path, *rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def write(path, trace):
    return save(path, *(each._asdict() | {"hash_ids": list(each.hash_ids)} for each in trace))


@pytest.mark.parametrize("generate", [traces.chat, traces.agents, traces.documents])
def test_generated_traces_come_back_from_a_file_and_depend_on_the_seed_alone(generate, tmp_path):
    trace = generate(seed=5)
    assert traces.read(write(tmp_path / "trace.jsonl", trace)) == trace == generate(seed=5) != generate(seed=6)
    assert [request.timestamp for request in trace] == sorted(request.timestamp for request in trace)


@given(some.integers(1, 5), some.integers(1, 5), some.integers(0, 3000), some.integers(1, 3000), some.integers(1, 2000), some.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_requests_name_one_id_a_block_and_equal_ids_follow_equal_ids(users, turns, system, prompt, output, seed):
    before = {}
    for request in traces.chat(users, turns, system, prompt, output, seed=seed):
        assert len(request.hash_ids) == -(-request.input_length // traces.BLOCK) and request.generated >= 0
        assert request.blocks == len(request.hash_ids) + request.generated
        for parent, block in zip((None, *request.hash_ids), request.hash_ids):
            assert before.setdefault(block, parent) == parent


def test_the_example_of_the_format_is_read(tmp_path):
    other = {"timestamp": 30535, "input_length": 6472, "output_length": 26, "hash_ids": [*range(46, 58), 2366]}
    first, second = traces.read(save(tmp_path / "trace.jsonl", GOOD, "\n", other))
    assert (first.blocks, first.generated, second.timestamp) == (14, 0, 30535)
    assert set(first.hash_ids) & set(second.hash_ids) == set(range(46, 58))


@pytest.mark.parametrize("row, said", [
    ("{not json\n", "property name"),
    ("[1, 2]\n", "not of type 'object'"),
    ({key: value for key, value in GOOD.items() if key != "hash_ids"}, "hash_ids"),
    ({key: value for key, value in GOOD.items() if key != "timestamp"}, "timestamp"),
    (GOOD | {"hash_ids": 3}, "not of type 'array'"),
    (GOOD | {"input_length": -1}, "less than the minimum"),
    (GOOD | {"output_length": 1.5}, "not of type 'integer'"),
    (GOOD | {"timestamp": True}, "not of type 'integer'"),
    (GOOD | {"hash_ids": ["a"] * 14}, "not of type 'integer'"),
    (GOOD | {"input_length": 0, "hash_ids": []}, "less than the minimum of 1"),
    (GOOD | {"hash_ids": list(range(46, 59))}, "need 14 hash ids, found 13"),
    (GOOD | {"hash_ids": [*range(46, 59), 46]}, "non-unique elements"),
    (GOOD | {"hash_ids": [*range(146, 159), 50]}, "equal ids are equal prefixes"),
])
def test_a_malformed_line_is_an_error_with_its_number(row, said, tmp_path):
    path = save(tmp_path / "trace.jsonl", GOOD, row)
    with pytest.raises(CollectionError, match=f"line 2 of .*cannot be read: .*{said}"):
        traces.read(path)


def test_an_empty_or_missing_or_binary_file_is_an_error(tmp_path):
    with pytest.raises(CollectionError, match="is empty"):
        traces.read(save(tmp_path / "empty.jsonl", "\n", "  \n"))
    with pytest.raises(CollectionError, match="^[^,]*cannot be read"):
        traces.read(tmp_path / "missing.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CollectionError, match="^[^,]*cannot be read"):
        traces.read(tmp_path / "binary.jsonl")
