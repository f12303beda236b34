from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from config import celery as config_celery

EXPECTED = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "worker_cancel_long_running_tasks_on_connection_loss": True,
    "broker_connection_retry_on_startup": True,
    "worker_prefetch_multiplier": 1,
    "task_soft_time_limit": 60,
    "task_time_limit": 75,
    "worker_soft_shutdown_timeout": 30,
    "worker_max_tasks_per_child": 200,
    "worker_max_memory_per_child": 300_000,
    "accept_content": ["json"],
    "task_serializer": "json",
    "worker_send_task_events": False,
    "worker_hijack_root_logger": False,
    "worker_enable_remote_control": False,
    "task_create_missing_queues": False,
    "result_backend": None,
}


def settings_for(broker_url: str, data_dir: Path = Path("/data"), sweep_s: float = 10.0) -> dict[str, Any]:
    return config_celery.celery_settings(broker_url=broker_url, data_dir=data_dir, sweep_s=sweep_s)


@pytest.mark.parametrize(("name", "value"), EXPECTED.items())
def test_app_setting_has_its_value_after_loading(name: str, value: object) -> None:
    assert config_celery.app.conf[name] == value


def test_every_setting_is_one_that_celery_knows() -> None:
    known = set(Celery("fresh", set_as_current=False).conf)

    unknown = set(settings_for("embedded://")) - known

    assert unknown == {"visibility_timeout"}  # read by workers on Redis, though it is in no table of Celery's


def test_redis_gives_running_tasks_the_same_time_in_all_three_places() -> None:
    settings = settings_for("redis://127.0.0.1:6379/0")

    options = settings["broker_transport_options"]
    assert options["visibility_timeout"] == 600
    assert settings["visibility_timeout"] == 600
    assert settings["result_backend_transport_options"]["visibility_timeout"] == 600
    assert options["unacked_restore_interval"] == 10
    assert options["unacked_restore_throttle"] == 1


@pytest.mark.parametrize(
    "url", ["amqp://guest@localhost//", "amqps://guest@localhost//", "pyamqp://localhost//"]
)
def test_amqp_confirms_what_is_published_and_beats(url: str) -> None:
    settings = settings_for(url)

    assert settings["broker_transport_options"] == {"confirm_publish": True}
    assert settings["broker_heartbeat"] == 30


def test_embedded_broker_keeps_its_folders_together_under_the_data_folder() -> None:
    options = settings_for("embedded://", data_dir=Path("/data"))["broker_transport_options"]

    folders = {name: value for name, value in options.items() if "folder" in name}
    assert set(folders) == {"data_folder_in", "data_folder_out", "processed_folder", "control_folder"}
    assert all(value.startswith("/data/broker/") for value in folders.values())
    assert options["store_processed"] is True


def test_clocks_are_ordered_so_that_no_running_task_is_handed_out_twice() -> None:
    settings = settings_for("redis://127.0.0.1")

    slice_s = 45
    assert (
        slice_s
        < settings["task_soft_time_limit"]
        < settings["task_time_limit"]
        < settings["visibility_timeout"]
    )


def test_two_queues_are_declared_and_work_is_the_default() -> None:
    settings = settings_for("embedded://")

    assert [queue.name for queue in settings["task_queues"]] == ["urgent", "work"]
    assert settings["task_default_queue"] == "work"


def test_periodic_work_is_urgent_and_expires_within_its_own_period() -> None:
    schedule = config_celery.beat_schedule(sweep_s=10.0)

    assert {entry["task"]: entry["schedule"] for entry in schedule.values()} == {
        "enrichment.tasks.sweep_due": 10.0,
    }
    assert all(
        entry["options"] == {"queue": "urgent", "expires": entry["schedule"]} for entry in schedule.values()
    )


def test_ready_file_appears_only_where_a_supervisor_named_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("READY_FILE", raising=False)
    config_celery.tell_ready()
    monkeypatch.setenv("READY_FILE", str(tmp_path / "ready"))

    config_celery.tell_ready()

    assert [path.name for path in tmp_path.iterdir()] == ["ready"]
