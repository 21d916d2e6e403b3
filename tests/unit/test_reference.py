"""What docs/serve.md says is what the source says: `python -m tests.reference` writes it anew."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from jobyard.service import service_schema
from jobyard.service.settings import read_settings
from tests.reference import PAGE, written

TEXT = PAGE.read_text()


def test_every_key_and_every_metric_is_listed_as_it_is() -> None:
    assert written(TEXT) == TEXT, "run `python -m tests.reference`"


def test_the_schema_is_the_one_that_is_checked_in() -> None:
    file = PAGE.with_name("service.schema.json")
    assert json.loads(file.read_text()) == service_schema.json_schema(), "run `jobyard schema service > docs/service.schema.json`"


def test_settings_that_are_there_to_be_copied_are_good(tmp_path: Path) -> None:
    pages = TEXT + (PAGE.parents[1] / "README.md").read_text()
    found = [each for block in re.findall(r"```yaml\n(.*?)```", pages, re.DOTALL) for each in yaml.safe_load_all(block)]
    texts = [yaml.safe_dump(each) for each in found if each["apiVersion"] == "jobyard.dev/v1"]
    texts += [each["data"]["jobyard.yaml"] for each in found if each["kind"] == "ConfigMap"]
    assert len(texts) == 3
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text.replace("/secrets", str(tmp_path)))
        (tmp_path / "webhook").write_text("hush\n")
        settings, findings = read_settings(file, {"WEBHOOK_SECRET": "hush"})
        assert (settings is not None, findings) == (True, [])


def test_the_alerts_name_metrics_that_there_are() -> None:
    listed = set(re.findall(r"^\| `(jobyard_[a-z_]+)`", TEXT, re.MULTILINE))
    assert set(re.findall(r"jobyard_[a-z_]+", TEXT)) <= listed
