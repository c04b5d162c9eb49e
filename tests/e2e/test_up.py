"""`countersign up` as its users meet it: one line, one file, two curl lines, one Ctrl-C."""

import re
import shlex
import stat
import subprocess
from pathlib import Path

import httpx2
import psutil
import pytest
from sqlalchemy import create_engine

from tests.support import stores
from tests.support.builders import HMAC_KEY, a_webhook
from tests.support.instance import (
    RunningInstance,
    eventually,
    is_running,
    running_instance,
)

PROMISED_KEYS = {
    "merchant_account",
    "hmac_key",
    "api_key",
    "operator_key",
    "url",
    "simulator_url",
}


def _messages(instance: RunningInstance) -> str:
    return (instance.home.parent / "messages").read_text()


def test_up_serves_tells_and_leaves_nothing_running() -> None:
    with running_instance() as instance:
        assert instance.ready_line.strip() == f"ready {instance.demo['url']}/console/"
        assert set(instance.demo) == PROMISED_KEYS
        assert stat.S_IMODE((instance.home / "demo.json").stat().st_mode) == 0o600
        everything = psutil.Process(instance.process.pid).children(recursive=True)
        curls = [line for line in _messages(instance).splitlines() if line.startswith("curl ")]
        answers = [
            subprocess.run(shlex.split(line), capture_output=True, text=True, check=True).stdout
            for line in curls
        ]

        assert len(answers) == 2
        assert all('"state": "fin"' in a or '"state":"fin"' in a for a in answers), answers

        postmaster = int((instance.home / "postgres/postmaster.pid").read_text().split()[0])
        everything.append(psutil.Process(postmaster))
        code = instance.stop()

        assert code == 0
        assert not [process for process in everything if is_running(process)]


def test_two_instances_run_side_by_side_and_a_second_start_keeps_what_was_stored() -> None:
    with stores.short_folder() as folder, running_instance(home=folder / "one") as one:
        with running_instance() as other:
            assert one.start_payment("ORDER-1", wait=20).status_code == 201
            assert other.start_payment("ORDER-1", wait=20).status_code == 201
        before = dict(one.demo)
        one.stop()

        with running_instance(home=folder / "one") as again:
            with again.api as api:
                [kept] = api.get("/payments").json()["items"]

            assert kept["merchant_reference"] == "ORDER-1"
            assert again.demo["api_key"] == before["api_key"]
            assert again.demo["hmac_key"] == before["hmac_key"]


def test_given_stores_are_used_instead_of_embedded_ones() -> None:
    with (
        stores.postgres() as database_url,
        stores.redis() as redis_url,
        running_instance({"DATABASE_URL": database_url, "REDIS_URL": redis_url}) as instance,
    ):
        assert instance.start_payment("ORDER-1", wait=20).status_code == 201

        assert not (instance.home / "postgres").exists()
        assert not (instance.home / "redis").exists()
        engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as connection:
            stored = connection.exec_driver_sql("SELECT count(*) FROM payments").scalar_one()
        engine.dispose()
        assert stored == 1


def test_a_home_in_use_and_a_port_in_use_are_named() -> None:
    with running_instance() as instance:
        same_home = instance.command("up", "--home", str(instance.home), "--port", "1")
        same_port = instance.command(
            "up", "--home", f"{instance.home}-2", "--port", str(instance.port)
        )

        assert (same_home.returncode, same_port.returncode) == (1, 1)
        assert "another `countersign up` is running in" in same_home.stderr
        assert f"port {instance.port}" in same_port.stderr


def test_kill_9_of_up_takes_its_processes_along_and_the_next_start_works() -> None:
    with stores.short_folder() as folder:
        with running_instance(home=folder / "home") as instance:
            children = psutil.Process(instance.process.pid).children(recursive=True)
            instance.process.kill()
            instance.process.wait()
            _gone, alive = psutil.wait_procs(children, timeout=30)

            assert [process.cmdline() for process in alive] == []

        with running_instance(home=folder / "home") as again:
            assert again.start_payment("ORDER-1", wait=20).status_code == 201


@pytest.mark.parametrize("sent", ["webhook", "item"])
def test_webhook_send_signs_and_posts(sent: str, tmp_path: Path) -> None:
    item = {
        "pspReference": "8816178914079738",
        "merchantAccountCode": "CountersignECOM",
        "merchantReference": "ORDER-9",
        "amount": {"value": 100, "currency": "EUR"},
        "eventCode": "REPORT_AVAILABLE",
        "success": "true",
    }
    envelope = {"live": "false", "notificationItems": [{"NotificationRequestItem": item}]}
    file = tmp_path / "webhook.json"
    file.write_text(
        httpx2.Request("POST", "http://x", json=item if sent == "item" else envelope)
        .read()
        .decode()
    )
    with running_instance() as instance:
        command = instance.command("webhook", "send", str(file))

        assert command.stdout == "200 [accepted]\n", command.stderr
        listed = instance.command("inbox", "list", "--json")
        assert re.search(r'"event_code": "REPORT_AVAILABLE"', listed.stdout)


def test_a_changed_byte_gets_401_from_the_running_service() -> None:
    with running_instance() as instance:
        url = f"{instance.demo['url']}/webhooks/adyen"
        key = bytes.fromhex(instance.demo["hmac_key"])
        signed = a_webhook(key=key)

        right = httpx2.post(url, content=signed)
        changed = httpx2.post(url, content=signed.replace(b"12500", b"12501"))
        foreign = httpx2.post(url, content=a_webhook(key=HMAC_KEY))

        assert (right.status_code, right.text) == (200, "[accepted]")
        assert (changed.status_code, changed.json()["code"]) == (401, "invalid_signature")
        assert foreign.status_code == 401
        eventually(lambda: instance.command("inbox", "list", "--state", "parked").stdout)
