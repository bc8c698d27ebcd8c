"""Columns of ids: what they name, joined, taken, and after their table has changed."""

from __future__ import annotations

import numpy as np

from titans_stream.engine.series import SeriesTable
from titans_stream.ids import Ids, IdTable, joined, taken


def test_a_column_is_the_ids_that_it_was_made_of() -> None:
    table = IdTable()
    column = table.column([table.code(name) for name in "abac"])
    assert list(column) == ["a", "b", "a", "c"]
    assert (len(column), column[1], column[-1]) == (4, "b", "c")
    assert column[1:3] == ["b", "a"]
    assert taken(column, np.array([3, 0])) == ["c", "a"]
    assert taken(["x", "y"], np.array([1])) == ["y"]
    table.clear()
    assert table.code("z") == 0
    assert list(column) == ["a", "b", "a", "c"], "a column keeps its table"


def test_columns_join_whether_they_share_a_table_or_not() -> None:
    one, other = ["a", "b"], ["c"]
    left, right = Ids(np.array([1, 0]), one), Ids(np.array([1]), one)
    both = joined([left, right])
    assert isinstance(both, Ids)
    assert both == ["b", "a", "b"]
    assert joined([left, Ids(np.array([0]), other), ["d"]]) == ["b", "a", "c", "d"]
    assert joined([]) == []


def known(table: SeriesTable, names: list[str], partition: int) -> list[int]:
    codes = IdTable()
    column = codes.column([codes.code(name) for name in names])
    partitions = np.full(len(names), partition, np.int32)
    found = table.uids(column, partitions).tolist()
    assert table.uids(names, partitions).tolist() == found
    assert table.uids(column, partitions).tolist() == found
    return found


def test_codes_and_names_lead_to_the_same_series() -> None:
    table = SeriesTable(lambda partition, uids, names: None)
    assert known(table, ["a", "b", "a"], 0) == [0, 1, 0]
    assert known(table, ["b", "c"], 1) == [2, 3]
    assert table.on_two_partitions == 1


def test_a_code_leads_to_another_series_once_its_own_is_forgotten() -> None:
    table, codes = SeriesTable(lambda partition, uids, names: None), IdTable()
    a, b = codes.code("a"), codes.code("b")
    zero = np.zeros(2, np.int32)
    assert table.uids(codes.column([a, b]), zero).tolist() == [0, 1]
    named = table.column(np.array([0, 1]))
    table.remove(0, ["a"])
    codes.code("c")
    assert table.uids(codes.column([2, b]), zero).tolist() == [0, 1], "the uid is given out again"
    assert table.uids(codes.column([a, b]), zero).tolist() == [2, 1]
    assert list(named) == ["a", "b"], "a column of before names what it did"
    assert table.names(np.array([0, 1, 2])) == ["c", "b", "a"]
    mixed = table.uids(codes.column([a, a]), np.array([0, 1], np.int32)).tolist()
    assert mixed == [2, 3]
    assert [table.partition(uid) for uid in mixed] == [0, 1]
