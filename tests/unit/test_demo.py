from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management.base import CommandError

from enrichment.management.commands import demo


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path


def make_database(data_dir: Path, people: int) -> None:
    with closing(sqlite3.connect(data_dir / "db.sqlite3")) as connection:
        connection.execute(f'CREATE TABLE "{get_user_model()._meta.db_table}" (id INTEGER)')
        connection.executemany(
            f'INSERT INTO "{get_user_model()._meta.db_table}" VALUES (?)', [(n,) for n in range(people)]
        )
        connection.commit()


def test_no_secret_of_the_terminal_reaches_a_process_of_the_demo(data_dir: Path) -> None:
    inherited = {
        "PATH": "/bin",
        "ICYPEAS_API_KEY": "s3cr3t",
        "ICYPEAS_KEY_PROD_CRM": "s3cr3t",
        "ICYPEAS_API_SECRET_FILE": "/run/s3cr3t",
        "FINGERPRINT_PEPPER": "s3cr3t",
        "AWS_SECRET_ACCESS_KEY": "s3cr3t",
        "VAULT_TOKEN": "s3cr3t",
    }

    environment = demo._base_environment(inherited, data_dir, 8000, 8100)

    assert [name for name, value in environment.items() if "s3cr3t" in value] == []
    assert environment["PATH"] == "/bin"


def test_demo_keeps_to_its_own_folder_and_sandbox_whatever_is_configured(data_dir: Path) -> None:
    inherited = {
        "DATABASE_URL": "postgres://prod/db",
        "CELERY_BROKER_URL": "redis://prod",
        "ICYPEAS_BASE_URL": "https://app.icypeas.com/api",
        "SECRETS_DIR": "/run/secrets",
    }

    environment = demo._base_environment(inherited, data_dir, 8000, 8111)

    assert environment["DATABASE_URL"] == f"sqlite:///{data_dir}/db.sqlite3"
    assert environment["CELERY_BROKER_URL"] == "embedded://"
    assert environment["ICYPEAS_BASE_URL"] == "http://127.0.0.1:8111/api"
    assert environment["SECRETS_DIR"].startswith(str(data_dir))


def test_only_the_worker_gets_the_secret_and_nobody_on_the_command_line(data_dir: Path) -> None:
    (data_dir / "run").mkdir()
    secret = demo._sandbox_secret(data_dir)
    base = demo._base_environment({}, data_dir, 8000, 8100)
    services = [
        demo._sandbox(base, data_dir, 8100),
        demo._worker(base, data_dir, secret),
        demo._scheduler(base, data_dir),
        demo._web(base, 8000),
    ]

    assert [one.name for one in services if secret in one.environment.values()] == ["worker"]
    assert [one.name for one in services if any(secret in word for word in one.command)] == []
    assert {one.name: one.environment.get("PROCESS_ROLE") for one in services} == {
        "sandbox": None,
        "worker": "worker",
        "scheduler": "scheduler",
        "web": "web",
    }


def test_secret_is_drawn_once_and_closed_to_others(data_dir: Path) -> None:
    first = demo._sandbox_secret(data_dir)

    second = demo._sandbox_secret(data_dir)

    assert first == second
    assert len(first) == 48
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data_dir.rglob("*")}
    assert modes == {"worker": 0o700, "secrets": 0o700, "sandbox": 0o600, "sandbox-accounts.json": 0o600}
    (account,) = json.loads((data_dir / "worker" / "sandbox-accounts.json").read_text())["accounts"]
    assert account["secret"] == first


def test_two_installations_draw_different_secrets(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    assert demo._sandbox_secret(tmp_path / "a") != demo._sandbox_secret(tmp_path / "b")


def test_taken_port_is_named_together_with_the_variable_and_a_free_one() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(CommandError) as web:
            demo._refuse_taken_ports(port, 1)
        with pytest.raises(CommandError) as sandbox:
            demo._refuse_taken_ports(demo._free_port_above(port), port)

    assert str(web.value).startswith(f"Port {port} is taken by another program")
    assert " PORT=" in str(web.value)
    assert " SANDBOX_PORT=" in str(sandbox.value)


def test_one_port_for_both_is_refused() -> None:
    with pytest.raises(CommandError, match="PORT and SANDBOX_PORT are both 8000"):
        demo._refuse_taken_ports(8000, 8000)


def test_second_demo_in_one_folder_is_refused_until_the_first_has_ended(data_dir: Path) -> None:
    first = demo._take_lock(data_dir)

    with pytest.raises(CommandError, match="A demo already runs"):
        demo._take_lock(data_dir)
    os.close(first)

    os.close(demo._take_lock(data_dir))


def test_demo_people_are_not_put_among_real_ones(data_dir: Path) -> None:
    make_database(data_dir, people=1)

    with pytest.raises(CommandError, match="holds an installation with people that the demo did not make"):
        demo._refuse_foreign_data(data_dir)


@pytest.mark.parametrize("state", [demo.STARTED, demo.SEEDED])
def test_data_of_an_earlier_demo_is_accepted(data_dir: Path, state: str) -> None:
    make_database(data_dir, people=3)
    demo._set_state(data_dir, state)

    demo._refuse_foreign_data(data_dir)

    assert demo._state(data_dir) == state


def test_database_without_people_is_accepted(data_dir: Path) -> None:
    make_database(data_dir, people=0)

    demo._refuse_foreign_data(data_dir)

    assert demo._state(data_dir) == ""


def test_reset_removes_what_the_demo_wrote_and_nothing_else(data_dir: Path) -> None:
    demo._set_state(data_dir, demo.SEEDED)
    demo._sandbox_secret(data_dir)
    (data_dir / "sandbox").mkdir()
    (data_dir / "db.sqlite3").touch()
    (data_dir / "holiday.jpg").touch()

    demo._clear(data_dir)

    assert [path.name for path in data_dir.iterdir()] == ["holiday.jpg"]


def test_reset_leaves_a_folder_alone_when_no_demo_was_ever_there(data_dir: Path) -> None:
    (data_dir / "db.sqlite3").touch()

    demo._clear(data_dir)

    assert (data_dir / "db.sqlite3").exists()


def test_welcome_shows_address_and_every_log_in() -> None:
    log_ins = [
        {"name": "Ada Lang", "email": "ada@northwind.example", "password": "p-one", "role": "operator"},
        {"name": "Bo Li", "email": "bo@northwind.example", "password": "p-two", "role": "key admin"},
    ]

    lines = demo._welcome(8000, 8100, log_ins).splitlines()

    assert any("http://127.0.0.1:8000/" in line for line in lines)
    assert "  operator    Ada Lang   ada@northwind.example   p-one" in lines
    assert "  key admin   Bo Li      bo@northwind.example    p-two" in [line.rstrip() for line in lines]
