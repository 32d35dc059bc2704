"""The whole HTTP and API suites once more, over the DPDK port: tests and their clients in one network namespace,
servers in another. Without the privileges for that it fails."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.dataplane.namespaces import pair

TOP = Path(__file__).resolve().parents[2]
TESTS_MIN = 150                  # what the suites have at least: fewer means that they were not run


def test_http_and_api_over_dpdk() -> None:
    with pair("s") as network:
        done = subprocess.run(
            network.inside(network.client, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                           "--color=no", "tests/http", "tests/api"),
            cwd=TOP, env=os.environ | {"CN_TRANSPORT": "dpdk", "CN_SERVER_NAMESPACE": network.server},
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, done.stdout[-12000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= TESTS_MIN, done.stdout[-2000:]
