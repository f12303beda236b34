"""Which processes may have a provider secret in their environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLANTED = "planted-5b1e-secret"


def start(module: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Import a module in a process of its own, as a server would."""
    return subprocess.run(
        [sys.executable, "-c", f"import {module}; print('started')"],
        cwd=ROOT,
        env={
            "PATH": os.environ.get("PATH", ""),
            "DJANGO_SETTINGS_MODULE": "config.settings.local",
            "DATA_DIR": str(folder),
            "ICYPEAS_BASE_URL": "http://127.0.0.1:9/api",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "name",
    [
        "ICYPEAS_API_KEY",
        "ICYPEAS_KEY_PROD_CRM",
        "ICYPEAS_KEY_PROD_CRM_FILE",
        "ICYPEAS_API_SECRET",
        "ICYPEAS_API_OTHER",
        "VAULT_TOKEN",
        "VAULT_TOKEN_FILE",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    ],
)
def test_web_process_refuses_to_start_with_a_provider_secret(tmp_path: Path, name: str) -> None:
    ended = start("config.wsgi", tmp_path, {name: PLANTED})

    assert ended.returncode != 0
    assert name in ended.stderr
    assert PLANTED not in ended.stderr + ended.stdout


def test_web_process_starts_without_a_provider_secret(tmp_path: Path) -> None:
    ended = start("config.wsgi", tmp_path, {"ICYPEAS_API_KEY": ""})

    assert (ended.returncode, ended.stdout.strip()) == (0, "started"), ended.stderr


def test_worker_process_starts_with_a_provider_secret(tmp_path: Path) -> None:
    ended = start("config.celery", tmp_path, {"ICYPEAS_API_KEY": PLANTED, "PROCESS_ROLE": "worker"})

    assert ended.returncode == 0, ended.stderr
    assert PLANTED not in ended.stderr + ended.stdout
