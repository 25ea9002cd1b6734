"""What every request passes: key, id, deadline, limits, log."""

import json
from base64 import b64encode
from time import monotonic, sleep
from urllib.parse import quote

import pytest

KEY = "a-key-of-some-length"
OPEN = ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready")
CLOSED = ("/", "/docs", "/openapi.json", "/metrics", "/v1/gallery", "/v1/items/a", "/v2", "/v2/models/m", "/nowhere")


@pytest.fixture(scope="module")
def locked(model, tmp_path_factory):
    from tests.serve.conftest import started

    path = tmp_path_factory.mktemp("key") / "key.txt"
    path.write_text(KEY + "\n")
    server = started([str(model), "--port", "0", "--threads", "1", "--api-key-file", str(path)])
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("path", CLOSED)
def test_everything_needs_the_key(locked, path) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer no"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Basic !!"},
        {"Authorization": f"Digest {KEY}"},
        {"X-API-Key": ""},
        {"X-API-Key": KEY[:-1]},
    ):
        answer = locked.ask("GET", path, headers=headers)
        assert (answer.status, answer.json()["name"]) == (401, "UnauthorizedError"), headers
        assert "Basic" in answer.headers["www-authenticate"]


@pytest.mark.parametrize("path", OPEN)
def test_but_health(locked, path) -> None:
    assert locked.ask("GET", path).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer {KEY}"},
        {"X-API-Key": KEY},
        {"Authorization": f"Basic {b64encode(b'me:' + KEY.encode()).decode()}"},
    ],
)
def test_with_the_key(locked, photo, headers) -> None:
    assert locked.ask("GET", "/", headers=headers).status == 200
    assert locked.ask("POST", "/v1/predict", photo, headers | {"Content-Type": "image/jpeg"}).status == 200


def test_posting_without_the_key_runs_nothing(locked, photo) -> None:
    headers = {"X-Request-Id": "without-key", "Content-Type": "image/jpeg"}
    assert locked.ask("POST", "/v1/predict", photo, headers).status == 401
    until = monotonic() + 20  # the line is written after the answer, and read by another thread
    while not (logged := [line for line in list(locked.lines) if line.get("request_id") == "without-key"]):
        assert monotonic() < until
        sleep(0.01)
    assert [line["bytes"] for line in logged] == [0]


def test_the_request_id_is_the_clients_or_a_new_one(server) -> None:
    assert (
        server.ask("GET", "/health/live", headers={"X-Request-Id": "a.b:c_d-1"}).headers["x-request-id"] == "a.b:c_d-1"
    )
    for bad in ("", "a b", "é", "x" * 129, 'a"b', "a;b"):
        answered = server.ask("GET", "/health/live", headers={"X-Request-Id": bad.encode()}).headers["x-request-id"]
        assert answered != bad
        assert len(answered) == 32


def test_a_deadline_that_has_passed(server, big_photo) -> None:
    answer = server.post("/v1/predict", big_photo, X_Deadline_Ms="1")
    assert (answer.status, answer.json()["name"]) == (504, "DeadlineExceededError")
    assert server.post("/v1/predict", big_photo, X_Deadline_Ms="50000").status == 200


@pytest.mark.parametrize("text", ["soon", "-1", "1e9", "nan", "99999999", "", "1.", "٣"])
def test_a_deadline_that_is_none(server, photo, text) -> None:
    answer = server.ask("POST", "/v1/predict", photo, {"X-Deadline-Ms": text.encode(), "Content-Type": "image/jpeg"})
    assert (answer.status, answer.json()["name"]) == (400, "UsageError")


def test_what_would_wait_too_long_is_refused_and_counted(start, big_photo) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server = start("--max-wait-ms", "0")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.post("/v1/predict", big_photo), range(64)))
    refused = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} == {200, 503}
    for answer in refused:
        assert answer.json()["name"] == "OverloadedError"
        assert int(answer.headers["retry-after"]) >= 1
    assert server.metric('fashion_infer_failures_total{error="OverloadedError"}') == len(refused)
    ok = server.metric('fashion_infer_requests_total{route="/v1/predict",status="200"}')
    assert ok == len(answers) - len(refused)
    assert server.metric("fashion_infer_pending_images") == 0


def test_metrics_say_why_batches_left(server, photo) -> None:
    before = server.metric("fashion_infer_inferences_total")
    assert server.post("/v1/predict?boxes=[[0,0,99,99],[0,0,50,50],[9,9,60,60]]", photo).status == 200
    assert server.metric("fashion_infer_inferences_total") == before + 3
    batches = sum(server.metric(f'fashion_infer_executions_total{{reason="{r}"}}') for r in ("full", "delay", "idle"))
    assert (
        batches
        == server.metric('fashion_infer_batch_size_bucket{le="+Inf"}')
        == server.metric("fashion_infer_batch_size_count")
    )
    assert server.metric('fashion_infer_stage_seconds_count{stage="queue"}') > 0


def test_another_sites_page_cannot_write(server, photo) -> None:
    for origin, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert server.post("/v1/predict", photo, Sec_Fetch_Site=origin).status == status
    assert server.ask("GET", "/health/live", headers={"Sec-Fetch-Site": "cross-site"}).status == 200


def test_one_json_line_a_request(server, photo) -> None:
    for path, id in (("/v1/predict", "line-1"), ("/v1/" + quote('"\n\\'), "line-2")):
        server.post(path, photo, X_Request_Id=id)
    server.ask("GET", "/metrics")
    for _ in range(1000):
        entries = {
            line["request_id"]: line for line in list(server.lines) if line.get("request_id", "").startswith("line-")
        }
        if len(entries) == 2:
            break
        server.ask("GET", "/health/live")
    good, bad = entries["line-1"], entries["line-2"]
    assert (good["method"], good["path"], good["status"], good["error"]) == ("POST", "/v1/predict", 200, None)
    assert good["bytes"] == len(photo)
    assert good["ms"] > 0
    assert (bad["path"], bad["status"], bad["error"]) == ('/v1/"\n\\', 404, "HTTPError")


def test_a_wrong_method_is_a_problem(server) -> None:
    answer = server.ask("GET", "/v1/predict")
    assert (answer.status, answer.json()["status"]) == (405, 405)
    assert answer.headers["allow"] == "POST"


def test_behind_a_proxy_with_a_prefix(start, photo) -> None:
    server = start("--root-path", "/fashion")
    for prefix in ("", "/fashion"):  # cut off by the proxy, or not
        assert server.post(f"{prefix}/v1/predict", photo).status == 200
        assert server.ask("GET", f"{prefix}/health/ready").status == 200
    assert json.loads(server.ask("GET", "/openapi.json").body)["servers"] == [{"url": "/fashion"}]
