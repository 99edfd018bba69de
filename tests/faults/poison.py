"""Records that are no valid runs: one of every kind that a publisher has been seen or feared to make."""

import orjson

DEPTH = 20_000


def poison(number: int, run: str, limit: int) -> bytes | None:
    """Make the poison of a number's kind; numbers go through all kinds.

    Args:
        number: Which kind, modulo KINDS.
        run: A run id, so that every record differs where its kind allows it.
        limit: The largest event that is accepted, in bytes.
    """
    kinds = [*map(orjson.dumps, _broken_fields(run)), *_broken_bytes(run, limit)]
    return kinds[number % len(kinds)]


def _broken_fields(run: str) -> list[dict[str, object]]:
    whole: dict[str, object] = {"agent_run_id": run, "agent_count": 2, "success": True}
    return [
        {"agent_count": 2, "project": run},
        *(
            whole | wrong
            for wrong in (
                {"agent_run_id": ""},
                {"agent_run_id": run + "x" * 256},
                {"agent_run_id": 17},
                {"agent_count": 0},
                {"agent_count": -3},
                {"agent_count": 2.5},
                {"agent_count": "three"},
                {"agent_count": True},
                {"success": "yes"},
                {"quality_score": 1.5},
                {"quality_score": -0.1},
                {"time_to_complete": 0},
                {"time_to_complete": -1.0},
                {"total_cost": -0.01},
                {"task_complexity": 1.01},
                {"task_complexity": "unheard of"},
                {"model_size_category": "gigantic"},
                {"completed_at": "2026-01-01T00:00:00"},
                {"completed_at": "yesterday"},
                {"completed_at": "9999-12-31T00:00:00Z"},
                {"schema_version": 2},
                {"revision": -1},
                {"revision": 70_000},
                {"project_characteristics": {"nested": {"a": 1}}},
                {"project_characteristics": {str(one): one for one in range(65)}},
            )
        ),
    ]


def _broken_bytes(run: str, limit: int) -> list[bytes | None]:
    head = f'{{"agent_run_id":"{run}"'.encode()
    return [
        None,
        b"",
        b"\x00\x01\x02",
        b"not JSON",
        b"[]",
        b"null",
        b"17",
        head,
        head + b"}}",
        head + b',"quality_score":NaN}',
        head + b',"total_cost":1e999}',
        head + b',"project":"\xff\xfe"}',
        b'{"agent_run_id":"\\ud800"}',
        head + b',"unknown":' + b"[" * DEPTH + b"]" * DEPTH + b"}",
        head + b',"unknown":1' + b"0" * 5000 + b"}",
        head + b',"project_characteristics":{"long":"' + b"x" * limit + b'"}}',
    ]


KINDS = len(_broken_fields("")) + len(_broken_bytes("", 0))
