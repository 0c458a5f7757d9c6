"""The image, the compose file, the workflow and the boards are valid, closed to the outside, and name what exists."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from finagent.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BOARD = ROOT / "dashboards" / "grafana" / "finagent.json"
ALERTS = ROOT / "dashboards" / "prometheus" / "alerts.yml"
METRIC = re.compile(r"\bfinagent_[a-z_]+")


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def compose() -> dict[str, Any]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(document, dict)
    return document


def test_hadolint_finds_nothing_in_the_dockerfile(tmp_path: Path) -> None:
    result = command(BIN / "hadolint", "--no-color", "Dockerfile")
    assert result.returncode == 0, result.stdout

    careless = tmp_path / "Dockerfile"
    careless.write_text("FROM python:latest\nRUN cd /tmp && apt-get install curl\n")
    assert command(BIN / "hadolint", careless).returncode != 0


@pytest.mark.parametrize(
    ("schema", "path"),
    [("vendor.compose-spec", "docker-compose.yml"), ("vendor.github-workflows", ".github/workflows/ci.yml")],
)
def test_the_yaml_follows_its_schema(schema: str, path: str, tmp_path: Path) -> None:
    result = command(BIN / "check-jsonschema", "--builtin-schema", schema, path)
    assert result.returncode == 0, result.stdout

    misspelt = tmp_path / "misspelt.yml"
    misspelt.write_text(re.sub(r"^(services|jobs):", "serviecs:", (ROOT / path).read_text(), flags=re.MULTILINE))
    assert command(BIN / "check-jsonschema", "--builtin-schema", schema, misspelt).returncode != 0


def test_no_port_is_published_beyond_this_machine() -> None:
    ports = {name: service.get("ports", []) for name, service in compose()["services"].items()}

    assert all(ports.values()), "a service without a published port would make this test say nothing"
    assert [(name, port) for name, mapped in ports.items() for port in mapped if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("service", ["app", "prometheus", "grafana"])
def test_each_service_is_hardened(service: str) -> None:
    described = compose()["services"][service]

    assert described["read_only"] is True
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert described["init"] is True
    assert "privileged" not in described


def test_the_agent_has_longer_to_stop_than_it_needs() -> None:
    assert int(compose()["services"]["app"]["stop_grace_period"].removesuffix("s")) > 20


def test_no_secret_is_written_down() -> None:
    word = re.compile(r"(password|secret|token|api_?key)\w*\s*[:=]\s*['\"]?[\w-]{4,}", re.IGNORECASE)
    files = ["Dockerfile", "docker-compose.yml", ".github/workflows/ci.yml", ".ci/image", "Makefile"]

    assert [name for name in files if word.search((ROOT / name).read_text())] == []


def test_the_image_runs_as_nobody_we_know() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()

    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert lines.index("USER 10001:10001") < next(number for number, line in enumerate(lines) if line.startswith("ENTRYPOINT"))


def test_only_what_the_image_copies_is_sent_to_the_builder() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}

    assert {word for words in copied for word in words.split()} == allowed


def board_expressions() -> list[str]:
    panels = json.loads(BOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_panels_do_not_overlap_and_have_their_own_ids() -> None:
    panels = json.loads(BOARD.read_text())["panels"]
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for cell in [
            (x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
        ]:
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]

    assert len({panel["id"] for panel in panels}) == len(panels)


def test_each_alert_leads_to_a_runbook_that_exists() -> None:
    missing = [rule["alert"] for rule in alert_rules() if not (ROOT / rule["annotations"]["runbook"]).is_file()]

    assert missing == []


def test_boards_and_alerts_name_metrics_that_the_agent_has() -> None:
    families = list(Metrics().registry.collect())
    counters = {f"{family.name}_total" for family in families if family.type == "counter"}
    histograms = {
        f"{family.name}_{part}" for family in families if family.type == "histogram" for part in ("bucket", "sum", "count")
    }
    known = counters | histograms | {family.name for family in families if family.type == "gauge"}
    used = {name for text in [*board_expressions(), *(rule["expr"] for rule in alert_rules())] for name in METRIC.findall(text)}

    assert len(used) > 15
    assert used - known == set()


def test_alert_rules_fire_when_they_should() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    folder = ROOT / "dashboards" / "prometheus"
    for words in (("check", "config", folder / "prometheus.yml"), ("test", "rules", folder / "alerts_test.yml")):
        result = command(promtool, *words)
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_queries_of_the_board_are_promql(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    rules = [{"record": f"board:{number}", "expr": expr} for number, expr in enumerate(board_expressions())]
    path = tmp_path / "board.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    result = command(promtool, "check", "rules", path)

    assert len(rules) > 15
    assert result.returncode == 0, result.stdout + result.stderr
