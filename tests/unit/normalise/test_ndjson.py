"""The lines of `tollhouse normalize`: one answer for each, ids as they came."""

import json

import pytest

from pipeline.normalise.ndjson import answer_line

USAGE = b'"raw": {"prompt_tokens": 3, "completion_tokens": 0}'


@pytest.mark.parametrize("ident", [b'"e1"', b"12345678901234567890123", b"1.50", b"null", b'{"a": [1]}', b'"\xc3\xa9"'])
def test_ids_come_back_as_they_came(ident: bytes) -> None:
    answer = answer_line(b'{"id": ' + ident + b", " + USAGE + b"}")
    assert answer == b'{"id":' + ident + b',"tokens":{"input":3}}'


def test_only_classes_that_count_are_shown() -> None:
    assert json.loads(answer_line(b'{"id": 1, "raw": {"prompt_tokens": 0, "completion_tokens": 0}}')) == {
        "id": 1,
        "tokens": {},
    }


def test_a_refusal_has_reason_and_detail() -> None:
    answer = json.loads(answer_line(b'{"id": "a", "provider": "openai", "api": "chat", "raw": null}'))
    assert answer == {"id": "a", "error": {"reason": "no_usage", "detail": "usage is null"}}


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b"", "line 7: not JSON: "),
        (b"   ", "line 7: not JSON: "),
        (b"{", "line 7: not JSON: "),
        (b"[]", "line 7: not an object with id, provider, api and raw"),
        (b"null", "line 7: not an object with id, provider, api and raw"),
        (b"[" * 100_000, "line 7: not JSON: "),
        (b'{"id": "\xff"}', "line 7: not JSON: "),
    ],
)
def test_lines_that_cannot_be_read(line: bytes, detail: str) -> None:
    answer = json.loads(answer_line(line, 7))
    assert answer["id"] is None
    assert answer["error"]["reason"] == "malformed"
    assert answer["error"]["detail"].startswith(detail)


@pytest.mark.parametrize("number", [b"1e400", b"NaN", b"-Infinity", b"1e30", b"9007199254740992", b"1" + b"0" * 400])
def test_numbers_that_are_no_count_keep_the_id(number: bytes) -> None:
    line = b'{"id": "a", "raw": {"completion_tokens": 1, "prompt_tokens": ' + number + b"}}"
    answer = json.loads(answer_line(line, 7))
    assert answer["id"] == "a"
    assert answer["error"]["reason"] == "malformed"
    assert answer["error"]["detail"].startswith("prompt_tokens is ")


@pytest.mark.parametrize(("field", "name"), [(b'"provider": 5', "provider"), (b'"api": ["chat"]', "api")])
def test_names_are_strings(field: bytes, name: str) -> None:
    answer = json.loads(answer_line(b'{"id": "a", ' + field + b", " + USAGE + b"}"))
    assert answer == {"id": "a", "error": {"reason": "malformed", "detail": f"{name} is not a string"}}
