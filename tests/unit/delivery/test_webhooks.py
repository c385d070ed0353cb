"""Signed webhooks: the specification's signature, addresses that may be sent to, answers and what they mean."""

from __future__ import annotations

import base64
import json

import pytest

from pipeline.alerting import Alert
from streams.delivery import Notice, Refused
from tests.integration.alerts.receiver import Receiver
from tollhouse.sinks import Sinks, notice_text
from tollhouse.webhooks import Webhooks, secret_key, sign, unsafe

SECRET = "whsec_" + base64.b64encode(b"tollhouse-tests-use-24-bytes-or-more").decode()
NOW_S = 1_790_000_000.7
ALERT = Alert(
    "leak:acme/pool-1/1", 1_790_000_000_000_000, "leak", "page", "acme/pool-1", "it is used elsewhere", {"n": 1}
)
NOTICE = Notice("leak:acme/pool-1/1.1", 1, ALERT, "open", ALERT.at_us, 1, ("tenant acme is suspended",))


def post(webhooks: Webhooks, url: str) -> None:
    webhooks.post(url, NOTICE, text="text")


def test_the_signature_is_the_specifications() -> None:
    # Made with the specification's own reference library.
    key = secret_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    assert (
        sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


@pytest.mark.parametrize(("secret", "words"), [("", "is not set"), ("whsec_!", "base64"), ("whsec_YWJj", "3 bytes")])
def test_without_a_good_secret_nothing_is_sent(secret: str, words: str) -> None:
    with Receiver() as receiver:
        with pytest.raises(PermissionError, match=words):
            post(Webhooks(secret), f"http://127.0.0.1:{receiver.port}/")
        assert receiver.requests == []


def test_a_receiver_can_verify_what_it_gets() -> None:
    with Receiver() as receiver:
        post(Webhooks(SECRET, now_s=lambda: NOW_S), f"http://user:pw@127.0.0.1:{receiver.port}/hook?a=1")
        (got,) = receiver.requests
    assert got.path == "/hook?a=1"
    assert got.headers["webhook-id"] == NOTICE.id
    assert got.headers["webhook-timestamp"] == "1790000000"
    assert got.headers["webhook-signature"] == sign(secret_key(SECRET), NOTICE.id, 1_790_000_000, got.body)
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    body = json.loads(got.body)
    assert body["type"] == "alert.leak"
    assert body["data"]["done"] == ["tenant acme is suspended"]
    assert body["data"]["id"] == ALERT.id


@pytest.mark.parametrize(("status", "error"), [(500, OSError), (302, OSError), (429, OSError), (410, Refused)])
def test_what_is_no_success_is_tried_again_and_410_is_the_end(status: int, error: type[Exception]) -> None:
    with Receiver(lambda _n: status) as receiver, pytest.raises(error, match=str(status)):
        post(Webhooks(SECRET), f"http://127.0.0.1:{receiver.port}/secret-path")


def test_nobody_there_is_one_line_without_the_path() -> None:
    with Receiver() as receiver:
        port = receiver.port
    with pytest.raises(OSError, match=r"127\.0\.0\.1") as caught:
        post(Webhooks(SECRET), f"http://127.0.0.1:{port}/secret-path")
    assert "secret-path" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["10.0.0.5", "127.0.0.1", "192.168.1.1", "::1", "fd00::1", "::ffff:10.0.0.1", "100.64.0.1"]
)
def test_a_name_that_points_inside_is_refused_unless_that_is_meant(address: str) -> None:
    with pytest.raises(PermissionError, match="TOLLHOUSE_ALLOW_LOCAL_SINKS"):
        post(Webhooks(SECRET, resolve=lambda _h, _p: [address]), "https://hooks.example/")
    assert unsafe(address, named="hooks.example", allow_local=True) == ""


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::ffff:169.254.169.254"])
def test_no_setting_opens_link_local_and_the_like(address: str) -> None:
    assert unsafe(address, named=address, allow_local=True)


def test_one_bad_address_among_good_ones_is_enough() -> None:
    with pytest.raises(PermissionError, match=r"10\.0\.0\.1"):
        post(Webhooks(SECRET, resolve=lambda _h, _p: ["8.8.8.8", "10.0.0.1"]), "https://hooks.example/")


def test_apprise_gets_title_text_and_picture() -> None:
    picture = b"\x89PNG made up"
    with Receiver() as receiver:
        sinks = Sinks(Webhooks(""), plot=lambda _a: picture, cost=lambda _a: "It costs 3 USD.")
        sinks(f"json://127.0.0.1:{receiver.port}/alerts", NOTICE)
        (got,) = receiver.requests
    assert got.json["title"] == "[page] leak: acme/pool-1"
    assert "It costs 3 USD." in got.json["message"]
    assert base64.b64encode(picture).decode() in got.body.decode()


def test_the_text_says_what_was_done_and_what_to_do() -> None:
    text = notice_text(NOTICE, "It costs 3 USD.", "https://tollhouse.example/")
    assert text.splitlines()[:3] == ["it is used elsewhere", "It costs 3 USD.", "Done: tenant acme is suspended."]
    assert "tollhouse alerts ack leak:acme/pool-1/1 --feedback expected" in text
    assert "https://tollhouse.example/" in text
