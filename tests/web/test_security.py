"""Who may ask, and what a browser is told to allow."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.web.samples import connector, service
from tests.web.served import Site, served
from titans_stream.web.security import MOST_BODY, Access
from titans_stream.web.server import serve

TOKEN = "correct-horse-battery"
JSON = {"content-type": "application/json"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    with served(service(connector(tmp_path))) as running:
        yield running


def test_others_addresses_need_someone_to_say_who_may() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::", "plant.example"):
        with pytest.raises(ValueError, match="--token-file or --user-header"):
            Access(host)
        Access(host, token=TOKEN)
        Access(host, user_header="X-Forwarded-User")
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        Access(host)
    with pytest.raises(ValueError, match="16 characters"):
        Access(token="short")


def test_the_address_that_is_told_is_one_that_is_served(tmp_path: Path) -> None:
    """A name of this machine, not the address behind it; names know no case."""

    class ToldError(Exception):
        pass

    def ready(address: str) -> None:
        raise ToldError(address)

    one, access = service(connector(tmp_path)), Access("LocalHost", user_header="X-User")
    one.start = lambda: None  # type: ignore[method-assign]
    with pytest.raises(ToldError) as told:
        serve(one, access, 0, ready)
    host = urlsplit(str(told.value)).hostname
    assert host == "localhost" and access.knows_host(host)


def test_another_name_for_this_server_is_refused(site: Site) -> None:
    port = urlsplit(site.address).port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "", "[", "a@b"):
        answer = site.ask("GET", "/v1/status", headers={"host": host})
        assert answer.code == 421, host
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        assert site.ask("GET", "/v1/status", headers={"host": host}).code == 200
    with served(service(connector(Path())), Access(hosts=("plant.example",))) as named:
        assert named.ask("GET", "/healthz", headers={"host": "plant.example"}).code == 200


def test_writing_takes_json_from_this_very_page(site: Site) -> None:
    body = b'{"verdict": "expected"}'
    path = "/v1/alerts/none/verdict"
    assert site.ask("POST", path, body).code == 404, "taken, and unknown"
    own = {**JSON, "origin": site.address, "sec-fetch-site": "same-origin"}
    assert site.ask("POST", path, body, own).code == 404
    for headers, code in (
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-length": str(MOST_BODY + 1)}, 413),
    ):
        assert site.ask("POST", path, body, {**JSON, **headers}).code == code, headers


def test_every_answer_has_the_policy(site: Site) -> None:
    for path in ("/", "/v1/status", "/static/app.js", "/none", "/openapi.json"):
        headers = site.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    assert site.get("/v1/status").headers["cache-control"] == "no-store"


def test_a_token_opens_the_page_and_the_api(tmp_path: Path) -> None:
    with served(service(connector(tmp_path)), Access(token=TOKEN)) as site:
        for path in ("/", "/v1/status", "/openapi.json", "/v1/events"):
            assert site.get(path).code == 401, path
        browser = {"accept": "text/html,*/*;q=0.8"}
        led = site.ask("GET", "/series?q=a&q=%2F", headers=browser)
        assert led.code == 303
        assert led.headers["location"] == "/login?back=%2Fseries%3Fq%3Da%26q%3D%252F"
        assert site.ask("GET", "/v1/status", headers=browser).code == 401
        for path in ("/login", "/healthz", "/static/login.js"):
            assert site.get(path).code == 200, path
        for given, code in ((TOKEN, 200), ("wrong", 401), ("", 401)):
            answer = site.ask("GET", "/v1/status", headers={"authorization": f"Bearer {given}"})
            assert answer.code == code
        assert site.post("/login", {"token": "wrong"}).code == 403
        answer = site.post("/login", {"token": TOKEN})
        cookie = answer.headers["set-cookie"]
        assert answer.code == 200 and TOKEN not in cookie
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        kept = cookie.partition(";")[0]
        assert site.ask("GET", "/v1/status", headers={"cookie": kept}).code == 200
        name = kept.partition("=")[0]
        for other in ("x", '"\\351"'):
            wrong = {"cookie": f"{name}={other}"}
            assert site.ask("GET", "/v1/status", headers=wrong).code == 401, other
    with served(service(connector(tmp_path)), Access(token=TOKEN)) as site:
        old = site.ask("GET", "/v1/status", headers={"cookie": kept})
        assert old.code == 401, "sessions end with the process"


def test_a_proxy_says_who_asks(tmp_path: Path) -> None:
    access = Access(user_header="x-forwarded-user")
    with served(service(connector(tmp_path)), access) as site:
        assert site.get("/v1/status").code == 401
        assert site.ask("GET", "/", headers={"accept": "text/html"}).code == 401, "no way to log in"
        assert site.ask("GET", "/v1/status", headers={"X-Forwarded-User": "ada"}).code == 200
    elsewhere = Access(user_header="x-forwarded-user", proxies=("192.0.2.1",))
    with served(service(connector(tmp_path)), elsewhere) as site:
        answer = site.ask("GET", "/v1/status", headers={"X-Forwarded-User": "ada"})
        assert answer.code == 401, "anybody can send a header"
