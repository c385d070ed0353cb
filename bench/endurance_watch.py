"""A real Prometheus over processes of a run, with the shipped rules in a smaller time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final

import yaml

from tests import services
from tollhouse.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[1]
RULES: Final = ROOT / "deploy" / "prometheus" / "rules.yml"
sys.path.append(str(ROOT / "scripts"))  # how the tests' own Kafka and PostgreSQL are started is written there
UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def smaller(text: str, scale: float) -> str:
    """The rules with every `for` and every window divided by scale: a fault of seconds stands for one of minutes."""

    def divided(found: re.Match[str]) -> str:
        return f"{max(1_000, round(int(found[1]) * UNITS_MS[found[2]] / scale))}ms"

    def shrunk(words: str) -> str:
        return re.sub(r"(\d+)([smhd])", divided, words)

    document = yaml.safe_load(text)
    for group in document["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = shrunk(rule["for"])
            rule["expr"] = re.sub(r"\[[^\]]+\]", lambda window: shrunk(window[0]), rule["expr"])
    return yaml.safe_dump(document)


class Prometheus:
    """One server for the length of a run. targets: job to ports. Evaluates every second."""

    def __init__(self, folder: Path, targets: dict[str, list[int]], scale: float) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            for job, ports in targets.items()
        ]
        # The API takes three seconds to say that a database hangs, and that is to be seen.
        times = {"scrape_interval": "4s", "scrape_timeout": "4s", "evaluation_interval": "1s"}
        config = {"global": times, "rule_files": ["rules.yml"], "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        (folder / "rules.yml").write_text(smaller(RULES.read_text(encoding="utf-8"), scale))
        program = Path(services.require(services.PROMETHEUS)) / "prometheus"
        command = [
            str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def ask(self, query: str, at_s: float | None = None) -> list[dict[str, Any]]:
        """Series of an instant query, now or at an instant of the past; [] before it answers."""
        words = {"query": query} | ({} if at_s is None else {"time": f"{at_s:.3f}"})
        try:
            url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode(words)}"
            with urllib.request.urlopen(url, timeout=30) as answer:
                found: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
                return found
        except OSError:
            return []

    def fired(self, from_s: float, to_s: float) -> set[str]:
        """Names of the alerts that fired at any time between two instants (seconds of the wall clock)."""
        window = f"{max(1, round(to_s - from_s))}s"
        found = self.ask(f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{window}]))', to_s)
        return {one["metric"]["alertname"] for one in found}

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(30)
