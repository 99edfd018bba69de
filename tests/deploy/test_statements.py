from pathlib import Path

import pytest

from deploy.statements import answers, file_access, output_format, split_insert


def test_an_insert_ends_at_its_format_and_binary_data_follow_untouched() -> None:
    """The bytes behind the line break after the format's name are the data, whatever they are."""
    insert = split_insert(b"INSERT INTO t (a, b) FORMAT Native\n\x01\x02 FORMAT '\xff\n")
    assert insert is not None
    assert (insert.head, insert.settings) == ("INSERT INTO t (a, b)", "")
    assert insert.format == "Native"
    assert insert.data == b"\x01\x02 FORMAT '\xff\n"


def test_data_may_follow_on_the_same_line() -> None:
    """Without a line break the data start after the blanks."""
    insert = split_insert(b'insert into t format JSONEachRow {"x": 1}')
    assert insert is not None
    assert insert.data == b'{"x": 1}'


def test_only_one_line_break_belongs_to_the_statement() -> None:
    """A second line break is data: a binary block may begin with its byte."""
    insert = split_insert(b"INSERT INTO t FORMAT Native\r\n\n\n")
    assert insert is not None
    assert insert.data == b"\n\n"


@pytest.mark.parametrize(
    "head",
    [
        "INSERT INTO t (`format`, \"FORMAT\") SETTINGS note = 'FORMAT CSV'",
        "/* FORMAT CSV */ INSERT INTO t -- FORMAT CSV\n (a)",
        "INSERT INTO t (format, b)",
        r"INSERT INTO t SETTINGS a = 'it\'s FORMAT CSV'",
    ],
)
def test_the_word_format_in_quotes_comments_and_column_lists_is_no_clause(head: str) -> None:
    """Only a FORMAT outside quotes, comments and parentheses ends the statement."""
    insert = split_insert(f"{head} FORMAT Native\nDATA".encode())
    assert insert is not None
    assert (f"{insert.head} {insert.settings}".strip(), insert.format, insert.data) == (head, "Native", b"DATA")


def test_an_insert_reads_its_data_from_a_file() -> None:
    """The file stands between the columns and the settings, its name quoted."""
    insert = split_insert(b"INSERT INTO t (a) SETTINGS x = 'FORMAT' FORMAT CSV\n1")
    assert insert is not None
    assert insert.from_file(Path("/it's")).split("\n") == [
        "INSERT INTO t (a)",
        r"FROM INFILE '/it\'s' COMPRESSION 'none'",
        "SETTINGS x = 'FORMAT'",
        "FORMAT CSV",
    ]


@pytest.mark.parametrize(
    "text",
    ["SELECT 1 FORMAT CSV", "INSERT INTO t VALUES (1)", "INSERT INTO t SELECT 1", "", "CREATE TABLE t (a Int8)"],
)
def test_statements_without_data_of_their_own_are_left_whole(text: str) -> None:
    """Inline values, INSERT ... SELECT and everything else go to the engine as they are."""
    assert split_insert(text.encode()) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1\n FORMAT Native", "Native"),
        ("SELECT 1 format JSON ;", "JSON"),
        ("SELECT 1 FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        ("SELECT format FROM t", None),
        ("SELECT 1", None),
    ],
)
def test_the_format_of_an_answer_is_read_from_the_end(text: str, expected: str | None) -> None:
    """The FORMAT clause is the last of a statement, before SETTINGS at the most."""
    assert output_format(text.encode()) == expected


def test_statements_that_answer_are_told_from_those_that_do_not() -> None:
    """Clients take an empty answer with a format as a result, and one without as done."""
    assert all(answers(text) for text in (b"SELECT 1", b"-- why\nWITH 1 AS x SELECT x", b"(SELECT 1)", b"show tables"))
    assert not any(answers(text) for text in (b"CREATE TABLE t", b"INSERT INTO t VALUES (1)", b"SET a = 1", b""))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"SELECT 1 INTO OUTFILE '/etc/motd'", "INTO OUTFILE"),
        (b"select 1 into/**/outfile 'x' format CSV", "INTO OUTFILE"),
        (b"SELECT file('/etc/hostname')", "file()"),
        (b"SELECT `FILE` ('/etc/hostname')", "file()"),
        (b"SELECT * APPLY(file) FROM t", "file()"),
        (b"SELECT * APPLY `file` FROM t", "file()"),
        (b"SELECT arrayMap( /* x */ file, ['/etc/hostname'])", "file()"),
        (b"SELECT 'into outfile', file FROM t -- outfile", None),
        (b"INSERT INTO t FORMAT CSV\ninto outfile,file(1)", None),
    ],
)
def test_statements_that_reach_files_are_known(text: bytes, word: str | None) -> None:
    """Words that write or read files are found outside of quotes, comments and data, and nowhere else."""
    assert file_access(text, readonly=True) == word


def test_an_import_through_the_service_may_use_its_own_file() -> None:
    """Without readonly, reading by file() stays possible; writing by OUTFILE does not."""
    assert file_access(b"SELECT file('x')", readonly=False) is None
    assert file_access(b"SELECT 1 INTO OUTFILE 'x'", readonly=False) == "INTO OUTFILE"
