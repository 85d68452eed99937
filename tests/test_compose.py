"""The container of docker/compose.yml is as closed as the local server."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from cntgraph.database import releases
from cntgraph.database import settings as local_settings

FOLDER = Path(__file__).parent.parent / "docker"

DURATION = {"type": "string", "pattern": r"^([0-9]+(h|m|s|ms))+$"}
TEXT = {"type": "string", "minLength": 1}

# the part of the compose specification that the file uses, and no more
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services", "volumes"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["image"],
                "properties": {
                    "image": TEXT,
                    "profiles": {"type": "array", "items": TEXT},
                    "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
                    "ports": {"type": "array", "items": TEXT},
                    "environment": {"type": "object", "additionalProperties": TEXT},
                    "volumes": {"type": "array", "items": TEXT},
                    "stop_grace_period": DURATION,
                    "healthcheck": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "test": {"type": "array", "items": TEXT, "minItems": 2},
                            "interval": DURATION,
                            "timeout": DURATION,
                            "start_period": DURATION,
                            "retries": {"type": "integer", "minimum": 1},
                        },
                    },
                },
            },
        },
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def service(compose):
    return compose["services"]["neo4j"]


@pytest.fixture(scope="module")
def settings(service):
    """The settings the image makes of the variables: `_` is a dot, `__` an underscore."""
    return {
        name.removeprefix("NEO4J_").replace("_", ".").replace("..", "_"): value
        for name, value in service["environment"].items()
        if name != "NEO4J_AUTH"
    }


def test_the_file_holds_keys_that_compose_knows(compose):
    jsonschema.Draft202012Validator(SCHEMA).validate(compose)


def test_the_container_runs_the_same_neo4j_as_the_local_server(service):
    assert service["image"] == f"neo4j:{releases.VERSION}"


def test_ports_are_bound_to_the_loopback_address(service):
    assert service["ports"] == ["127.0.0.1:7474:7474", "127.0.0.1:7687:7687"]


def test_the_password_must_come_from_outside(service):
    assert re.fullmatch(
        r"neo4j/\$\{NEO4J_PASSWORD:\?[^{}]+\}", service["environment"]["NEO4J_AUTH"]
    )
    assert "env_file" not in service


def test_the_settings_are_those_of_the_local_server(settings):
    text = local_settings.settings(releases.LATEST, 0, local_settings.Options())
    local = dict(line.split("=", 1) for line in text.splitlines())
    differing = re.compile(
        r"server\.(default_listen|bolt|http|https)"  # the container listens, the host binds
        r"|internal\.dbms\.bolt"  # how fast it stops
    )
    wanted = {name: value for name, value in local.items() if not differing.match(name)}
    wanted["server.memory.heap.initial_size"] = "${CNTGRAPH_HEAP:-1g}"  # there Java is told
    wanted["server.memory.heap.max_size"] = "${CNTGRAPH_HEAP:-1g}"
    wanted["server.memory.pagecache.size"] = "${CNTGRAPH_PAGE_CACHE:-512m}"
    assert settings == wanted


def test_the_data_outlives_the_container(compose, service):
    (mounted,) = service["volumes"]
    volume, folder = mounted.split(":")
    assert folder == "/data"
    assert volume in compose["volumes"]


def test_health_is_asked_with_what_the_image_has(service):
    assert service["healthcheck"]["test"][:2] == ["CMD", "wget"]
    assert service["healthcheck"]["test"][-1] == "http://127.0.0.1:7474"


def test_the_readme_names_the_ports_and_the_variable_of_the_file(service):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "NEO4J_PASSWORD=" in readme
    for port in service["ports"]:
        assert port.rpartition(":")[0] in readme


def test_the_readme_sets_the_memory_that_the_plan_says(settings):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    planned = local_settings.Options.holding(3_000_000_000)
    assert f"for 3 GB, `--heap {planned.heap} --page-cache {planned.page_cache}`" in readme
    names = dict(re.findall(r"(CNTGRAPH_\w+)=(\S+)", readme))
    assert names == {"CNTGRAPH_HEAP": planned.heap, "CNTGRAPH_PAGE_CACHE": planned.page_cache}
    read = {re.search(r"\$\{(\w+):-", value)[1] for value in settings.values() if "$" in value}
    assert read == set(names)
    assert local_settings.Options.holding(400_000_000) == local_settings.Options()


def test_graph_data_science_is_there_only_when_asked_for(compose, service):
    other = compose["services"]["gds"]
    assert other["profiles"] == ["gds"]
    assert "profiles" not in service
    assert "NEO4J_PLUGINS" not in service["environment"]
    differing = {
        "NEO4J_PLUGINS": '["graph-data-science"]',
        "NEO4J_dbms_security_procedures_allowlist": "db.*,dbms.*,gds.*",
        "NEO4J_dbms_security_procedures_unrestricted": "gds.util.asNode",
    }
    assert other["environment"] == service["environment"] | differing
    same = {"environment", "profiles"}
    assert {k: v for k, v in other.items() if k not in same} == {
        k: v for k, v in service.items() if k not in same
    }
