"""Least privilege in deploy/: users of ClickHouse, containers, and where secrets come from."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from models.settings import Settings
from streams.adhoc import LIMITS, ROWS, SECONDS
from streams.clickhouse import query, schema_statements

ROOT = Path(__file__).parents[2]
USERS = ET.parse(ROOT / "deploy" / "clickhouse-users.xml").getroot()  # noqa: S314 - our own file
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
MADE = re.compile(r"CREATE (TABLE IF NOT EXISTS|OR REPLACE VIEW) scaling\.(\w+)")


def grants(user: str) -> list[str]:
    """List what a user is granted."""
    return [query.text or "" for query in USERS.findall(f"users/{user}/grants/query")]


def test_every_user_has_a_password_from_the_environment_and_grants_of_its_own() -> None:
    """No password is in the file; nobody has rights beyond the archive's database, and none to hand on."""
    users = [user.tag for user in USERS.find("users") or [] if user.tag != "default"]
    assert users == ["scaling_schema", "scaling_archive", "scaling_audit", "scaling_analyst"]
    for user in users:
        password = USERS.find(f"users/{user}/password")
        assert password is not None
        assert password.get("from_env")
        assert not password.text
        for grant in grants(user):
            assert re.search(r" ON (scaling\.(\*|\w+)|scaling_schema)$", grant)
            assert not re.search(r"\bALL\b|GRANT OPTION|SOURCES|ACCESS MANAGEMENT|SYSTEM", grant)


def test_the_archive_inserts_the_audit_reads_and_people_see_views_alone() -> None:
    """Each has what its work needs: the analyst every view of the schema and no table."""
    made = [MADE.search(statement) for statement in schema_statements("scaling")]
    views = {found[2] for found in made if found is not None and "VIEW" in found[1]}
    assert grants("scaling_archive") == ["GRANT INSERT, SHOW COLUMNS ON scaling.*"]
    assert grants("scaling_audit") == ["GRANT SELECT, SHOW COLUMNS ON scaling.*"]
    assert {grant.rpartition(".")[2] for grant in grants("scaling_analyst")} == views
    assert all(grant.startswith("GRANT SELECT, SHOW COLUMNS ON ") for grant in grants("scaling_analyst"))


def test_the_server_leaves_room_on_its_disk() -> None:
    """Its inserts and merges stop before a write can fail in its middle."""
    server = ET.parse(ROOT / "deploy" / "clickhouse-server.xml").getroot()  # noqa: S314 - our own file
    assert int(server.findtext("storage_configuration/disks/default/keep_free_space_bytes") or 0) >= 1024**3


def test_people_are_held_to_the_limits_of_scaling_query() -> None:
    """Whoever comes with another client than ours has the same bounds, read-only, and a quota."""
    profile = USERS.find("profiles/scaling_analyst")
    assert profile is not None
    bounds = {setting.tag: setting.text for setting in profile}
    wanted = {"max_execution_time": SECONDS, "max_result_rows": ROWS} | {
        name: value for name, value in LIMITS.items() if "ast" not in name
    }
    assert {name: bounds[name] for name in wanted} == {name: str(value) for name, value in wanted.items()}
    assert bounds["readonly"] == "1"
    assert USERS.findtext("quotas/scaling_analyst/interval/queries") == "2000"


@pytest.mark.stack
def test_the_server_reads_grants_and_settings_as_they_are_meant(archive: Settings) -> None:
    """Every grant is ClickHouse's grammar, every setting of a profile one that it knows."""
    for user in ("scaling_schema", "scaling_archive", "scaling_audit", "scaling_analyst"):
        for grant in grants(user):
            found = query(archive, "SELECT formatQuerySingleLine({sql:String})", parameters={"sql": f"{grant} TO u"})
            assert str(found.rows[0][0]).startswith("GRANT ")
    names = sorted({setting.tag for profile in USERS.find("profiles") or [] for setting in profile})
    known = query(
        archive, "SELECT name FROM system.settings WHERE name IN {names:Array(String)}", parameters={"names": names}
    )
    assert sorted(name for (name,) in known.rows) == names


@pytest.mark.stack
def test_views_are_made_with_the_rights_of_their_maker(archive: Settings) -> None:
    """The schema's profile says so, and the server, which has both settings, heeds it."""
    assert USERS.findtext("profiles/scaling_schema/default_normal_view_sql_security") == "DEFINER"
    setting = "ignore_empty_sql_security_in_create_view_query"
    assert ET.parse(ROOT / "deploy" / "clickhouse-server.xml").getroot().findtext(setting) == "false"  # noqa: S314 - ours
    known = query(
        archive, "SELECT count() FROM system.server_settings WHERE name = {n:String}", parameters={"n": setting}
    )
    assert known.rows == [(1,)]


def test_containers_have_no_rights_of_the_machine() -> None:
    """Every container drops all capabilities and cannot regain any; workers cannot write to their own disk."""
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service), name
    assert SERVICES["clickhouse"]["user"] == "101:101"
    for name in SERVICES.keys() - {"kafka", "clickhouse"}:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["tmpfs"] == ["/tmp"]  # noqa: S108 - inside the container


def test_secrets_come_from_the_environment() -> None:
    """Whatever is a password or a secret is taken from a variable, and none has a default."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET", variable):
                assert re.fullmatch(r"\$\{\w+(:-\$\{\w+)?:\?[^}]+\}{1,2}", value), (name, variable)


def test_each_worker_is_a_user_of_its_own() -> None:
    """Only the workers that need ClickHouse have a user there, and its password is in no other container."""
    users = {
        name: service["environment"]["SCALING_CLICKHOUSE_USER"]
        for name, service in SERVICES.items()
        if "SCALING_CLICKHOUSE_USER" in service["environment"]
    }
    assert users == {"init": "scaling_schema", "archive": "scaling_archive", "audit": "scaling_audit"}
