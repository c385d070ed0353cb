"""Commands from a file to an answer: good input in every form, bad input in one line."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli.command import refused, tollhouse

ROOT = Path(__file__).resolve().parents[3]
CATALOG = ROOT / "examples" / "catalog.yaml"
CHAT = b'{"id":"a","provider":"openai","api":"chat","raw":{"prompt_tokens":9,"completion_tokens":2}}'
RATE = (
    b'{"id":"r1","plan":"team","at":"2026-10-03T00:00:00Z",'
    b'"usage":[{"model":"gpt-5","provider":"openai","requests":0,"tokens":{"input":2000000}}]}'
)


def _scenario() -> dict[str, Any]:
    return {
        "catalog": {
            "currency": "USD",
            "tenants": {"acme": {"name": "Acme", "tier": "standard", "plan": "team"}},
            "keys": {"pool": {"provider": "openai", "kind": "pooled"}},
            "plans": {"team": {"charges": [{"meter": "tokens", "models": "*", "model": "per_unit", "price": "0.01"}]}},
        },
        "start": "2026-10-01T00:00:00Z",
        "steps": [
            {
                "at": "2026-10-01T09:00:00Z",
                "event": {
                    "id": "e1", "subject": "acme", "time": "2026-10-01T08:59:59Z",
                    "data": {"key": "pool", "provider": "openai", "model": "gpt-5-mini", "tokens": {"input": 7}},
                },
            },
            {"at": "2026-11-05T00:00:00Z", "invoice": {"month": "2026-10", "finalise": True}},
        ],
    }  # fmt: skip


def test_normalize_reads_standard_input() -> None:
    result = tollhouse("normalize", "-", stdin=CHAT + b"\n")
    assert result.code == 0
    (answer,) = result.lines
    assert (answer["id"], answer["tokens"]["input"], answer["tokens"]["output"]) == ("a", 9, 2)


@pytest.mark.parametrize("form", ["crlf", "bom", "no newline at the end"])
def test_normalize_takes_a_file_as_editors_leave_it(form: str, tmp_path: Path) -> None:
    data = {
        "crlf": CHAT + b"\r\n" + CHAT + b"\r\n",
        "bom": b"\xef\xbb\xbf" + CHAT + b"\n" + CHAT + b"\n",
        "no newline at the end": CHAT + b"\n" + CHAT,
    }[form]
    path = tmp_path / "usage.ndjson"
    path.write_bytes(data)
    result = tollhouse("normalize", path)
    assert result.code == 0
    assert [line["tokens"]["input"] for line in result.lines] == [9, 9]


def test_normalize_answers_a_line_for_each_line(tmp_path: Path) -> None:
    lines = [
        CHAT,
        b"{",
        b"[]",
        b'{"id":"x"}',
        b"\xff\xfe",
        b'{"id":"n","provider":"openai","api":"chat","raw":{}}',
        CHAT,
    ]
    result = tollhouse("normalize", "-", stdin=b"\n".join(lines) + b"\n")
    assert result.code == 0
    answers = result.lines
    assert len(answers) == len(lines)
    assert [("tokens" in a) for a in answers] == [True, False, False, False, False, False, True]
    assert {a["error"]["reason"] for a in answers if "error" in a} <= {"malformed", "no_usage"}


def test_normalize_survives_a_line_of_ten_megabytes() -> None:
    huge = (
        b'{"id":"h","provider":"openai","api":"chat","raw":{"prompt_tokens":1,"completion_tokens":0,"x":"'
        + b"y" * 10_000_000
        + b'"}}'
    )
    answers = tollhouse("normalize", "-", stdin=huge + b"\n" + CHAT + b"\n").lines
    assert answers[0]["tokens"]["input"] == 1
    assert answers[1]["tokens"]["input"] == 9


@pytest.mark.parametrize("command", [["normalize"], ["rate"]], ids=" ".join)
def test_an_empty_file_has_no_answers(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    result = tollhouse(*command, path)
    assert (result.code, result.raw, result.err) == (0, b"", "")


def test_rate_with_a_catalog_for_all_lines() -> None:
    (answer,) = tollhouse("rate", "--catalog", CATALOG, "-", stdin=RATE + b"\r\n").lines
    assert (answer["id"], answer["amount"], answer["currency"]) == ("r1", "3.00", "USD")


def test_rate_takes_a_bom() -> None:
    (answer,) = tollhouse("rate", "--catalog", CATALOG, "-", stdin=b"\xef\xbb\xbf" + RATE + b"\n").lines
    assert answer["amount"] == "3.00"


def test_rate_says_what_is_wrong_with_a_line_and_goes_on() -> None:
    answers = tollhouse("rate", "--catalog", CATALOG, "-", stdin=b"{\n" + RATE + b"\n").lines
    assert "error" in answers[0]
    assert answers[1]["amount"] == "3.00"


@pytest.mark.parametrize("form", ["json", "yaml", "bom", "stdin"])
def test_simulate_reads_json_and_yaml(form: str, tmp_path: Path) -> None:
    text = json.dumps(_scenario()) if form != "yaml" else yaml.safe_dump(_scenario())
    data = (b"\xef\xbb\xbf" if form == "bom" else b"") + text.encode()
    path = tmp_path / "scenario"
    path.write_bytes(data)
    result = tollhouse("simulate", "-", stdin=data) if form == "stdin" else tollhouse("simulate", path)
    assert result.code == 0
    document = result.json()
    assert document["usage"][0]["tokens"]["input"] == 7
    assert [(i["status"], i["total"]) for i in document["invoices"]] == [("finalised", "0.07")]


def test_the_examples_scenario_runs() -> None:
    result = tollhouse("simulate", ROOT / "examples" / "scenario.yaml")
    assert result.code == 0
    document = result.json()
    assert document["refused"] == []
    assert document["invoices"][0]["status"] == "finalised"


def _step(action: object) -> Any:
    return lambda scenario: scenario["steps"].append(action)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("catalog"), "catalog"),
        (lambda s: s.update(extra=1), "unknown member 'extra'"),
        (lambda s: s.update(start="yesterday"), "start"),
        (lambda s: s.update(steps={}), "steps: give a list"),
        (_step({"at": "2026-01-01T00:00:00Z", "invoice": {"month": "2026-10"}}), "must not go back"),
        (_step({"at": "2027-01-01T00:00:00Z", "dance": {}}), "steps[2]: give exactly one of"),
        (_step({"at": "2027-01-01T00:00:00Z", "invoice": {}}), "steps[2].invoice: 'month' is missing"),
        (_step({"at": "2027-01-01T00:00:00Z", "invoice": {"month": "2026-13"}}), "steps[2].invoice"),
        (_step({"at": "2027-01-01T00:00:00Z", "invoice": 7}), "steps[2].invoice: give an object"),
        (_step(7), "steps[2]: a step is an object"),
        (lambda s: s["catalog"]["tenants"]["acme"].update(plan="none"), "catalog.tenants.acme.plan"),
    ],
)
def test_a_wrong_scenario_is_refused_with_its_place(change: Any, said: str) -> None:
    scenario = _scenario()
    change(scenario)
    line = refused(tollhouse("simulate", "-", stdin=json.dumps(scenario).encode()))
    assert line.startswith("tollhouse: -: ")
    assert said in line


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "a scenario is an object"),
        (b"{", "-:1: "),
        (b"a: [1", "-:1: "),
        (b"\xff\xfe{}", "not UTF-8 text at byte 0"),
        (b"[" * 100_000, "nested too deeply"),
        (b"a: 1\nb: !!python/object:os.system x\n", "-:2: "),
    ],
)
def test_a_file_that_is_no_document_is_refused_in_one_line(data: bytes, said: str) -> None:
    assert said in refused(tollhouse("simulate", "-", stdin=data))


@pytest.mark.parametrize("name", ["event", "catalog", "scenario"])
def test_schema_prints_one_json_document(name: str) -> None:
    result = tollhouse("schema", name)
    assert result.code == 0
    assert result.json()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_schema_of_something_else_is_wrong_use() -> None:
    result = tollhouse("schema", "tenant")
    assert result.code == 2
    assert "'event', 'catalog', 'scenario'" in result.said[-1]


@pytest.mark.parametrize("command", [["normalize"], ["rate"], ["simulate"], ["publish"], ["apply"]], ids=" ".join)
def test_a_file_that_is_not_there_is_wrong_use(command: list[str], tmp_path: Path) -> None:
    line = refused(tollhouse(*command, tmp_path / "nothing"), code=2)
    assert line == f"tollhouse: {tmp_path / 'nothing'}: there is no such file"


@pytest.mark.parametrize("command", [["normalize"], ["rate"], ["simulate"], ["publish"], ["apply"]], ids=" ".join)
def test_a_directory_is_no_file(command: list[str], tmp_path: Path) -> None:
    line = refused(tollhouse(*command, tmp_path), code=2)
    assert line == f"tollhouse: {tmp_path} is a directory: name a file"


def test_apply_names_every_mistake_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(
        textwrap.dedent("""\
            currency: USD
            tenants:
              acme: {name: Acme, tier: gold, plan: team}
              bolt: {name: Bolt, tier: standard, plan: none, timezone: Mars/Olympus}
            plans:
              team: {charges: [{meter: tokens, models: "*", model: per_unit, price: 0.3}]}
        """)
    )
    result = tollhouse("apply", path, "--dry-run")
    assert result.code == 1
    assert result.raw == b""
    assert len(result.said) >= 3
    assert all(line.startswith(f"tollhouse: {path}:") for line in result.said)
    assert any(f"{path}:3: tenants.acme.tier" in line for line in result.said)
    assert any(f"{path}:4: tenants.bolt.timezone" in line for line in result.said)


def test_an_empty_catalog_is_one_line(tmp_path: Path) -> None:
    assert refused(tollhouse("apply", "-", "--dry-run")).startswith("tollhouse: -:1: the catalog is empty")


def test_detect_wants_its_files(tmp_path: Path) -> None:
    result = tollhouse("detect", "--minutes", tmp_path / "none.parquet", "--out", tmp_path / "alerts.jsonl")
    assert result.code == 2
    assert "does not exist" in result.said[-1]


def test_detect_says_that_a_file_is_no_parquet(tmp_path: Path) -> None:
    path = tmp_path / "minutes.parquet"
    path.write_bytes(b"no parquet at all")
    line = refused(tollhouse("detect", "--minutes", path, "--out", tmp_path / "alerts.jsonl"))
    assert str(path) in line


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`tollhouse … | head -1` must not end in a traceback."""
    program = [sys.executable, "-m", "tollhouse", "normalize", "-"]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=os.environ
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(CHAT + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == "a"
        process.stdout.close()
        try:
            process.stdin.write((CHAT + b"\n") * 2000)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it had read everything, as it should
        said = process.stderr.read()
        assert process.wait(20) in (0, 1)
    assert said == b""


def test_a_program_that_waits_for_each_answer_gets_it() -> None:
    for arguments in (["normalize", "-"], ["rate", "--catalog", str(CATALOG), "-"]):
        program = [sys.executable, "-m", "tollhouse", *arguments]
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for _ in range(2):
                process.stdin.write((CHAT if arguments[0] == "normalize" else RATE) + b"\n")
                process.stdin.flush()
                assert json.loads(process.stdout.readline())["id"] in ("a", "r1")
            process.stdin.close()
            assert process.wait(20) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("arguments", [["schema", "catalog"], ["simulate", "examples/scenario.yaml"]], ids=" ".join)
def test_a_full_disk_is_told(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tollhouse", *arguments], stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["tollhouse: No space left on device"]


def test_a_fault_of_ours_is_one_line_that_says_how_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise RuntimeError("the table has no legs")

    monkeypatch.setattr("tollhouse.published_schemas.schema_of", broken)
    with pytest.raises(RuntimeError):
        tollhouse("schema", "event")
    line = refused(tollhouse("schema", "event", traceback=False))
    assert line == (
        "tollhouse: a fault of ours, please report it: RuntimeError: the table has no legs "
        "(set TOLLHOUSE_TRACEBACK=1 to see where it comes from)"
    )
