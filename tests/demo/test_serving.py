from functools import partial
from importlib.metadata import version

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AuthenticationError
from starlette.requests import Request

from difface_diffusers.demo import build_demo, launch, serving
from tests.conftest import free_port

from .conftest import PHOTOGRAPH, pixels


pytestmark = pytest.mark.filterwarnings("ignore:::gradio.queueing")

CALL = "gradio_api/call/restore"
BODY = {"data": []}  # counted, and then refused by Gradio


@pytest.fixture(scope="module")
def serve(restorer, inpainter, cache):
    """Serves the demo; returns a client of its address."""
    demos, clients = [], []

    def serve(**options):
        demos.append(build_demo(restorer, inpainter))
        address = launch(demos[-1], port=free_port(), block=False, **options)
        clients.append(httpx.Client(base_url=address, timeout=60))
        return clients[-1]

    yield serve
    for client in clients:
        client.close()
    for demo in demos:
        demo.close()


@pytest.fixture(scope="module")
def api_only(serve):
    return serve(api_only=True)


@pytest.fixture(scope="module")
def guarded(serve):
    return serve(token="open:sesame")


@pytest.fixture
def no_time(monkeypatch):
    """Lets no time pass for limits."""
    monkeypatch.setattr(serving, "CallLimit", partial(serving.CallLimit, clock=lambda: 0))


@pytest.mark.parametrize("options", [{}, {"api_only": True}, {"token": "a"}], ids=["page", "api_only", "token"])
def test_its_health_can_always_be_asked(serve, options):
    answer = serve(**options).get("health")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "version": version("difface-diffusers")}


def test_unless_asked_the_page_is_served_without_limit_and_token(serve):
    client = serve()
    page = client.get("")
    assert page.status_code == 200 and "gradio_config" in page.text
    assert all(client.post(CALL, json=BODY).status_code == 200 for _ in range(3))


def test_programs_alone_see_no_page(api_only):
    answer = api_only.get("")
    assert answer.json()["endpoints"] == ["/restore", "/inpaint", "/restore_video"]
    assert api_only.get(answer.json()["info"]).json()["named_endpoints"].keys() == set(answer.json()["endpoints"])
    assert api_only.head("").status_code == 200
    for path in (
        "login",
        "theme.css",
        "assets/index.js",
        "static/img/logo.svg",
        "robots.txt",
        "manifest.json",
        "restore",
    ):
        refused = api_only.get(path)
        assert refused.status_code == 404
        assert refused.json() == {"detail": "Only programs are served here; / says what there is."}
    assert api_only.get("gradio_api/runs").status_code == 404


def test_programs_alone_are_served_as_with_the_page(api_only, address, tmp_path):
    answers = [
        Client(str(url), verbose=False, download_files=tmp_path).predict(
            photo=handle_file(PHOTOGRAPH), seed=3, api_name="/restore"
        )
        for url in (api_only.base_url, address)
    ]
    assert (pixels(answers[0]) == pixels(answers[1])).all()


def test_no_call_passes_the_queue_by(api_only):
    assert api_only.post("gradio_api/run/restore", json=BODY).status_code == 404


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer open", "Bearer open:sesame!", "Basic open:sesame", "open:sesame"]
)
def test_without_the_token_nothing_is_answered(guarded, header):
    headers = {} if header is None else {"Authorization": header}
    for method, path in [
        ("GET", ""),
        ("GET", "config"),
        ("GET", "gradio_api/info"),
        ("POST", CALL),
        ("GET", "nothing"),
    ]:
        refused = guarded.request(method, path, headers=headers)
        assert refused.status_code == 401 and refused.headers["WWW-Authenticate"] == "Bearer"
        assert refused.json() == {"detail": "A token is needed here: Authorization: Bearer TOKEN."}


def test_with_the_token_programs_are_served(guarded, tmp_path):
    headers = {"Authorization": "bearer open:sesame"}
    assert guarded.get("", headers=headers).json()["endpoints"]  # no page
    with pytest.raises(AuthenticationError):
        Client(str(guarded.base_url), verbose=False)
    client = Client(str(guarded.base_url), verbose=False, download_files=tmp_path, headers=headers)
    assert pixels(client.predict(photo=handle_file(PHOTOGRAPH), api_name="/restore")).shape == (640, 640, 3)


def test_too_many_calls_are_refused_until_one_is_free(serve, no_time):
    client = serve(calls_per_minute=3)
    assert client.post("gradio_api/upload", files={"files": ("a.png", PHOTOGRAPH.read_bytes())}).status_code == 200
    assert client.post(CALL, json=BODY).status_code == 200
    assert client.post("gradio_api/queue/join", json={"data": [], "fn_index": 0}).status_code != 429
    for path in (CALL, f"{CALL}/", "gradio_api/call/v2/inpaint", "gradio_api/queue/join", "gradio_api/upload"):
        refused = client.post(path, json=BODY)
        assert refused.status_code == 429 and refused.headers["Retry-After"] == "20"
        assert refused.json() == {"detail": "That is more than 3 calls and uploads in a minute; try again in 20 s."}
    for path in ("", "config", "gradio_api/info", "gradio_api/queue/status", f"gradio_api/file={PHOTOGRAPH}"):
        assert client.get(path).status_code != 429  # these cost nothing
    assert client.post("gradio_api/cancel", json={}).status_code != 429


def test_visitors_of_a_trusted_proxy_have_calls_of_their_own(serve, no_time, monkeypatch):
    def refused(client):
        visitors = [{"X-Forwarded-For": address} for address in ("203.0.113.1", "203.0.113.2", "203.0.113.1")]
        return [client.post(CALL, json=BODY, headers=visitor).status_code == 429 for visitor in visitors]

    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    assert refused(serve(calls_per_minute=1)) == [False, False, True]
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "203.0.113.9")
    assert refused(serve(calls_per_minute=1)) == [False, True, True]


@pytest.mark.parametrize(
    ("client", "visitor"),
    [
        (("192.0.2.7", 5000), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 5000), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 5000), "::ffff:192.0.2.7"),
        (("unknown", 0), "unknown"),
        (None, ""),
    ],
)
def test_who_a_visitor_is(client, visitor):
    assert serving.visitor_of(Request({"type": "http", "client": client})) == visitor
